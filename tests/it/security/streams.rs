//! Ten thousand streams that stand still: others are served, memory stays within bounds, and a drain ends them all, each charged once.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::program::{Running, command};
use crate::harness::{Client, Proxy, chat, post};

const SECRET: &str = "streams-secret-00001";
const STREAMS: usize = 10_000;
/// What one may hold of memory, bytes; more than twice what it does.
const BYTES_A_STREAM: u64 = 128 * 1024;

const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 2
max_connections = 20000
max_connections_per_client = 20000
drain_timeout = "1s"
[admin]
listen = "127.0.0.1:0"
[storage]
pepper = "file:pepper"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

/// As many streams as this machine has descriptors for: the program keeps two for each connection, and some for itself.
fn streams() -> usize {
    let most = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit { current: most, maximum: most };
    setrlimit(Resource::Nofile, raised).expect("up to what is allowed");
    most.map_or(STREAMS, |most| STREAMS.min(usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(1_200) / 2))
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

async fn metrics(running: &Running) -> String {
    Client::once(running.admin, b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_streams_and_a_drain_with_all_of_them() {
    let count = streams();
    let keys = Proxy::keys_of(&[("a", SECRET, "quota_limit = 1000000000")]);
    let mut running = Running::start(CONFIG, |home| fs::write(home.join("keys.toml"), keys).expect("written")).await;
    let before = resident(running.child.id());
    let mut standing = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Client::connect(running.data).await;
        client.send(&post("/v1/chat/completions", SECRET, &chat("sandbox-stall", true))).await;
        standing.push(client);
    }
    for client in &mut standing {
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
    }
    let text = metrics(&running).await;
    assert!(text.contains(&format!("keyward_requests_in_flight {count}\n")), "{text}");
    let each = resident(running.child.id()).saturating_sub(before) / count as u64;
    assert!(each < BYTES_A_STREAM, "{each} bytes a stream");
    let good = Client::once(running.data, &post("/v1/chat/completions", SECRET, &chat("sandbox", false))).await;
    assert_eq!(good.status, 200);
    running.signal("TERM");
    let status = running.ended_within(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0), "{}", running.log());
    for client in &mut standing {
        let rest = String::from_utf8_lossy(&client.remaining().await).into_owned();
        assert!(!rest.ends_with("0\r\n\r\n") || rest.contains("error"), "a cut stream looks whole: {rest}");
    }
    let verified = command(running.home.path(), &["ledger", "verify", "--config", "keyward.toml", "--json"]).output();
    let verified = verified.expect("the program");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let books = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(books.contains(&(count + 1).to_string()), "{} requests in the books: {books}", count + 1);
}
