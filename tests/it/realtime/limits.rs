//! Limits between messages: what asks for a response is paid for first, or is not forwarded.

use keyward::clock::{Clock, NS_PER_SECOND};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{keys, start, start_at};
use crate::harness::proxy::ALICE;
use crate::harness::websocket::{Brain, Talker};
use crate::harness::{Client, log};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_a_limit_does_not_cover_is_refused_in_the_apis_words() {
    for (policy, turns, code, kind) in [
        ("rpm_limit = 3", 2, "rate_limit_exceeded", "requests"),
        ("tpm_limit = 600", 1, "rate_limit_exceeded", "tokens"),
        ("quota_limit = 560", 1, "insufficient_quota", "insufficient_quota"),
    ] {
        let brain = Brain::start();
        let (proxy, clock) = start(&brain, policy);
        let mut talker = Talker::with_key(proxy.address, ALICE).await;
        // Two at once: the first is still under way and holds what it may use.
        let hold = json!({ "type": "response.create", "response": { "metadata": { "do": "hold" } } });
        for _ in 1..turns {
            talker.turn().await;
        }
        talker.say(hold).await;
        talker.until("response.output_text.delta").await;
        let before = brain.events().len();
        talker.say(json!({ "type": "response.create", "event_id": "mine" })).await;
        let error = talker.hear().await["error"].clone();
        assert_eq!((error["code"].as_str(), error["type"].as_str()), (Some(code), Some(kind)), "{policy}: {error}");
        assert_eq!(error["event_id"], "mine");
        let line = log::access(&format!("{}.{}", talker.request_id(), turns + 1)).await;
        assert_eq!((&*line["status"], &*line["units"]), ("429", "0"));
        // Everything else still passes, and a minute later this does too, where it is a rate.
        talker.say(json!({ "type": "hello" })).await;
        assert_eq!(talker.hear().await["type"], "echo");
        assert_eq!(brain.events().len(), before + 1, "what was refused was not forwarded");
        if code == "rate_limit_exceeded" {
            clock.advance_ns(60 * NS_PER_SECOND);
            talker.turn().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_of_the_session_that_is_taken_back_counts_no_longer() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 100");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let endless = json!({ "type": "response.create", "response": { "max_output_tokens": "inf" } });
    talker.say(json!({ "type": "session.update", "session": { "max_output_tokens": 5 } })).await;
    assert_eq!(talker.hear().await["type"], "session.updated");
    talker.say(endless).await;
    assert_eq!(talker.hear().await["error"]["code"], "insufficient_quota");
    talker.turn().await;
    talker.say(json!({ "type": "session.update", "session": { "max_output_tokens": "inf" } })).await;
    assert_eq!(talker.hear().await["type"], "session.updated");
    talker.say(json!({ "type": "response.create" })).await;
    assert_eq!(talker.hear().await["error"]["code"], "insufficient_quota");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_refused_again_and_again_is_left() {
    let brain = Brain::start();
    let (proxy, clock) = start(&brain, "");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    // A client that is refused now and then goes on.
    for _ in 0..50 {
        talker.say(json!({})).await;
        assert_eq!(talker.hear().await["type"], "error");
        clock.advance_ns(NS_PER_SECOND);
    }
    let mut refused = 0;
    let code = loop {
        talker.say(json!({})).await;
        match talker.next().await {
            Message::Text(_) => refused += 1,
            Message::Close(frame) => break frame.map(|frame| u16::from(frame.code)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((refused, code), (32, Some(1008)));
    assert!(brain.events().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_holds_a_slot_and_its_responses_share_it() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "max_parallel = 1");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    talker.turn().await;
    let second = format!(
        "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ALICE}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    assert_eq!(Client::once(proxy.address, second.as_bytes()).await.status, 429);
    talker.socket.close(None).await.unwrap();
    talker.closed().await;
    proxy.quiet().await;
    Talker::with_key(proxy.address, ALICE).await.turn().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_begun_unasked_beyond_a_limit_is_cancelled_and_charged() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 100");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    talker.say(json!({ "type": "test.begin" })).await;
    assert_eq!(talker.hear().await["type"], "response.created");
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        kinds.push(talker.hear().await["type"].as_str().unwrap().to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["error", "response.done", "response.output_text.delta"]);
    assert_eq!(brain.events()[1], json!({ "type": "response.cancel", "response_id": "resp_1" }));
    assert_eq!(proxy.entry(ALICE).limits().quota_used(), 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_unasked_beyond_a_limit_ends_the_connection() {
    // Of 26 units each: what the limit covers (of a quota also one in part), and three more. What is cut is charged as far as it was heard.
    for (policy, event, used) in [
        ("quota_limit = 130", "test.transcribe", Some((4 + 1 + 3) * 26)),
        ("rpm_limit = 3", "test.transcribe", Some((2 + 3) * 26)),
        ("quota_limit = 100", "test.begin", None),
    ] {
        let brain = Brain::start();
        let proxy = start_at(&brain, policy, Clock::system());
        let mut talker = Talker::with_key(proxy.address, ALICE).await;
        for _ in 0..20 {
            talker.say(json!({ "type": event })).await;
        }
        let mut told = 0;
        let code = loop {
            match talker.next().await {
                Message::Text(text) if text.contains("\"error\"") => told += 1,
                Message::Text(_) => {}
                Message::Close(frame) => break frame.map(|frame| u16::from(frame.code)),
                other => panic!("{other:?}"),
            }
        };
        assert!(code == Some(1008) && told >= 3, "{policy}: {code:?}, {told} told");
        proxy.quiet().await;
        let charged = proxy.entry(ALICE).limits().quota_used();
        assert!(used.is_none_or(|used| used == charged), "{policy}: {charged}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_within_a_limit_that_no_long_answer_fits_is_not_left() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 400");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    for turns in 1..=8 {
        // Told to leave off, since it might have become long; it did not.
        talker.say(json!({ "type": "test.begin" })).await;
        while talker.hear().await["type"] != "response.done" {}
        assert_eq!(proxy.entry(ALICE).limits().quota_used(), turns * 18);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_of_the_session_that_the_backend_refuses_lowers_nothing() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 100");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let session = json!({ "voice": "unheard", "max_output_tokens": 5 });
    talker.say(json!({ "type": "session.update", "event_id": "mine", "session": session })).await;
    assert_eq!(talker.hear().await["error"]["event_id"], "mine");
    talker.say(json!({ "type": "response.create" })).await;
    assert_eq!(talker.hear().await["error"]["code"], "insufficient_quota");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_quota_opens_nothing_and_a_new_policy_holds_for_the_next_response() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 1000\nmodels_allowed = [\"gpt-*\"]");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    talker.turn().await;
    proxy.put(&keys("quota_limit = 1000\nmodels_allowed = [\"whisper-*\"]"));
    talker.say(json!({ "type": "response.create" })).await;
    assert_eq!(talker.hear().await["error"]["code"], "model_not_allowed");
    proxy.put(&keys("quota_limit = 18"));
    talker.say(json!({ "type": "response.create" })).await;
    assert_eq!(talker.hear().await["error"]["code"], "insufficient_quota");
    let another = format!(
        "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ALICE}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let answer = Client::once(proxy.address, another.as_bytes()).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (429, Some("insufficient_quota")));
}
