//! Where connections come from: paths, a service manager's sockets, and proxies in front that say whose they are.

mod activation;
mod proxy_protocol;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::program::{Running, command};
use crate::harness::{Client, Proxy, chat, get, post};

const SECRET: &str = "listeners-secret-01";

/// One request over a path; the whole connection as text.
async fn over(path: &std::path::Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.expect("a connection");
    let text = String::from_utf8_lossy(request).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_operators_come_by_paths_and_count_as_this_machine() {
    let config = r#"
keys_file = "keys.toml"
[server]
listen = ["127.0.0.1:0", "unix:data.sock"]
socket_mode = "0620"
trusted_proxies = ["127.0.0.1"]
[admin]
listen = "unix:admin.sock"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;
    let here = Proxy::keys_of(&[
        ("here", SECRET, "allowed_ips = [\"127.0.0.1\"]"),
        ("there", "listeners-secret-02", "allowed_ips = [\"10.1.1.1\"]"),
    ]);
    let running = Running::start(config, |home| fs::write(home.join("keys.toml"), &here).expect("written")).await;
    let (data, admin) = (running.path("data.sock"), running.path("admin.sock"));
    let mode = |path: &std::path::Path| fs::metadata(path).expect("a socket").permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&admin)), (0o620, 0o600));
    let call = |secret: &str| post("/v1/chat/completions", secret, &chat("m", false));
    let answer = over(&data, &call(SECRET)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(over(&data, &call("listeners-secret-02")).await.starts_with("HTTP/1.1 403 "));
    // This machine is trusted here, so what it forwards is believed.
    let text = String::from_utf8(call("listeners-secret-02")).expect("text");
    let forwarded = text.replacen("\r\n", "\r\nx-forwarded-for: 10.1.1.1\r\n", 1);
    assert!(over(&data, forwarded.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let ready = over(&admin, b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("\"ready\""), "{ready}");
    assert_eq!(Client::once(running.data, &call(SECRET)).await.status, 200, "by its port too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_a_killed_program_left_is_taken_again_and_one_in_use_is_not() {
    let config = "[server]\nlisten = [\"127.0.0.1:0\", \"unix:data.sock\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
        [[upstreams]]\nname = \"s\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n";
    let mut running = Running::start(config, |_| {}).await;
    let other = config
        .replace("[admin]", "[storage]\nurl = \"sqlite:other/keyward.db\"\npepper = \"file:other/pepper\"\n[admin]");
    running.write("other.toml", &other);
    let refused = command(running.home.path(), &["serve", "--config", "other.toml"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("data.sock: another program listens there"), "{said}");
    running.kill();
    running.restart().await;
    let answer = over(&running.path("data.sock"), &get("/v1/key", "nobody's")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}
