//! Guessing: failed credentials are throttled for each address, and a valid key is never held up by them.

use super::{ALICE, BODY, SPEAKERS, Stage, advice};
use crate::harness;
use keyward::clock::NS_PER_SECOND;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guesser_is_throttled_and_the_holder_of_a_key_is_not() {
    let server = "failed_attempts_per_minute = 3\ntrusted_proxies = [\"127.0.0.1\"]";
    let stage = Stage::start(server, &[("alice", ALICE, "")]);
    for (number, speaker) in SPEAKERS.iter().enumerate() {
        let from = format!("x-forwarded-for: 203.0.113.{number}\r\n");
        // Missing, malformed and unknown ones count alike.
        for request in
            [speaker.call("guess-0000000001", &from, BODY), speaker.bare(&from, BODY), speaker.call("a b", &from, BODY)]
        {
            assert_eq!(stage.ask(&request).await.status, 401);
        }
        for secret in ["guess-0000000002", "a b", ""] {
            let answer = stage.ask(&speaker.call(secret, &from, BODY)).await;
            assert_eq!(
                (answer.status, speaker.code(&answer).as_str()),
                (429, "too_many_attempts"),
                "{}",
                answer.text()
            );
            let wait = [Some("false".to_owned()), Some("20".to_owned()), Some("20000".to_owned())];
            assert_eq!(advice(&answer), wait, "{}", speaker.name);
        }
        assert_eq!(stage.ask(&speaker.call(ALICE, &from, BODY)).await.status, 200, "a valid key is not met by it");
        let elsewhere = format!("x-forwarded-for: 203.0.113.{}\r\n", number + 100);
        assert_eq!(stage.ask(&speaker.call("guess-0000000003", &elsewhere, BODY)).await.status, 401);
    }
    let speaker = &SPEAKERS[0];
    let from = "x-forwarded-for: 203.0.113.0\r\n";
    stage.clock.advance_ns(20 * NS_PER_SECOND);
    assert_eq!(stage.ask(&speaker.call("guess-0000000004", from, BODY)).await.status, 401, "one more after the wait");
    assert_eq!(stage.ask(&speaker.call("guess-0000000005", from, BODY)).await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_ours_that_no_longer_works_is_not_a_guess() {
    let stage = Stage::start("failed_attempts_per_minute = 1", &[("alice", ALICE, "disabled = true")]);
    for _ in 0..5 {
        assert_eq!(stage.ask(&SPEAKERS[0].call(ALICE, "", BODY)).await.status, 401);
    }
    assert_eq!(stage.ask(&SPEAKERS[0].call("guess-0000000001", "", BODY)).await.status, 401);
    assert_eq!(stage.ask(&SPEAKERS[0].call("guess-0000000001", "", BODY)).await.status, 429);
    assert_eq!(stage.ask(&harness::get("/v1/models", "guess-0000000001")).await.status, 429, "on every route");
}
