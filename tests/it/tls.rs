//! TLS as clients and operators meet it: on a proxy in this process where a connection matters, on the real binary where files do.

mod files;
mod operators;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::harness::certificates::{Authority, Issued, shake};
use super::harness::h2::H2;
use super::harness::proxy::ALICE;
use super::harness::{self, Backend, Client, Proxy};
use keyward::clock::Clock;

const CHAT: &str = "/v1/chat/completions";
const USAGE: &str = r#"{"id":"1","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// A proxy under TLS, and who made its certificates.
struct House {
    authority: Authority,
    proxy: Proxy,
    _backend: Backend,
    _folder: TempDir,
}

impl House {
    /// With a certificate for `proxy.example`; `more` are further lines of `[server]`, in which `DIR` is the folder of the certificates.
    fn start(more: &str) -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
        let dir = folder.path().display().to_string();
        authority.issue(&["proxy.example"]).write(folder.path(), "proxy");
        authority.issue(&["*.other.example"]).write(folder.path(), "other");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("written");
        let backend = Backend::json(USAGE);
        let tls = format!(
            "tls = [{{ cert = \"{dir}/proxy.pem\", key = \"{dir}/proxy.key\" }}, {{ cert = \"{dir}/other.pem\", key = \"{dir}/other.key\" }}]\n{}",
            more.replace("DIR", &dir)
        );
        let config = Proxy::config_for(&backend, "").replacen("workers = 2", &format!("workers = 2\n{tls}"), 1);
        let proxy = Proxy::start(&config, &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system());
        Self { authority, proxy, _backend: backend, _folder: folder }
    }

    async fn shake(&self, alpn: &[&str]) -> TlsStream<TcpStream> {
        shake(&self.authority.client(alpn, None), "proxy.example", self.proxy.address).await.expect("a handshake")
    }
}

/// One GET of the models over HTTP/1.1, to its end.
async fn get(stream: &mut TlsStream<TcpStream>) -> String {
    let request =
        format!("GET /v1/models HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a clean end");
    answer
}

fn alpn(stream: &TlsStream<TcpStream>) -> Option<String> {
    stream.get_ref().1.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned())
}

/// How many handshakes came to nothing on the data listener, by the reason given.
fn failed(proxy: &Proxy, reason: &str) -> u64 {
    let metrics = proxy.metrics_text();
    let label = format!("keyward_tls_handshakes_failed_total{{listener=\"data\",reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&label)).map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_and_http_1_are_agreed_on() {
    let house = House::start("");
    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)] {
        let mut stream = house.shake(offered).await;
        assert_eq!(alpn(&stream).as_deref(), agreed, "{offered:?}");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        if agreed == Some("h2") {
            let mut client = H2::begin(stream, &[]).await;
            let stream = client.post(CHAT, ALICE, &harness::chat("m", false)).await;
            let got = client.answer(stream).await;
            assert_eq!((got.status(), got.text().as_str()), (200, USAGE));
        } else {
            assert!(get(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
        }
    }
    // Who agreed on HTTP/1.1 speaks it.
    let mut stream = house.shake(&["http/1.1"]).await;
    stream.write_all(harness::h2::PREFACE).await.expect("written");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let nothing = shake(&house.authority.client(&["spdy/3"], None), "proxy.example", house.proxy.address).await;
    assert!(nothing.is_err(), "there is nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_asked_for_picks_the_certificate() {
    let house = House::start("");
    let config = house.authority.client(&[], None);
    for host in ["proxy.example", "a.other.example"] {
        let mut stream = shake(&config, host, house.proxy.address).await.expect(host);
        assert!(get(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
    let stranger = shake(&config, "a.b.other.example", house.proxy.address).await;
    assert!(stranger.is_err(), "it is shown the first, which is not for that name");
}

/// A client like the house's, of one version of TLS.
fn of_version(house: &House, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let root = rustls::pki_types::pem::PemObject::from_pem_slice(house.authority.pem().as_bytes());
    roots.add(root.expect("one")).expect("one");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).expect("a version");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_version_is_the_operators_choice() {
    for (setting, is_old_spoken) in
        [("", true), ("tls_min_version = \"1.2\"", true), ("tls_min_version = \"1.3\"", false)]
    {
        let house = House::start(setting);
        for (version, is_spoken) in [(&rustls::version::TLS12, is_old_spoken), (&rustls::version::TLS13, true)] {
            let shaken = shake(&of_version(&house, version), "proxy.example", house.proxy.address).await;
            assert_eq!(shaken.is_ok(), is_spoken, "{setting}: {:?}", version.version);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_whichever_worker_serves_them() {
    let house = House::start("");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = of_version(&house, version);
        // Connections that stay open push the next ones to the other worker.
        let mut kept = Vec::new();
        for number in 0..6 {
            let mut stream = shake(&config, "proxy.example", house.proxy.address).await.expect("a handshake");
            // A ticket of TLS 1.3 comes with the first bytes.
            stream.write_all(&harness::get("/v1/models", ALICE)).await.expect("written");
            assert!(stream.read(&mut [0; 1024]).await.expect("an answer") > 0);
            let connection = stream.get_ref().1;
            assert_eq!(connection.protocol_version(), Some(version.version));
            let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(is_resumed, number > 0, "{:?}, connection {number}", version.version);
            kept.push(stream);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tls_or_too_old_is_refused_and_counted() {
    let house = House::start("");
    let mut plain = Client::connect(house.proxy.address).await;
    plain.send(&harness::get("/v1/models", ALICE)).await;
    let said = plain.remaining().await;
    assert!(!said.starts_with(b"HTTP/1.1 200") && said.len() < 64, "{:?}", String::from_utf8_lossy(&said));
    // A hello of TLS 1.1 as OpenSSL would send it: that version at most, one old suite.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x14, 1, 0]);
    let mut old = Client::connect(house.proxy.address).await;
    old.send(&hello).await;
    let said = old.remaining().await;
    assert_eq!(said.first(), Some(&21), "an alert, and nothing else: {said:?}");
    let mut garbage = Client::connect(house.proxy.address).await;
    garbage.send(&[0xff; 64]).await;
    garbage.remaining().await;
    // Counted when its connection is gone already.
    while failed(&house.proxy, "failed") < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(failed(&house.proxy, "failed"), 3);
    assert_eq!(alpn(&house.shake(&["h2"]).await).as_deref(), Some("h2"), "others are served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_has_the_time_of_a_head_and_its_place_under_the_caps() {
    let house = House::start("header_timeout = \"300ms\"\nmax_connections_per_client = 3");
    let mut silent = Vec::new();
    for begin in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1]] {
        let mut client = Client::connect(house.proxy.address).await;
        client.send(begin).await;
        silent.push(client);
    }
    while house.proxy.plane.metrics.connections.get() < 3 {
        tokio::task::yield_now().await;
    }
    let mut fourth = Client::connect(house.proxy.address).await;
    assert!(fourth.is_closed().await, "a handshake under way counts");
    for mut client in silent {
        client.remaining().await;
    }
    while failed(&house.proxy, "late") < 3 {
        tokio::task::yield_now().await;
    }
    let mut stream = house.shake(&[]).await;
    assert!(get(&mut stream).await.starts_with("HTTP/1.1 200"));
}

/// Whether a client that shows `issued`, if anything, gets an answer.
async fn gets_in(authority: &Authority, address: SocketAddr, issued: Option<&Issued>) -> bool {
    let config = authority.client(&["http/1.1"], issued);
    let Ok(mut stream) = shake(&config, "proxy.example", address).await else { return false };
    // With TLS 1.3 a client learns only afterwards that its certificate was not taken.
    let sent = stream.write_all(&harness::get("/v1/models", ALICE)).await;
    let mut start = [0; 12];
    sent.is_ok() && stream.read_exact(&mut start).await.is_ok() && start.starts_with(b"HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_a_certificate_where_they_have_to() {
    let stranger = Authority::new();
    for (auth, without) in [("client_auth = \"required\"", false), ("", false), ("client_auth = \"optional\"", true)] {
        let house = House::start(&format!("client_ca = \"DIR/ca.pem\"\n{auth}"));
        let (good, bad) = (house.authority.issue(&["client"]), stranger.issue(&["client"]));
        let old = house.authority.issue_until(&["client"], 2021);
        assert!(gets_in(&house.authority, house.proxy.address, Some(&good)).await, "{auth}");
        assert!(!gets_in(&house.authority, house.proxy.address, Some(&bad)).await, "{auth}: of another authority");
        assert!(!gets_in(&house.authority, house.proxy.address, Some(&old)).await, "{auth}: expired");
        assert_eq!(gets_in(&house.authority, house.proxy.address, None).await, without, "{auth}: without");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_answer_is_visible_and_what_came_before_is_there() {
    let part = "x".repeat(200_000);
    let body = part.clone();
    let backend = Backend::start(move |_, mut reply| {
        let body = body.clone();
        async move {
            reply
                .raw(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999999\r\n\r\n{body}"
                ))
                .await;
            reply.cut();
            reply
        }
    });
    let house = House::start("");
    let live = house.proxy.live();
    let config = Proxy::config_for(&backend, "");
    let config = keyward::config::parse(&config, std::path::Path::new("keyward.toml"), &|_| None).expect("good");
    let routes = keyward::app::reload::live(&config, None).routes;
    house.proxy.plane.live.store(Arc::new(keyward::proxy::Live {
        routes,
        settings: live.settings.clone(),
        limits: live.limits,
        prices: live.prices.clone(),
    }));
    let mut stream = house.shake(&["http/1.1"]).await;
    stream.write_all(&harness::post(CHAT, ALICE, &harness::chat("m", false))).await.expect("written");
    let mut answer = Vec::new();
    let mut chunk = [0; 8 * 1024];
    let end = loop {
        // Slowly, so that most of it waits on the other side.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        match stream.read(&mut chunk).await {
            Ok(0) => break "clean",
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(_) => break "broken",
        }
    };
    let answer = String::from_utf8_lossy(&answer);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert_eq!((end, body.len()), ("broken", part.len()));
}
