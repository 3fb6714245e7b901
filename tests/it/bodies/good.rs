//! Unusual bodies that are good ones: to the byte, the backend gets what the client sent.

use super::{CALLS, JSON, post};
use crate::harness::{Backend, Client, Proxy};

/// Sends each body to its call and compares what arrived.
async fn arrive(bodies: &[(&str, String)]) {
    let backend = Backend::json("{}");
    let proxy = Proxy::with_key(&backend, "");
    let mut client = Client::connect(proxy.address).await;
    for (count, (path, body)) in bodies.iter().enumerate() {
        client.send(&post(path, JSON, body.as_bytes())).await;
        let answer = client.answer().await;
        let shown = &body[..body.char_indices().map(|(at, _)| at).take_while(|at| *at < 200).last().unwrap_or(0)];
        assert_eq!(answer.status, 200, "{path} {shown}: {}", answer.text());
        let seen = &backend.seen()[count];
        assert!(seen.body == body.as_bytes(), "{path} {shown}");
        assert_eq!(seen.header("content-length"), Some(body.len().to_string()));
    }
}

fn everywhere(members: &str) -> Vec<(&'static str, String)> {
    CALLS.iter().map(|path| (*path, format!("{{\"model\":\"m\",{members}}}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strings_of_every_kind() {
    arrive(&everywhere("\"a\":\"\u{1F600} \u{5d0}\u{202e}\u{2028}\u{feff}\u{7f}\\u0000\u{10FFFF}\"")).await;
    arrive(&everywhere(r#""a":"\ud83d\ude00 \u0041 \/ \\ \" \b\f\n\r\t","b":"\ud83d alone""#)).await;
    arrive(&everywhere(r#""metadata":{"model":"x","Model":"y","api_base":"z","model":"w"}"#)).await;
    arrive(&everywhere(r#""":0,"a":{"":[]},"mod":1,"modeller":2,"m\u006f":3"#)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_and_spaces_of_every_kind() {
    arrive(&everywhere(r#""a":[0,-0,1e400,-1E-7,0.0000001,123456789012345678901234567890,1.7976931348623157e308]"#))
        .await;
    let spaced = CALLS
        .iter()
        .map(|path| (*path, " \r\n\t{ \"model\"\t:\r\n\"m\" ,\n \"a\" : [ ] , \"b\" : { } } \r\n\t ".to_owned()));
    arrive(&spaced.collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nesting_up_to_the_limit() {
    let arrays = format!("\"a\":{}{}", "[".repeat(127), "]".repeat(127));
    let objects = format!("\"a\":{}1{}", "{\"a\":".repeat(127), "}".repeat(127));
    arrive(&everywhere(&arrays)).await;
    arrive(&everywhere(&objects)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_escaped_slashes_and_nulls() {
    arrive(&[
        (CALLS[0], r#"{"model":"openai\/gpt-4o","messages":[]}"#.to_owned()),
        (CALLS[1], r#"{"model":"anthropic\/claude-4@2026","messages":[]}"#.to_owned()),
        (CALLS[0], r#"{"model":"ft:gpt-4o:org::id","stream":null,"max_tokens":null,"n":null,"tools":null}"#.to_owned()),
        (CALLS[0], r#"{"model":"m","api_base":null,"base_url":null,"fallbacks":null}"#.to_owned()),
        (CALLS[2], r#"{"model":"models/m","contents":[]}"#.to_owned()),
        (CALLS[3], r#"{"model":"m","messages":[]}"#.to_owned()),
    ])
    .await;
}

/// Claude Code: a long conversation, and whether it is a stream stands at its very end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_conversation_with_the_stream_last() {
    let text = "The quick brown fox \u{2014} \\\"jumps\\\" over {\\n} [the] lazy dog. ".repeat(2_150);
    let body = format!(
        "{{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":32000,\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}],\"stream\":true}}"
    );
    assert!(body.len() > 120 * 1024, "{}", body.len());
    let usage = body.replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    arrive(&[(CALLS[1], body), (CALLS[0], usage)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes() {
    let image = "iVBORw0KGgo".repeat(300_000);
    let members = format!(
        "\"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\"image_url\",\"image_url\":{{\"url\":\"data:image/png;base64,{image}\"}}}}]}}]"
    );
    arrive(&everywhere(&members)).await;
}
