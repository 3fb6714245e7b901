//! Websockets to `/v1/realtime`: opened strictly, metered and limited response by response, ended when the key is.

mod ends;
mod handshake;
mod limits;
mod metering;

use std::net::SocketAddr;

use keyward::clock::{Clock, NS_PER_SECOND, Now};

use crate::harness::Proxy;
use crate::harness::proxy::ALICE;
use crate::harness::websocket::Brain;

/// 2027-01-15T08:00:00Z
const START: Now = Now { monotonic_ns: 60 * NS_PER_SECOND, unix_ms: 1_800_000_000_000 };

/// Two upstreams at `address` that take websockets, with further lines for the server and at the end.
fn config(address: SocketAddr, server: &str, more: &str) -> String {
    let mut text = format!("[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{server}\n");
    for name in ["openai", "azure"] {
        text.push_str(&format!(
            "[[upstreams]]\nname = \"{name}\"\ndialect = \"{name}\"\nurl = \"http://{address}\"\napi_key = \"upstream-credential-{name}\"\nmodels = [\"gpt-*\", \"whisper-*\"]\nwebsocket = true\n"
        ));
    }
    text + more
}

fn keys(policy: &str) -> String {
    Proxy::keys_of(&[("alice", ALICE, policy)])
}

/// A proxy in front of `brain`, at a clock that stands still.
fn start(brain: &Brain, policy: &str) -> (Proxy, Clock) {
    let clock = Clock::manual(START);
    (start_at(brain, policy, clock.clone()), clock)
}

/// The same at another clock: who does not say goodbye is left after a second of it.
fn start_at(brain: &Brain, policy: &str, clock: Clock) -> Proxy {
    let text = config(brain.address(), "drain_timeout = \"100ms\"", "[models]\n\"fast\" = \"gpt-realtime-mini\"\n");
    Proxy::start(&text, &keys(policy), clock)
}
