//! Backends that refuse, hang, break off and lie: each in the caller's own words, nothing leaked, and the next request is served.

mod after_head;
mod before_head;
mod connections;
mod healthy_other;
mod kills;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward::clock::Clock;
use tokio::net::TcpStream;

use crate::harness::apis::{self, Api};
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::{self, RawBackend};
use crate::harness::{Answer, Client, Proxy};

const TPM: u64 = 1_000_000;

/// Requests a minute of the key.
const RPM: u64 = 1_000;

/// What a sick backend does with a connection.
type Fault = fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A backend that has a fault until it is healed.
struct Sick {
    backend: RawBackend,
    is_well: Arc<AtomicBool>,
}

impl Sick {
    fn with(fault: Fault) -> Self {
        let is_well = Arc::new(AtomicBool::new(false));
        let well = Arc::clone(&is_well);
        let backend = RawBackend::start(move |stream, _| {
            let well = Arc::clone(&well);
            async move { if well.load(Ordering::SeqCst) { serve(stream).await } else { fault(stream).await } }
        });
        Self { backend, is_well }
    }

    fn heal(&self) {
        self.is_well.store(true, Ordering::SeqCst);
    }
}

/// Answers every request with JSON that all four APIs' meters read.
async fn serve(mut stream: TcpStream) {
    const JSON: &str = "{\"usage\":{\"input_tokens\":11,\"output_tokens\":7},\"usageMetadata\":{\"promptTokenCount\":11,\"candidatesTokenCount\":7}}";
    while raw_backend::read_request(&mut stream).await {
        let length = JSON.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        raw_backend::write(&mut stream, head + JSON).await;
    }
}

/// A proxy with a key that has every limit, in front of these addresses.
fn proxy(addresses: &[std::net::SocketAddr], upstream: &str) -> Proxy {
    let text = apis::config(addresses, "", upstream, "");
    let limits = format!("quota_limit = 1000000\ntpm_limit = {TPM}\nrpm_limit = {RPM}\nmax_parallel = 1");
    Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, &limits)]), Clock::system())
}

/// Nothing is held, and so many units were used.
async fn used(proxy: &Proxy) -> u64 {
    proxy.quiet().await;
    let entry = proxy.entry(ALICE);
    let limits = entry.limits();
    assert_eq!((limits.quota_committed(), limits.in_use()), (limits.quota_used(), 0), "a reservation leaked");
    assert_eq!(proxy.plane.body_budget.held(), 0);
    limits.quota_used()
}

/// Tokens of the minute that are left.
fn tokens_left(proxy: &Proxy) -> u64 {
    let entry = proxy.entry(ALICE);
    let standing = entry.limits().standing(&entry.policy(), proxy.plane.clock.now());
    standing.tokens.expect("a limit").remaining
}

/// Requests of the minute that are left.
fn requests_left(proxy: &Proxy) -> u64 {
    let entry = proxy.entry(ALICE);
    let standing = entry.limits().standing(&entry.policy(), proxy.plane.clock.now());
    standing.requests.expect("a limit").remaining
}

/// The next request of each API is served, and charged.
async fn serves_again(proxy: &Proxy) {
    for api in apis::ALL {
        let before = used(proxy).await;
        let answer = Client::once(proxy.address, &api.call(ALICE, "")).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{}: {}", api.name, answer.text());
        assert_eq!(used(proxy).await, before + apis::UNITS);
    }
}

/// Our own answer to a fault: status and code in the API's words, with its request id.
fn is_told(api: &Api, answer: &Answer, code: &str) {
    let status = match (code, api.name) {
        ("upstream_timeout", _) => 504,
        (_, "anthropic") => 529,
        (_, "gemini") => 503,
        _ => 502,
    };
    assert_eq!(answer.status, status, "{} {code}: {}", api.name, answer.text());
    assert_eq!(api.error_code(&answer.json()), code, "{}: {}", api.name, answer.text());
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    assert!(answer.is_whole && answer.header(api.request_id).is_some());
    assert!(!answer.text().contains("127.0.0.1"), "no address of a backend is told: {}", answer.text());
}
