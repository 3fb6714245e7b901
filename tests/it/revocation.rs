//! A key that is disabled, removed, expired or rotated away ends what runs on it, within a second and visibly (POLICY 6).

mod elsewhere;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use keyward::clock::{Clock, NS_PER_SECOND, Now};
use keyward::keys::change::KeyChange;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::harness::apis::{self, Api};
use crate::harness::log::{self, Line};
use crate::harness::proxy::ALICE;
use crate::harness::{Answer, Backend, Client, Proxy, Reply, Seen};

/// 2027-01-15T08:00:00Z
const START: Now = Now { monotonic_ns: 60 * NS_PER_SECOND, unix_ms: 1_800_000_000_000 };
const OLD: &str = "alice-old-secret-0000";

/// The promise.
const SOON: Duration = Duration::from_secs(1);

/// A backend that sends the first event of each stream and then one more whenever it is let; it notes when it is cancelled.
struct Gated {
    backend: Backend,
    go: Arc<Semaphore>,
    gone: Arc<Notify>,
}

impl Gated {
    fn start() -> Self {
        Self::cutting(None)
    }

    /// Cuts the first event after so many bytes, and sends the rest of it when it is let.
    fn cutting(at: Option<usize>) -> Self {
        let (go, gone) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
        let (gate, note) = (Arc::clone(&go), Arc::clone(&gone));
        let backend = Backend::start(move |seen: Seen, mut reply: Reply| {
            let (gate, note) = (Arc::clone(&gate), Arc::clone(&note));
            async move {
                let api = apis::ALL.into_iter().find(|api| seen.path() == api.stream_path).expect("a stream");
                let mut pieces = api.events.to_vec();
                if let Some(at) = at {
                    let (start, rest) = pieces[0].split_at(at);
                    pieces.splice(..1, [start, rest]);
                }
                reply.stream_head().await;
                for (number, piece) in pieces.iter().enumerate() {
                    if number > 0 {
                        tokio::select! {
                            permit = gate.acquire() => permit.expect("open").forget(),
                            () = reply.until_gone() => {
                                note.notify_one();
                                return reply;
                            }
                        }
                    }
                    reply.chunk(piece.as_bytes()).await;
                }
                reply.end().await;
                reply
            }
        });
        Self { backend, go, gone }
    }

    /// Lets everything that waits go on to its end.
    fn let_go(&self) {
        self.go.add_permits(1_000);
    }

    async fn is_cancelled(&self) {
        timeout(SOON, self.gone.notified()).await.expect("the upstream request is cancelled");
    }
}

fn start(gated: &Gated, lines: &str, server: &str) -> (Proxy, Clock) {
    let clock = Clock::manual(START);
    let text = apis::config(&[gated.backend.address], server, "", "");
    let keys = Proxy::keys_of(&[("alice", ALICE, &format!("quota_limit = 1000000\nmax_parallel = 9\n{lines}"))]);
    (Proxy::start(&text, &keys, clock.clone()), clock)
}

fn previous(until: &str) -> String {
    let hash: String = Sha256::digest(OLD).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("previous = [{{ key_hash = \"sha256:{hash}\", until = \"{until}\" }}]")
}

fn disable(proxy: &Proxy) {
    proxy.put(&Proxy::keys_of(&[("alice", ALICE, "disabled = true")]));
}

fn remove(proxy: &Proxy) {
    let id = proxy.entry(ALICE).id();
    proxy.plane.keys.apply(KeyChange::Remove(id)).expect("removed");
}

/// A client whose stream has begun: its first event is read.
async fn streaming(proxy: &Proxy, api: &Api, key: &str) -> (Client, Answer) {
    let mut client = Client::connect(proxy.address).await;
    client.send(&api.stream_call(key, "")).await;
    let head = client.head().await;
    assert_eq!(client.chunk().await.as_deref(), Some(api.events[0].as_bytes()), "{}", api.name);
    (client, Answer { status: 200, head, body: Vec::new(), is_whole: true })
}

/// The rest of a stream: what came, and whether its end was a clean one.
async fn rest(client: &mut Client) -> (String, bool) {
    let mut bytes = Vec::new();
    loop {
        match client.chunk().await {
            Some(chunk) if chunk.is_empty() => return (String::from_utf8(bytes).expect("text"), true),
            Some(chunk) => bytes.extend(chunk),
            None => return (String::from_utf8(bytes).expect("text"), false),
        }
    }
}

/// Expects the error event of `code` and the stream's end, soon; then that nothing leaked, and that line and charge agree.
async fn ends_with(code: &str, api: &Api, (mut client, answer): (Client, Answer)) -> Line {
    let (event, is_whole) = timeout(SOON, rest(&mut client)).await.expect("ended within a second");
    assert!(is_whole, "{}: {event}", api.name);
    let data = match api.name {
        "anthropic" => event.strip_prefix("event: error\ndata: "),
        _ => event.strip_prefix("data: "),
    };
    let data = data.unwrap_or_else(|| panic!("no error event of {}: {event}", api.name));
    assert!(event.ends_with(if api.name == "gemini" { "\r\n\r\n" } else { "\n\n" }));
    let data: serde_json::Value = serde_json::from_str(data.trim_end()).expect("one event");
    assert_eq!(api.error_code(&data), code, "{event}");
    let line = log::access(&answer.header(api.request_id).expect("an id")).await;
    assert_eq!(line["cut"], code);
    assert_eq!(line["estimated"], "true");
    line
}

/// Nothing is held any more, and what was charged is what the lines say.
async fn settled(proxy: &Proxy, limits: &keyward::limits::KeyLimits, lines: &[Line]) {
    proxy.quiet().await;
    let units: u64 = lines.iter().map(|line| line["units"].parse::<u64>().expect("a number")).sum();
    assert!(units > 0);
    assert_eq!((limits.quota_used(), limits.quota_committed(), limits.in_use()), (units, units, 0));
    assert_eq!(proxy.plane.metrics.units(), units);
}
