//! The golden matrix: every refusal, every fault and every cut of a stream, in every dialect, as a caller sees it. The files
//! under `tests/golden/` are the promise; `KEYWARD_BLESS=1 cargo test --test golden` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use http::StatusCode;
use keyward::clock::Now;
use keyward::dialect::{self, Answer, Dialect, Notes};
use keyward::policy::{BodyFlaw, CutReason, DialectName, Endpoint, Fault, HeadFlaw, Refusal};
use keyward::units::ModelName;

/// 2026-01-01T00:00:00Z.
const NOW: Now = Now { monotonic_ns: 60_000_000_000, unix_ms: 1_767_225_600_000 };

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

fn notes() -> Notes<'static> {
    Notes { request_id: "req-0001", now: NOW, quota_status: StatusCode::TOO_MANY_REQUESTS }
}

/// A matrix of every variant of an enum: the patterns make an exhaustive match, so that a new variant does not compile until
/// it has a row, and a row has at least one named instance, which is checked to be of its own pattern.
macro_rules! matrix {
    ($function:ident: $type:ty { $($pattern:pat => [$($name:literal: $instance:expr),+ $(,)?]),+ $(,)? }) => {
        fn $function() -> Vec<(&'static str, $type)> {
            fn row(value: &$type) -> usize {
                let mut at = 0;
                let patterns: &[fn(&$type) -> bool] = &[$(|value| matches!(value, $pattern)),+];
                match value { $($pattern => {}),+ }
                while !patterns[at](value) {
                    at += 1;
                }
                at
            }
            let mut all = Vec::new();
            let mut expected = 0;
            $(
                $(
                    let instance: $type = $instance;
                    assert_eq!(row(&instance), expected, "{} stands in another variant's row", $name);
                    all.push(($name, instance));
                )+
                expected += 1;
            )+
            assert!(expected > 0);
            all
        }
    };
}

matrix!(head_flaws: HeadFlaw {
    HeadFlaw::Syntax => ["head_syntax": HeadFlaw::Syntax],
    HeadFlaw::Framing => ["head_framing": HeadFlaw::Framing],
    HeadFlaw::BodyNotExpected => ["head_body_not_expected": HeadFlaw::BodyNotExpected],
    HeadFlaw::Host => ["head_host": HeadFlaw::Host],
    HeadFlaw::Path => ["head_path": HeadFlaw::Path],
    HeadFlaw::Query => ["head_query": HeadFlaw::Query],
    HeadFlaw::UriTooLong => ["head_uri_too_long": HeadFlaw::UriTooLong],
    HeadFlaw::HeadersTooLarge => ["head_headers_too_large": HeadFlaw::HeadersTooLarge],
    HeadFlaw::ConnectNotOffered => ["head_connect_not_offered": HeadFlaw::ConnectNotOffered],
    HeadFlaw::UpgradeNotOffered => ["head_upgrade_not_offered": HeadFlaw::UpgradeNotOffered],
    HeadFlaw::WebsocketOnly => ["head_websocket_only": HeadFlaw::WebsocketOnly],
    HeadFlaw::Handshake => ["head_handshake": HeadFlaw::Handshake],
    HeadFlaw::Expectation => ["head_expectation": HeadFlaw::Expectation],
    HeadFlaw::TooSlow => ["head_too_slow": HeadFlaw::TooSlow],
});

matrix!(body_flaws: BodyFlaw {
    BodyFlaw::Incomplete => ["body_incomplete": BodyFlaw::Incomplete],
    BodyFlaw::NotUtf8 { .. } => ["body_not_utf8": BodyFlaw::NotUtf8 { offset: 17 }],
    BodyFlaw::Syntax { .. } => ["body_syntax": BodyFlaw::Syntax { offset: 17, expected: "a \"quoted\" name" }],
    BodyFlaw::NotAnObject => ["body_not_an_object": BodyFlaw::NotAnObject],
    BodyFlaw::TrailingBytes { .. } => ["body_trailing_bytes": BodyFlaw::TrailingBytes { offset: 17 }],
    BodyFlaw::TooDeep => ["body_too_deep": BodyFlaw::TooDeep],
    BodyFlaw::DuplicateMember { .. } => ["body_duplicate_member": BodyFlaw::DuplicateMember { member: "model" }],
    BodyFlaw::MisspelledMember { .. } => ["body_misspelled_member": BodyFlaw::MisspelledMember { member: "model" }],
    BodyFlaw::BadMember { .. } => [
        "body_bad_member": BodyFlaw::BadMember { member: "max_tokens", expected: "an integer from 1 to 4294967295" },
    ],
    BodyFlaw::ModelMissing => ["body_model_missing": BodyFlaw::ModelMissing],
    BodyFlaw::ModelDisagrees => ["body_model_disagrees": BodyFlaw::ModelDisagrees],
    BodyFlaw::MemberNotAllowed { .. } => ["body_member_not_allowed": BodyFlaw::MemberNotAllowed { member: "api_base" }],
    BodyFlaw::Multipart { .. } => ["body_multipart": BodyFlaw::Multipart { expected: "one boundary" }],
});

matrix!(refusals_but_flaws: Refusal {
    Refusal::UnknownPath => ["unknown_path": Refusal::UnknownPath],
    Refusal::MethodNotAllowed { .. } => ["method_not_allowed": Refusal::MethodNotAllowed { allowed: "GET, HEAD" }],
    Refusal::InvalidKey => ["invalid_key": Refusal::InvalidKey],
    Refusal::AmbiguousCredential => ["ambiguous_credential": Refusal::AmbiguousCredential],
    Refusal::KeyDisabled => ["key_disabled": Refusal::KeyDisabled],
    Refusal::KeyExpired { .. } => ["key_expired": Refusal::KeyExpired { at_unix_ms: NOW.unix_ms - 1 }],
    Refusal::GraceEnded { .. } => ["grace_ended": Refusal::GraceEnded { at_unix_ms: NOW.unix_ms - 60_000 }],
    Refusal::TooManyAttempts { .. } => [
        "too_many_attempts": Refusal::TooManyAttempts { retry_after_ns: 2 * SECOND + 1 },
        "too_many_attempts_for_long": Refusal::TooManyAttempts { retry_after_ns: 600 * SECOND },
    ],
    Refusal::AddressNotAllowed { .. } => [
        "address_not_allowed": Refusal::AddressNotAllowed { address: [192, 0, 2, 7].into() },
    ],
    Refusal::BodyTooLarge { .. } => ["body_too_large": Refusal::BodyTooLarge { limit: 33_554_432 }],
    Refusal::Head(_) => ["head": Refusal::Head(HeadFlaw::Syntax)],
    Refusal::Body(_) => ["body": Refusal::Body(BodyFlaw::NotAnObject)],
    Refusal::BodyTooSlow => ["body_too_slow": Refusal::BodyTooSlow],
    Refusal::EncodingNotSupported => ["encoding_not_supported": Refusal::EncodingNotSupported],
    Refusal::ContentTypeNotSupported { .. } => [
        "content_type_not_supported": Refusal::ContentTypeNotSupported { expected: "application/json" },
    ],
    Refusal::EndpointNotAllowed { .. } => [
        "endpoint_not_allowed": Refusal::EndpointNotAllowed { endpoint: Endpoint::Embeddings },
    ],
    Refusal::ModelNotAllowed { .. } => [
        "model_not_allowed": Refusal::ModelNotAllowed { model: ModelName::new("gpt-4o") },
        "model_not_allowed_unnamed": Refusal::ModelNotAllowed { model: None },
    ],
    Refusal::ModelNotFound { .. } => [
        "model_not_found": Refusal::ModelNotFound { model: ModelName::new("org/model:free") },
        "model_not_found_unnamed": Refusal::ModelNotFound { model: None },
    ],
    Refusal::QuotaSpent { .. } => [
        "quota_spent": Refusal::QuotaSpent { limit: 1_000, used: 990, asked: 50, resets_in_ns: Some(DAY) },
        "quota_spent_for_ever": Refusal::QuotaSpent { limit: 1_000, used: 1_000, asked: 50, resets_in_ns: None },
        "quota_spent_until_soon": Refusal::QuotaSpent {
            limit: 1_000, used: 990, asked: 50, resets_in_ns: Some(30 * SECOND),
        },
        "quota_smaller_than_request": Refusal::QuotaSpent {
            limit: 1_000, used: 0, asked: 1_001, resets_in_ns: Some(30 * SECOND),
        },
    ],
    Refusal::TooManyParallel { .. } => ["too_many_parallel": Refusal::TooManyParallel { limit: 4 }],
    Refusal::TokensExceeded { .. } => [
        "tokens_exceeded": Refusal::TokensExceeded {
            limit: 1_000, remaining: 200, asked: 500, retry_after_ns: 18 * SECOND,
        },
        "tokens_exceeded_in_debt": Refusal::TokensExceeded {
            limit: 1_000, remaining: 0, asked: 500, retry_after_ns: 90 * SECOND,
        },
    ],
    Refusal::PromptOverTokenLimit { .. } => [
        "prompt_over_token_limit": Refusal::PromptOverTokenLimit { limit: 1_000, asked: 5_000 },
    ],
    Refusal::RequestsExceeded { .. } => [
        "requests_exceeded": Refusal::RequestsExceeded { limit: 100, retry_after_ns: 600_000_001 },
    ],
});

matrix!(faults: Fault {
    Fault::UpstreamUnreachable => ["fault_upstream_unreachable": Fault::UpstreamUnreachable],
    Fault::UpstreamBroken => ["fault_upstream_broken": Fault::UpstreamBroken],
    Fault::UpstreamTimeout => ["fault_upstream_timeout": Fault::UpstreamTimeout],
    Fault::UpstreamBusy { .. } => ["fault_upstream_busy": Fault::UpstreamBusy { retry_after_ns: 250_000_000 }],
    Fault::Overloaded { .. } => ["fault_overloaded": Fault::Overloaded { retry_after_ns: 250_000_000 }],
    Fault::Internal => ["fault_internal": Fault::Internal],
});

matrix!(cuts: CutReason {
    CutReason::Disabled => ["cut_key_disabled": CutReason::Disabled],
    CutReason::Deleted => ["cut_key_deleted": CutReason::Deleted],
    CutReason::Expired => ["cut_key_expired": CutReason::Expired],
    CutReason::GraceEnded => ["cut_grace_ended": CutReason::GraceEnded],
    CutReason::Upstream => ["cut_upstream": CutReason::Upstream],
});

/// Every refusal, the flaws spelled out.
fn refusals() -> Vec<(&'static str, Refusal)> {
    let mut all: Vec<_> =
        refusals_but_flaws().into_iter().filter(|(name, _)| !["head", "body"].contains(name)).collect();
    all.extend(head_flaws().into_iter().map(|(name, flaw)| (name, Refusal::Head(flaw))));
    all.extend(body_flaws().into_iter().map(|(name, flaw)| (name, Refusal::Body(flaw))));
    all
}

fn shown(answer: &Answer) -> String {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("our headers are text")))
        .collect();
    headers.sort();
    let body = std::str::from_utf8(&answer.body).expect("our bodies are text");
    format!("{}\n{}\n\n{body}\n", answer.status.as_u16(), headers.join("\n"))
}

/// The event of each endpoint, with the endpoints that share one listed above it; `\r` is shown.
fn shown_cut(words: &dyn Dialect, reason: CutReason) -> String {
    let mut events: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for endpoint in Endpoint::ALL {
        let event = words.cut_event(endpoint, reason);
        let event = std::str::from_utf8(&event).expect("our events are text").replace('\r', "\\r");
        events.entry(event).or_default().push(endpoint.as_str());
    }
    events.iter().fold(String::new(), |mut text, (event, endpoints)| {
        let _ = writeln!(text, "# {}\n{event}", endpoints.join(", "));
        text
    })
}

/// Every file of the matrix, by its path below `tests/golden`.
fn matrix() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for name in DialectName::ALL {
        let words = dialect::of(name);
        let mut put = |case: &str, text: String| {
            let path = Path::new(name.as_str()).join(format!("{case}.txt"));
            assert!(files.insert(path, text).is_none(), "two cases are named {case}");
        };
        for (case, refusal) in refusals() {
            put(case, shown(&words.refusal(&refusal, &notes())));
        }
        let prefers_402 = Notes { quota_status: StatusCode::PAYMENT_REQUIRED, ..notes() };
        let spent = Refusal::QuotaSpent { limit: 1_000, used: 1_000, asked: 50, resets_in_ns: None };
        put("quota_spent_402", shown(&words.refusal(&spent, &prefers_402)));
        for (case, fault) in faults() {
            put(case, shown(&words.fault(fault, &notes())));
        }
        for (case, reason) in cuts() {
            put(case, shown_cut(words, reason));
        }
    }
    files
}

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn files_on_disk() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for name in DialectName::ALL {
        let Ok(entries) = fs::read_dir(golden_dir().join(name.as_str())) else { continue };
        for entry in entries {
            let path = entry.expect("the directory can be listed").path();
            let text = fs::read_to_string(&path).expect("a golden file is text");
            found.insert(path.strip_prefix(golden_dir()).expect("it lies below").to_owned(), text);
        }
    }
    found
}

#[test]
fn every_answer_is_what_its_file_says() {
    let expected = matrix();
    if env::var_os("KEYWARD_BLESS").is_some_and(|set| set == "1") {
        for name in DialectName::ALL {
            let dir = golden_dir().join(name.as_str());
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).expect("the directory can be made");
        }
        for (path, text) in &expected {
            fs::write(golden_dir().join(path), text).expect("the file can be written");
        }
    }
    let found = files_on_disk();
    let mut faults = Vec::new();
    for (path, text) in &expected {
        match found.get(path) {
            Some(file) if file == text => {}
            Some(file) => faults.push(format!("{} differs\n--- file\n{file}\n--- answer\n{text}", path.display())),
            None => faults.push(format!("{} is missing; the answer is\n{text}", path.display())),
        }
    }
    faults.extend(
        found.keys().filter(|path| !expected.contains_key(*path)).map(|path| format!("{} is stale", path.display())),
    );
    assert!(faults.is_empty(), "{}\nKEYWARD_BLESS=1 writes the files anew", faults.join("\n"));
}

#[test]
fn an_unknown_secret_is_always_answered_with_the_same_body() {
    for name in DialectName::ALL {
        let words = dialect::of(name);
        let other = Notes { request_id: "req-0002", now: NOW.plus_ns(DAY), ..notes() };
        let (first, second) =
            (words.refusal(&Refusal::InvalidKey, &notes()), words.refusal(&Refusal::InvalidKey, &other));
        assert_eq!((first.status, first.body), (second.status, second.body), "{name:?}");
        assert_eq!(first.headers.len(), second.headers.len());
    }
}

#[test]
fn every_answer_carries_its_id_and_says_its_status_twice_alike() {
    for name in DialectName::ALL {
        let words = dialect::of(name);
        let answers = refusals().into_iter().map(|(case, refusal)| (case, words.refusal(&refusal, &notes())));
        let answers = answers.chain(faults().into_iter().map(|(case, fault)| (case, words.fault(fault, &notes()))));
        for (case, answer) in answers {
            assert_eq!(answer.headers.get(words.request_id_header()).unwrap(), "req-0001", "{name:?} {case}");
            assert_eq!(answer.headers.get("content-type").unwrap(), "application/json", "{name:?} {case}");
            let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("a body is JSON");
            assert!(body["error"]["message"].as_str().is_some_and(|text| text.ends_with('.')), "{name:?} {case}");
            if name == DialectName::Gemini {
                assert_eq!(body["error"]["code"], answer.status.as_u16(), "{case}");
            }
            let refused_for_good = [400, 401, 402, 403, 404, 405, 413, 415].contains(&answer.status.as_u16());
            if refused_for_good {
                assert_eq!(answer.headers.get("x-should-retry").unwrap(), "false", "{name:?} {case}");
            }
        }
    }
}

#[test]
fn an_id_that_is_no_header_value_is_left_out_and_escaped_in_a_body() {
    for name in DialectName::ALL {
        let words = dialect::of(name);
        let odd = Notes { request_id: "a\"\n\u{1}b", ..notes() };
        let answer = words.refusal(&Refusal::UnknownPath, &odd);
        assert!(!answer.headers.contains_key(words.request_id_header()));
        assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok(), "{name:?}");
    }
}
