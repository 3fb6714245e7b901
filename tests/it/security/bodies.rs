//! The body: what is checked is what is read.

use crate::bodies::{CALLS, JSON, Refusing};

/// Names whose meaning decides what is allowed or what it costs, and a value each takes.
const WATCHED: [(&str, &str); 17] = [
    ("model", "\"m\""),
    ("models", "[\"m\"]"),
    ("stream", "false"),
    ("stream_options", "{}"),
    ("n", "1"),
    ("best_of", "1"),
    ("max_tokens", "5"),
    ("max_completion_tokens", "5"),
    ("max_output_tokens", "5"),
    ("input", "\"a\""),
    ("prompt", "\"a\""),
    ("messages", "[]"),
    ("contents", "[]"),
    ("fallbacks", "[\"m\"]"),
    ("route", "\"fallback\""),
    ("api_base", "null"),
    ("base_url", "null"),
];

/// Spellings that some parser reads as `name`: letter case, escapes, what folds to a letter, what a C string ends at.
fn disguises(name: &str) -> Vec<String> {
    let escaped = |at: usize| {
        let code = name.as_bytes()[at];
        format!("{}\\u{code:04x}{}", &name[..at], &name[at + 1..])
    };
    let mut all = vec![
        name.to_uppercase(),
        format!("{}{}", name[..1].to_uppercase(), &name[1..]),
        format!("{}{}", &name[..name.len() - 1], name[name.len() - 1..].to_uppercase()),
        format!("{name}\\u0000"),
        format!("{name}\\u0000x"),
        escaped(0),
        escaped(name.len() - 1),
    ];
    all.extend(name.contains('k').then(|| name.replace('k', "\u{212a}")));
    all.extend(name.contains('k').then(|| name.replace('k', "\\u212A")));
    all.extend(name.contains('s').then(|| name.replace('s', "\u{17f}")));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_member_stands_once_and_in_its_own_spelling() {
    let mut proxy = Refusing::start().await;
    for path in CALLS {
        for (name, value) in WATCHED {
            let model = if name == "model" { String::new() } else { "\"model\":\"m\",".to_owned() };
            for other in disguises(name) {
                // Beside the real one, before it, and alone.
                for members in [
                    format!("\"{name}\":{value},\"{other}\":{value}"),
                    format!("\"{other}\":{value},\"{name}\":{value}"),
                    format!("\"{other}\":{value}"),
                ] {
                    let body = format!("{{{model}{members}}}");
                    let refused = proxy.status(path, JSON, body.as_bytes()).await;
                    assert_eq!(refused, 400, "{path} {body}");
                }
            }
            let twice = format!("{{{model}\"{name}\":{value},\"x\":1,\"{name}\":{value}}}");
            assert_eq!(proxy.status(path, JSON, twice.as_bytes()).await, 400, "{path} {twice}");
        }
    }
    proxy.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_a_plain_name_and_a_count_a_whole_number_in_range() {
    let mut proxy = Refusing::start().await;
    let long = format!("\"{}\"", "m".repeat(257));
    let models = [
        "\"\"",
        "\" m\"",
        "\"m \"",
        "\"m\\u0000\"",
        "\"m\\n\"",
        "\"a/../b\"",
        "\"..\"",
        "\"m?x\"",
        "\"m#x\"",
        "\"m%2f\"",
        "\"\u{e9}\"",
        "\"m,n\"",
        "\"m\\\\n\"",
        "[\"m\"]",
        "{\"id\":\"m\"}",
        "1",
        "true",
        "null",
        &long,
    ];
    for model in models {
        for path in [CALLS[0], CALLS[1]] {
            let body = format!("{{\"model\":{model},\"messages\":[]}}");
            assert_eq!(proxy.status(path, JSON, body.as_bytes()).await, 400, "{path} {body}");
        }
    }
    let counts = [
        "-1",
        "1.0",
        "1.5",
        "1e1",
        "1E400",
        "\"5\"",
        "[5]",
        "{}",
        "true",
        "99999999999",
        "18446744073709551617",
        "-0.0",
        "0x5",
        "05",
        "NaN",
    ];
    for name in ["max_tokens", "max_completion_tokens", "n", "best_of"] {
        for count in counts {
            let body = format!("{{\"model\":\"m\",\"{name}\":{count}}}");
            assert_eq!(proxy.status("/v1/completions", JSON, body.as_bytes()).await, 400, "{body}");
        }
    }
    proxy.is_unharmed().await;
}

/// Where another model could be meant than the one that was checked, the call is refused or not offered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_named_anywhere_else_is_resolved_or_the_call_is_denied() {
    let mut proxy = Refusing::for_key("models_allowed = [\"m\"]").await;
    let chat = br#"{"model":"m","messages":[]}"#;
    for path in [
        "/v1beta/models/x:generateContent",
        "/v1beta/models/x:streamGenerateContent",
        "/openai/deployments/x/chat/completions",
        "/openai/deployments/x/embeddings",
    ] {
        assert_eq!(proxy.status(path, JSON, b"{}").await, 403, "{path}");
    }
    for query in ["model=x", "Model=x", "m%6fdel=x", "models=x"] {
        assert_eq!(proxy.status_and_close(&format!("/v1/chat/completions?{query}"), JSON, chat).await, 400, "{query}");
    }
    for path in [
        "/v1/batches",
        "/v1/files",
        "/v1/threads",
        "/v1/assistants",
        "/v1/conversations",
        "/v1/fine_tuning/jobs",
        "/v1/messages/batches",
        "/v1beta/tunedModels/x:generateContent",
        "/v1/prompts",
    ] {
        assert_eq!(proxy.status(path, JSON, chat).await, 404, "{path}");
    }
    for body in [
        &br#"{"previous_response_id":"resp_1"}"#[..],
        br#"{"prompt":{"id":"pmpt_1"}}"#,
        br#"{"model":"m","input":"a","prompt":{"id":"pmpt_1"}}"#,
        br#"{"model":"m","input":"a","api_base":"http://evil"}"#,
        br#"{"model":"m","input":"a","extra_body":{"model":"x"}}"#,
        br#"{"model":"m","input":"a","tools":[{"type":"image_generation","model":"x"}]}"#,
    ] {
        let status = proxy.status("/v1/responses", JSON, body).await;
        assert!([400, 403].contains(&status), "{}: {status}", String::from_utf8_lossy(body));
    }
    proxy.is_unharmed().await;
}
