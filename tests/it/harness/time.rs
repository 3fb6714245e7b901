//! Time that stands still unless it is moved: a deadline is met by the next tick after it.

use std::time::Duration;

use keyward::clock::{Clock, NS_PER_SECOND, Now};
use tokio::time::timeout;

use crate::harness::proxy::ALICE;
use crate::harness::{Backend, Proxy};

/// Longer than a tick of the time limits, after which what was due has been looked at.
pub const MOMENT: Duration = Duration::from_millis(120);
/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy of one worker, whose clock is moved by hand, in front of upstreams that may be silent for a day.
pub fn by_hand(backend: &Backend, server: &str) -> (Proxy, Clock) {
    let clock = Clock::manual(Now { monotonic_ns: 60 * NS_PER_SECOND, unix_ms: 1_767_225_600_000 });
    let config = Proxy::config_for(backend, "")
        .replacen("workers = 2", &format!("workers = 1\n{server}"), 1)
        .replace("models = [\"*\"]", "models = [\"*\"]\nidle_timeout = \"24h\"\nfirst_byte_timeout = \"24h\"");
    let proxy = Proxy::start(&config, &Proxy::keys_of(&[("alice", ALICE, "")]), clock.clone());
    (proxy, clock)
}

/// Waits until it is so; what never becomes so fails here, by its name.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(2 * PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Moves the clock on by so many seconds again and again until `happens`.
pub async fn moving<T>(clock: &Clock, seconds: u64, happens: impl Future<Output = T>) -> T {
    let moved = async {
        loop {
            clock.advance_ns(seconds * NS_PER_SECOND);
            tokio::time::sleep(MOMENT).await;
        }
    };
    let either = async {
        tokio::select! { result = happens => result, () = moved => unreachable!("it has no end") }
    };
    timeout(PATIENCE, either).await.expect("it happens when time passes")
}
