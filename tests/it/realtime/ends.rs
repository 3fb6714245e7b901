//! However a websocket ends, both sides are told, what was under way is charged once, and nothing is left.

use std::fs;
use std::time::Duration;

use keyward::clock::Clock;
use keyward::keys::change::KeyChange;
use keyward::policy::Endpoint;
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{config, keys, start, start_at};
use crate::harness::program::Running;
use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::RawBackend;
use crate::harness::websocket::{Brain, Talker};
use crate::harness::{Client, Proxy, log};
use crate::ledger::records;

const SOON: Duration = Duration::from_secs(1);
const ROOMY: &str = "quota_limit = 1000000\nmax_parallel = 9";

/// A websocket with a response under way.
async fn talking(proxy: &Proxy) -> Talker {
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    talker.say(json!({ "type": "response.create", "response": { "metadata": { "do": "hold" } } })).await;
    talker.until("response.output_text.delta").await;
    talker
}

/// Nothing is held any more, and the response that was under way was charged for what was heard of it, because of `reason`.
async fn charged_as_heard(proxy: &Proxy, limits: &keyward::limits::KeyLimits, id: &str, reason: &str) {
    let line = log::access(&format!("{id}.1")).await;
    let shown = ["cut", "estimated", "output_tokens"].map(|name| &*line[name]);
    assert_eq!(shown, [reason, "true", "3"]);
    proxy.quiet().await;
    let units = line["units"].parse::<u64>().unwrap();
    assert_eq!((limits.quota_used(), limits.quota_committed(), limits.in_use()), (units, units, 0));
    assert_eq!(proxy.plane.metrics.units(), units);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_ends_it_within_a_second() {
    for reason in ["key_disabled", "key_deleted"] {
        let brain = Brain::start();
        let proxy = start_at(&brain, ROOMY, Clock::system());
        let mut talker = talking(&proxy).await;
        let entry = proxy.entry(ALICE);
        if reason == "key_disabled" {
            proxy.put(&keys(&format!("{ROOMY}\ndisabled = true")));
        } else {
            proxy.plane.keys.apply(KeyChange::Remove(entry.id())).unwrap();
        }
        let (code, event) = timeout(SOON, talker.closed()).await.expect("within a second");
        assert_eq!(code, Some(1008));
        assert_eq!(event.expect("an event")["error"]["code"], reason);
        assert_eq!(brain.ended(1).await, [Some(1001)]);
        charged_as_heard(&proxy, entry.limits(), &talker.request_id(), reason).await;
        assert_eq!(log::access(&talker.request_id()).await["cut"], reason);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_takes_the_upstream_with_it() {
    let brain = Brain::start();
    let proxy = start_at(&brain, ROOMY, Clock::system());
    let talker = talking(&proxy).await;
    let (entry, id) = (proxy.entry(ALICE), talker.request_id());
    drop(talker);
    assert_eq!(brain.ended(1).await, [Some(1001)]);
    charged_as_heard(&proxy, entry.limits(), &id, "client_gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_reads_on_has_its_response_read_to_the_report() {
    let brain = Brain::start();
    let proxy = start_at(&brain, "quota_limit = 1000000\non_disconnect = \"drain\"", Clock::system());
    let mut talker = talking(&proxy).await;
    let (entry, id) = (proxy.entry(ALICE), talker.request_id());
    talker.say(json!({ "type": "response.cancel", "response_id": "resp_1" })).await;
    drop(talker);
    let line = log::access(&format!("{id}.1")).await;
    assert_eq!((&*line["units"], &*line["estimated"]), ("18", "false"));
    assert_eq!(brain.ended(1).await, [Some(1001)]);
    proxy.quiet().await;
    assert_eq!(entry.limits().quota_committed(), 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goodbyes_pass_with_their_codes() {
    let brain = Brain::start();
    let proxy = start_at(&brain, "", Clock::system());
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    talker.say(json!({ "type": "test.bye" })).await;
    assert_eq!(talker.closed().await.0, Some(4001));
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 4002.into(), reason: "done".into() };
    talker.socket.close(Some(frame)).await.unwrap();
    assert_eq!(talker.closed().await.0, Some(4002));
    assert!(brain.ended(2).await.contains(&Some(4002)));
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_breaks_off_is_no_clean_end() {
    for what in ["vanish", "mask"] {
        let brain = Brain::start();
        let proxy = start_at(&brain, ROOMY, Clock::system());
        let mut talker = Talker::with_key(proxy.address, ALICE).await;
        let event = match what {
            "mask" => json!({ "type": "test.mask" }),
            _ => json!({ "type": "response.create", "response": { "metadata": { "do": "vanish" } } }),
        };
        talker.say(event).await;
        let (code, event) = talker.closed().await;
        assert_eq!((code, event.unwrap()["error"]["code"].as_str()), (Some(1011), Some("upstream_cut")), "{what}");
        if what == "vanish" {
            charged_as_heard(&proxy, proxy.entry(ALICE).limits(), &talker.request_id(), "upstream_cut").await;
        }
        proxy.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_the_protocol_is_told_how_and_nothing_of_it_passes() {
    const OPEN: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let large = [&b"\x81\xff"[..], &(17_u64 << 20).to_be_bytes(), b"\0\0\0\0"].concat();
    for (frames, code) in [
        (&b"\x81\x02{}"[..], 1002),
        (b"\xc1\x80\0\0\0\0", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (b"\x81\x82\0\0\0\0\xc3\x28", 1007),
        (b"\x82\x82\0\0\0\0{}", 1003),
        (&large, 1009),
    ] {
        let brain = Brain::start();
        let proxy = start_at(&brain, ROOMY, Clock::system());
        let mut client = Client::connect(proxy.address).await;
        let head = format!("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: a\r\napi-key: {ALICE}\r\n{OPEN}");
        // Also where it does not wait for the answer.
        client.send(&[head.as_bytes(), frames].concat()).await;
        let all = client.remaining().await;
        assert!(all.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&all));
        let head = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let end = &all[head..];
        let at = end.iter().position(|byte| *byte == 0x88).expect("a close frame");
        assert_eq!(u16::from_be_bytes([end[at + 2], end[at + 3]]), code, "{frames:?}");
        assert!(brain.events().is_empty());
        proxy.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_it_and_so_does_a_client_that_takes_nothing() {
    let brain = Brain::start();
    let (proxy, clock) = start(&brain, ROOMY);
    let mut talker = talking(&proxy).await;
    clock.advance_ns(301 * keyward::clock::NS_PER_SECOND);
    assert_eq!(talker.closed().await.0, Some(1001));
    // It does not say goodbye itself, and is left.
    clock.advance_ns(2 * keyward::clock::NS_PER_SECOND);
    charged_as_heard(&proxy, proxy.entry(ALICE).limits(), &talker.request_id(), "idle").await;

    let (proxy, clock) = start(&brain, ROOMY);
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let filler = "x".repeat(1 << 20);
    // Nothing is read of what comes back: in the end nothing more is taken either, however long that takes on a busy machine.
    let hello = json!({ "type": "hello", "filler": filler }).to_string();
    while timeout(Duration::from_millis(1500), talker.send(Message::text(hello.clone()))).await.is_ok() {}
    // Whoever was about to take a little more is looked at again; long before silence would end it.
    let two_minutes = async {
        for _ in 0..12 {
            clock.advance_ns(10 * keyward::clock::NS_PER_SECOND);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = proxy.quiet() => {}
        () = two_minutes => {}
    }
    assert_eq!(proxy.plane.body_budget.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_also_where_neither_side_says_anything_more() {
    let backend = RawBackend::start(|stream, _| async move {
        let _held = tokio_tungstenite::accept_async(stream).await;
        std::future::pending::<()>().await;
    });
    let text = config(backend.address, "drain_timeout = \"100ms\"", "");
    let proxy = Proxy::start(&text, &keys(ROOMY), Clock::system());
    let talker = Talker::with_key(proxy.address, ALICE).await;
    proxy.put(&keys(&format!("{ROOMY}\ndisabled = true")));
    // Nothing is read of it, so that it does not answer the goodbye.
    proxy.quiet().await;
    drop(talker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_the_running_response_end_and_the_ledger_has_everything() {
    let brain = Brain::start();
    let text = config(brain.address(), "drain_timeout = \"10s\"", "[admin]\nlisten = \"127.0.0.1:0\"\n");
    let text = format!("keys_file = \"keys.toml\"\n{text}");
    let mut running = Running::start(&text, |home| fs::write(home.join("keys.toml"), keys(ROOMY)).unwrap()).await;
    let mut idle = Talker::with_key(running.data, ALICE).await;
    let mut busy = Talker::with_key(running.data, ALICE).await;
    busy.turn().await;
    busy.say(json!({ "type": "response.create", "response": { "metadata": { "do": "hold" } } })).await;
    busy.until("response.output_text.delta").await;
    running.signal("TERM");
    assert_eq!(idle.closed().await.0, Some(1001), "nothing runs there");
    busy.say(json!({ "type": "response.cancel", "response_id": "resp_2" })).await;
    busy.until("response.done").await;
    assert_eq!(busy.closed().await.0, Some(1001));
    assert!(running.ended_within(Duration::from_secs(9)).await.success());
    let records = records(&running.path("data/keyward.db"));
    let id = busy.request_id();
    for (request, units) in [(idle.request_id(), 0), (id.clone(), 0), (format!("{id}.1"), 18), (format!("{id}.2"), 18)]
    {
        let found = records.iter().filter(|record| *record.request_id == *request).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{request}: {records:?}");
        assert_eq!((found[0].endpoint, found[0].units), (Endpoint::Realtime, units), "{request}");
    }
    assert_eq!(records.len(), 4);
}
