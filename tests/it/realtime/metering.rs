//! Each response is a call of its own: charged by what the backend reports, once, before its client has the report.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::start;
use crate::harness::log;
use crate::harness::proxy::ALICE;
use crate::harness::websocket::{Brain, INPUT, OUTPUT, Talker, usage};

const TURN: u64 = INPUT + OUTPUT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_response_is_charged_once_and_written_down() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 1000000\nrpm_limit = 100\ntpm_limit = 1000000");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let entry = proxy.entry(ALICE);
    let limits = entry.limits();
    for turn in 1..=3 {
        assert_eq!(talker.turn().await, ["response.created", "response.output_text.delta", "response.done"]);
        assert_eq!(limits.quota_used(), turn * TURN, "before the client has it");
        let line = log::access(&format!("{}.{turn}", talker.request_id())).await;
        let shown =
            ["endpoint", "model", "status", "decision", "input_tokens", "cached_tokens", "output_tokens", "estimated"]
                .map(|name| &*line[name]);
        assert_eq!(shown, ["realtime", "gpt-realtime", "200", "allowed", "11", "4", "7", "false"]);
    }
    assert_eq!(brain.kinds(), ["response.create"; 3]);
    // One request for the websocket, one for each response.
    let standing = entry.limits().standing(&entry.policy(), super::START);
    assert_eq!(standing.requests.unwrap().remaining, 96);
    assert_eq!(limits.in_use(), 1);
    talker.socket.close(None).await.unwrap();
    let line = log::access(&talker.request_id()).await;
    assert_eq!((&*line["status"], &*line["units"], line.get("cut")), ("101", "0", None));
    proxy.quiet().await;
    assert_eq!((limits.quota_used(), limits.quota_committed(), limits.in_use()), (3 * TURN, 3 * TURN, 0));
    assert_eq!(proxy.plane.metrics.units(), 3 * TURN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_backend_begins_unasked_and_what_it_writes_down_is_charged_too() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 1000000");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let entry = proxy.entry(ALICE);
    talker.say(json!({ "type": "test.speak" })).await;
    talker.until("response.done").await;
    assert_eq!(entry.limits().quota_used(), TURN);
    let terms = json!({ "audio": { "input": { "transcription": { "model": "whisper-1" } } } });
    talker.say(json!({ "type": "session.update", "session": terms })).await;
    talker.hear().await;
    talker.say(json!({ "type": "test.transcribe" })).await;
    talker.hear().await;
    assert_eq!(entry.limits().quota_used(), TURN + 26);
    let line = log::access(&format!("{}.2", talker.request_id())).await;
    assert_eq!((&*line["model"], &*line["units"]), ("whisper-1", "26"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_down_is_charged_by_the_model_that_the_backend_says_does_it_and_without_a_report_too() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 1000000");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let update = |model: &str, voice: &str| {
        let terms = json!({ "voice": voice, "input_audio_transcription": { "model": model } });
        json!({ "type": "session.update", "event_id": "mine", "session": terms })
    };
    talker.say(update("whisper-dear", "heard")).await;
    assert_eq!(talker.hear().await["type"], "session.updated");
    // Refused as a whole for the sake of something else in it.
    talker.say(update("whisper-cheap", "unheard")).await;
    assert_eq!(talker.hear().await["type"], "error");
    talker.say(json!({ "type": "test.transcribe", "silent": true })).await;
    talker.hear().await;
    let line = log::access(&format!("{}.1", talker.request_id())).await;
    assert_eq!((&*line["model"], &*line["output_tokens"], &*line["estimated"]), ("whisper-dear", "3", "true"));
    assert_eq!(proxy.entry(ALICE).limits().quota_used().to_string(), line["units"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_refuses_or_fails_at_costs_nothing_and_what_it_does_not_report_is_estimated() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 1000000");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let entry = proxy.entry(ALICE);
    let create = |what: &str| json!({ "type": "response.create", "response": { "metadata": { "do": what } } });
    talker.say(create("refuse")).await;
    assert_eq!(talker.hear().await["type"], "error");
    talker.say(create("fail")).await;
    talker.until("response.done").await;
    let held = entry.limits().quota_committed();
    assert_eq!((entry.limits().quota_used(), held), (0, 1), "but for the token that the websocket holds");
    let mut used = 0;
    // Also where it failed only after something had been heard.
    for (number, what) in [(3, "silent"), (4, "fail late")] {
        talker.say(create(what)).await;
        talker.until("response.done").await;
        let line = log::access(&format!("{}.{number}", talker.request_id())).await;
        assert_eq!((&*line["estimated"], &*line["output_tokens"]), ("true", "3"), "{what}");
        used += line["units"].parse::<u64>().expect("a number");
        assert_eq!(entry.limits().quota_used(), used, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_tells_twice_is_charged_once() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 1000000");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    talker.say(json!({ "type": "response.create", "response": { "metadata": { "do": "twice" } } })).await;
    talker.until("response.done").await;
    talker.until("response.done").await;
    talker.turn().await;
    let limits = proxy.entry(ALICE);
    assert_eq!((limits.limits().quota_used(), limits.limits().quota_committed()), (2 * TURN, 2 * TURN + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_a_backend_names_alike_are_each_charged() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "quota_limit = 1000000");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    for turns in 1..=3 {
        talker.say(json!({ "type": "response.create", "response": { "metadata": { "id": "same" } } })).await;
        talker.until("response.done").await;
        assert_eq!(proxy.entry(ALICE).limits().quota_used(), turns * TURN);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_as_they_are_in_both_directions() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "");
    let mut talker = Talker::with_key(proxy.address, ALICE).await;
    let long = "ü".repeat(400_000);
    let event =
        json!({ "type": "conversation.item.create", "item": { "content": long, "model": 1, "usage": usage() } });
    talker.say(event.clone()).await;
    assert_eq!(talker.hear().await["of"], event);
    talker.send(Message::Ping(b"still there?"[..].into())).await;
    assert_eq!(talker.next().await, Message::Pong(b"still there?"[..].into()));
    assert_eq!(brain.events(), [event]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_stays_the_one_that_was_checked() {
    let brain = Brain::start();
    let (proxy, _) = start(&brain, "models_allowed = [\"fast\", \"whisper-1\"]");
    let key = ("authorization", format!("Bearer {ALICE}"));
    let mut talker = Talker::open(proxy.address, "/v1/realtime?model=fast", &[key]).await;
    let update = |session: serde_json::Value| json!({ "type": "session.update", "event_id": "e", "session": session });
    for (session, code) in [
        (json!({ "model": "gpt-realtime" }), "model_disagrees"),
        (json!({ "models": ["gpt-realtime"] }), "member_not_allowed"),
        (json!({ "input_audio_transcription": { "model": "gpt-4o-transcribe" } }), "model_not_allowed"),
    ] {
        talker.say(update(session.clone())).await;
        let error = talker.hear().await;
        assert_eq!((error["type"].as_str(), error["error"]["code"].as_str()), (Some("error"), Some(code)), "{session}");
    }
    for text in ["{\"type\":\"a\",\"Type\":\"response.create\"}", "not json", "{\"type\":\"response\\u002ecreate\"}"] {
        talker.send(Message::text(text)).await;
        assert_eq!(talker.hear().await["error"]["type"], "invalid_request_error", "{text}");
    }
    assert!(brain.events().is_empty(), "none of it was forwarded");
    talker.say(update(json!({ "model": "fast", "input_audio_transcription": { "model": "whisper-1" } }))).await;
    let heard = talker.hear().await;
    assert_eq!(heard["of"]["session"]["model"], "gpt-realtime-mini");
}
