//! Bytes without a plan: nothing hangs, nothing is a 5xx, and nothing reaches the backend that was not one whole good request.

use super::Edge;
use crate::harness::{self, Backend, Client, Proxy, proxy::ALICE};
use keyward::clock::Clock;

/// A small generator of the same numbers every time (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

const WORDS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"/v1/models",
    b"/v1/chat/completions",
    b" HTTP/1.1\r\n",
    b"HTTP/1.0",
    b"\r\n",
    b"\r\n\r\n",
    b"host: proxy\r\n",
    b"content-length: ",
    b"transfer-encoding: chunked\r\n",
    b"5",
    b"0",
    b"{\"model\":\"m\"}",
    b"\n",
    b"\r",
    b"\0",
    b":",
    b" ",
    b"\xff",
    b"0\r\n\r\n",
    b"\x16\x03\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"x-api-key: ",
    b"%2e",
    b"..",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_are_refused_or_dropped() {
    let edge = Edge::start();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..400 {
        let mut bytes = Vec::new();
        for _ in 0..=dice.roll(30) {
            if round % 2 == 0 {
                bytes.extend_from_slice(WORDS[dice.roll(WORDS.len())]);
            } else {
                bytes.push(dice.roll(256) as u8);
            }
        }
        let mut client = Client::connect(edge.proxy.address).await;
        client.send(&bytes).await;
        let status = client.finish().await;
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        // Whoever begins as HTTP/2 does is answered in frames, which have no status.
        let in_frames = status == Some(0) && bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(in_frames || status.is_none_or(|status| (400..500).contains(&status)), "{shown:?}: {status:?}");
    }
    edge.serves("garbage").await;
    edge.is_unharmed().await;
}

/// `good` with one byte flipped, lost, doubled or added.
fn mutated(good: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let at = dice.roll(bytes.len());
    match dice.roll(4) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => drop(bytes.remove(at)),
        2 => bytes.insert(at, dice.roll(256) as u8),
        _ => bytes.insert(at, bytes[at]),
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_request_with_one_byte_wrong_is_that_request_or_none() {
    let backend = Backend::json("{}");
    // A request that is now shorter than it says waits for its end, and no longer than this.
    let times =
        "[server]\nbody_idle_timeout = \"100ms\"\nheader_timeout = \"100ms\"\nfailed_attempts_per_minute = 1000\n";
    let config = Proxy::config_for(&backend, "").replacen("[server]\n", times, 1);
    let proxy = Proxy::start(&config, &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system());
    let good = harness::post("/v1/chat/completions", ALICE, &harness::chat("m", false));
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut answered = 0;
    for _ in 0..20 {
        let requests = (0..30).map(|_| mutated(&good, &mut dice)).collect::<Vec<_>>();
        let statuses = requests.iter().map(|bytes| async {
            let mut client = Client::connect(proxy.address).await;
            client.send(bytes).await;
            client.first_status().await
        });
        for (bytes, status) in requests.iter().zip(futures_util::future::join_all(statuses).await) {
            let shown = String::from_utf8_lossy(bytes).into_owned();
            assert!(
                status.is_some_and(|status| status == 200 || (400..500).contains(&status)),
                "{shown:?}: {status:?}"
            );
            answered += usize::from(status == Some(200));
        }
    }
    proxy.quiet().await;
    let seen = backend.seen();
    assert_eq!(seen.len(), answered);
    assert!(answered > 0, "some of them are good requests still");
    for seen in &seen {
        assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string()), "{}", seen.head);
        assert_eq!(seen.path(), "/v1/chat/completions");
        let json = serde_json::from_slice::<serde_json::Value>(&seen.body).expect("what was checked is JSON");
        assert!(json["model"].is_string() && !seen.head.contains(ALICE));
    }
    assert!(!proxy.metrics_text().contains("status=\"5xx\""));
}
