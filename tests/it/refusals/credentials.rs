//! Whose secret: where it may stand, that there is one, and that nobody learns from a 401 which secrets exist.

use super::{ALICE, BODY, SPEAKERS, Stage, request};
use crate::harness::Answer;

const PLACES: [(&str, &str); 4] =
    [("authorization", "Bearer "), ("x-api-key", ""), ("api-key", ""), ("x-goog-api-key", "")];

fn line((name, scheme): (&str, &str), secret: &str) -> String {
    format!("{name}: {scheme}{secret}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_place_is_good_on_every_route() {
    let stage = Stage::alice("");
    let mut count = 0;
    for speaker in &SPEAKERS {
        let mut requests = PLACES.iter().map(|place| speaker.bare(&line(*place, ALICE), BODY)).collect::<Vec<_>>();
        requests.push(request(&format!("{}?key={ALICE}", speaker.path), "", BODY));
        requests.push(request(&format!("{}?alt=sse&%6bey={ALICE}&a=b", speaker.path), "", BODY));
        // The same secret in two places, and in all of them, is one secret.
        let all = PLACES.map(|place| line(place, ALICE)).concat();
        requests.push(speaker.bare(&all, BODY));
        requests.push(request(&format!("{}?key={ALICE}", speaker.path), &all, BODY));
        for bytes in requests {
            let answer = stage.ask(&bytes).await;
            assert_eq!(answer.status, 200, "{}: {}", String::from_utf8_lossy(&bytes), answer.text());
            let seen = stage.backend.seen().swap_remove(count);
            assert!(!seen.head.contains(ALICE), "{}", seen.head);
            let held = PLACES.iter().filter(|(name, _)| seen.header(name).is_some()).count();
            assert_eq!(held, 1, "only the operator's own credential goes upstream: {}", seen.head);
            assert!(seen.head.contains(&format!("upstream-credential-{}", speaker.name)), "{}", seen.head);
            count += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_secrets_are_refused_whichever_of_them_is_good() {
    let stage = Stage::alice("");
    for speaker in &SPEAKERS {
        let mut requests = Vec::new();
        for first in PLACES {
            // One header twice, even with the same secret.
            requests.push(speaker.bare(&line(first, ALICE).repeat(2), BODY));
            for second in PLACES.into_iter().filter(|second| *second != first) {
                requests
                    .push(speaker.bare(&format!("{}{}", line(first, ALICE), line(second, "another-secret-01")), BODY));
                requests.push(speaker.bare(&format!("{}{}", line(first, ALICE), line(second, "")), BODY));
            }
            requests.push(request(&format!("{}?key=another-secret-01", speaker.path), &line(first, ALICE), BODY));
        }
        requests.push(request(&format!("{}?key={ALICE}&key={ALICE}", speaker.path), "", BODY));
        for bytes in requests {
            let answer = stage.ask(&bytes).await;
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!((answer.status, speaker.code(&answer).as_str()), (401, "ambiguous_credential"), "{shown}");
            assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer"));
        }
    }
    assert_eq!(stage.backend.seen().len(), 0);
}

/// An answer without what differs from one request to the next: its id and its date.
fn without_id(answer: &Answer) -> (Vec<String>, Vec<u8>) {
    let is_own = |line: &&str| ["x-request-id:", "request-id:", "date:"].iter().any(|name| line.starts_with(name));
    (answer.head.lines().filter(|line| !is_own(line)).map(str::to_owned).collect(), answer.body.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_secret_that_is_none_of_ours_has_the_same_answer_to_the_byte() {
    let stage = Stage::start("failed_attempts_per_minute = 1000", &[("alice", ALICE, "")]);
    let good = "sk-kw-0000000000000000000000000000000000000000000000000";
    for speaker in &SPEAKERS {
        let unknown = stage.ask(&speaker.call("another-secret-01", "", BODY)).await;
        assert_eq!((unknown.status, speaker.code(&unknown).as_str()), (401, "invalid_api_key"));
        assert!(speaker.message(&unknown).starts_with("Incorrect API key provided"), "{}", unknown.text());
        assert_eq!(unknown.header("www-authenticate").as_deref(), Some("Bearer"));
        assert_eq!(super::advice(&unknown), [Some("false".to_owned()), None, None]);
        let long = "x".repeat(5_000);
        let near = &ALICE[..ALICE.len() - 1];
        let longer = format!("{ALICE}x");
        for secret in [
            "",
            "x",
            good,
            &long,
            near,
            &longer,
            &ALICE.to_uppercase(),
            "a b",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
            "a,b",
            "null",
        ] {
            for body in [BODY, "{", ""] {
                let answer = stage.ask(&speaker.call(secret, "", body)).await;
                assert_eq!(without_id(&answer), without_id(&unknown), "{} {secret:?}", speaker.name);
            }
        }
        for headers in
            ["", "authorization: Basic YTpi\r\n", "authorization: Bearer\r\n", "authorization: x\r\n", "x-api-key:\r\n"]
        {
            let answer = stage.ask(&speaker.bare(headers, BODY)).await;
            assert_eq!(without_id(&answer), without_id(&unknown), "{} {headers:?}", speaker.name);
        }
        for query in ["key=another-secret-01", "key=", "key=%zz1".trim_end_matches("%zz1"), "key=%20", "a=b"] {
            let answer = stage.ask(&request(&format!("{}?{query}", speaker.path), "", BODY)).await;
            assert_eq!(without_id(&answer), without_id(&unknown), "{} {query:?}", speaker.name);
        }
    }
    assert_eq!(stage.backend.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_is_told_why_its_secret_no_longer_works() {
    let old = "sha256:3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
    let grace = format!("previous = [{{ key_hash = \"{old}\", until = \"2025-06-01T00:00:00Z\" }}]");
    let stage = Stage::start(
        "",
        &[
            ("disabled", "disabled-secret-1", "disabled = true"),
            ("expired", "expired-secret-01", "expires_at = \"2026-01-01T00:00:00Z\""),
            ("rotated", "rotated-secret-01", &grace),
        ],
    );
    for speaker in &SPEAKERS {
        for (secret, words) in [
            ("disabled-secret-1", "has been disabled"),
            ("expired-secret-01", "expired at 2026-01-01T00:00:00Z"),
            ("token", "worked until 2025-06-01T00:00:00Z"),
        ] {
            // A bad body and a wrong model do not come first.
            for body in [BODY, "{", r#"{"model":"x"}"#] {
                let answer = stage.ask(&speaker.call(secret, "", body)).await;
                assert_eq!(
                    (answer.status, speaker.code(&answer).as_str()),
                    (401, "invalid_api_key"),
                    "{}",
                    answer.text()
                );
                assert!(speaker.message(&answer).contains(words), "{secret}: {}", answer.text());
                assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer"));
                assert!(!answer.text().contains(secret) || secret == "token", "{}", answer.text());
            }
        }
        assert_eq!(stage.ask(&speaker.call("rotated-secret-01", "", BODY)).await.status, 200);
    }
}
