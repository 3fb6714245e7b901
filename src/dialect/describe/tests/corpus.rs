//! Every body the fuzzer has kept, under the same laws as in `fuzz/fuzz_targets/scanner.rs`.

use std::path::Path;

use super::*;

#[test]
fn what_the_fuzzer_kept_is_refused_or_stays_sound_when_edited() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/scanner");
    let mut accepted = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        let [dialect, endpoint, body @ ..] = input.as_slice() else { continue };
        let dialect = DialectName::ALL[usize::from(*dialect) % DialectName::ALL.len()];
        let endpoint = Endpoint::ALL[usize::from(*endpoint) % Endpoint::ALL.len()];
        let is_form = body.starts_with(b"--b");
        let call = Call {
            path_model: ModelName::new("m").filter(|_| dialect == DialectName::Gemini),
            content_type: if is_form { "multipart/form-data; boundary=b" } else { JSON },
            ..Call::to(dialect, endpoint)
        };
        let Ok(described) = call.describe(body) else { continue };
        accepted += 1;
        assert!(is_form || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok());
        let edits = Edits { model: Some("m"), output: Some(7), include_usage: true };
        let edited = described.splices.render(&Bytes::copy_from_slice(body), &edits);
        let again = call.good(&edited);
        assert_eq!(again.splices.render(&edited, &edits), edited, "a second edit changes nothing");
    }
    assert!(accepted >= 10, "the seeds are sound bodies, {accepted} were accepted");
}
