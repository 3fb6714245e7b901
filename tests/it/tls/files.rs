//! Files that change while the program runs, and what `keyward check` says of them.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::harness::certificates::write;
use crate::harness::program::{PATIENCE, Running, Stopwatch, command};

const CONFIG: &str = "\
keys_file = \"keys.toml\"
[server]
listen = \"127.0.0.1:0\"
tls = { cert = \"live/proxy.pem\", key = \"live/proxy.key\" }
[admin]
listen = \"127.0.0.1:0\"
tokens = [{ name = \"ops\", token = \"operator-0123456789\", role = \"write\" }]
[[upstreams]]
name = \"built-in\"
dialect = \"sandbox\"
models = [\"*\"]
";

fn keys() -> String {
    Proxy::keys_of(&[("alice", ALICE, "")])
}

/// The certificate that a new client is shown; it trusts whoever it is.
async fn shown(authorities: &[&Authority], address: SocketAddr) -> Option<Vec<u8>> {
    for authority in authorities {
        if let Ok(stream) = shake(&authority.client(&[], None), "proxy.example", address).await {
            return stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
        }
    }
    None
}

async fn until_shown(authority: &Authority, address: SocketAddr, issued: &Issued) {
    let began = Stopwatch::start();
    while shown(&[authority], address).await.as_deref() != Some(&issued.der()[..]) {
        assert!(began.elapsed() < PATIENCE, "the new certificate is not shown");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ready(admin: SocketAddr) -> String {
    Client::once(admin, b"GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await.text()
}

async fn until(is_so: impl AsyncFn() -> bool) {
    let began = Stopwatch::start();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "it never becomes so");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn metrics(admin: SocketAddr) -> String {
    Client::once(admin, b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await.text()
}

/// A pair of files in a folder of its own.
fn lay(home: &Path, folder: &str, issued: &Issued) {
    std::fs::create_dir_all(home.join(folder)).expect("a folder");
    issued.write(&home.join(folder), "proxy");
}

async fn start(first: &Issued) -> Running {
    Running::start(CONFIG, |home| {
        write(home, "keys.toml", &keys());
        lay(home, "one", first);
        std::os::unix::fs::symlink("one", home.join("live")).expect("a link");
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pair_is_shown_and_a_bad_one_is_not() {
    let authority = Authority::new();
    let (first, second, third) =
        (authority.issue(&["proxy.example"]), authority.issue(&["proxy.example"]), authority.issue(&["proxy.example"]));
    let program = start(&first).await;
    until_shown(&authority, program.data, &first).await;
    let mut before = shake(&authority.client(&[], None), "proxy.example", program.data).await.expect("a handshake");
    // A mounted folder is swapped below its link.
    lay(program.home.path(), "two", &second);
    std::os::unix::fs::symlink("two", program.path("new")).expect("a link");
    std::fs::rename(program.path("new"), program.path("live")).expect("swapped");
    until_shown(&authority, program.data, &second).await;
    assert!(get(&mut before).await.starts_with("HTTP/1.1 200"), "who was there stays");
    // A key that is not the certificate's: the old pair goes on, and it is said why.
    write(&program.path("two"), "proxy.key", &third.key);
    program.until_log(|log| log.contains("holds the key of another certificate")).await;
    assert_eq!(shown(&[&authority], program.data).await.as_deref(), Some(&second.der()[..]));
    let log = program.log();
    assert!(
        log.contains("live/proxy.key") && log.contains("keyward.toml:4") && log.contains("server.tls.key"),
        "{log}"
    );
    // Logged, then shown.
    until(async || ready(program.admin).await.contains("another certificate")).await;
    until(async || metrics(program.admin).await.contains("keyward_config_in_force 0")).await;
    // With the certificate that belongs to it, both are good again.
    write(&program.path("two"), "proxy.pem", &third.cert);
    until_shown(&authority, program.data, &third).await;
    until(async || metrics(program.admin).await.contains("keyward_config_in_force 1")).await;
    let text = metrics(program.admin).await;
    assert!(text.contains("keyward_tls_certificate_expires_timestamp_seconds{listener=\"data\"} 2208988800"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_elsewhere_does_not_keep_a_renewed_certificate_out() {
    let authority = Authority::new();
    let (first, second) = (authority.issue(&["proxy.example"]), authority.issue(&["proxy.example"]));
    let program = start(&first).await;
    program.write("keys.toml", "[[keys]]\nname = 1\n");
    program.until_log(|log| log.contains("reload refused")).await;
    second.write(&program.path("one"), "proxy");
    until_shown(&authority, program.data, &second).await;
    until(async || metrics(program.admin).await.contains("keyward_config_in_force 0")).await; // the key file is still bad
    program.write("keys.toml", &keys());
    until(async || metrics(program.admin).await.contains("keyward_config_in_force 1")).await;
    assert_eq!(shown(&[&authority], program.data).await.as_deref(), Some(&second.der()[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_reads_them_again_and_sessions_outlive_a_reload_that_changes_nothing() {
    let authority = Authority::new();
    let first = authority.issue(&["proxy.example"]);
    let program = start(&first).await;
    let config = authority.client(&["http/1.1"], None);
    let kind = async || {
        let mut stream = shake(&config, "proxy.example", program.data).await.expect("a handshake");
        assert!(get(&mut stream).await.starts_with("HTTP/1.1 200"));
        stream.get_ref().1.handshake_kind()
    };
    assert_eq!(kind().await, Some(HandshakeKind::Full));
    program.signal("HUP");
    program.until_log(|log| log.contains("SIGHUP") && log.contains("configuration in force")).await;
    assert_eq!(kind().await, Some(HandshakeKind::Resumed));
    let other = Authority::new();
    let second = other.issue(&["proxy.example"]);
    second.write(&program.path("one"), "proxy");
    program.signal("HUP");
    until_shown(&other, program.data, &second).await;
    assert!(
        shown(&[&authority], program.data).await.is_none(),
        "the old one is shown to nobody, not even in a session"
    );
}

#[test]
fn check_says_what_a_start_would() {
    let home = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let (good, other, old) = (authority.issue(&["a"]), authority.issue(&["a"]), authority.issue_until(&["a"], 2021));
    write(home.path(), "keyward.toml", CONFIG);
    write(home.path(), "keys.toml", &keys());
    lay(home.path(), "live", &good);
    let check = || {
        let output = command(home.path(), &["check", "--config", "keyward.toml"]).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check().0, Some(0), "{}", check().1);
    write(&home.path().join("live"), "proxy.key", &other.key);
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("server.tls.key"), "{said}");
    assert!(said.contains("live/proxy.key") && said.contains("holds the key of another certificate"), "{said}");
    let serve = command(home.path(), &["serve", "--config", "keyward.toml"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&serve.stderr);
    assert!(serve.status.code() == Some(2) && said.contains("another certificate"), "{said}");
    old.write(&home.path().join("live"), "proxy");
    let key = home.path().join("live/proxy.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("changed");
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("has expired") && said.contains("can be read by everybody"), "{said}");
}
