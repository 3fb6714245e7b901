//! Bodies: every byte as it came, but for what is spliced.

use super::{backend, proxy, seen};
use crate::harness::proxy::ALICE;
use crate::harness::{Proxy, apis};

const ALIAS: &str = "[models]\n\"fast\" = \"the-real-one\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_keeps_every_byte() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    let body = "\n { \"x\" : 1e5 ,\t\"messages\":[ {\"role\":\"user\",\"content\":\"\\u00e9 \u{e9} \\\"model\\\":\\\"x\\\" \\ud83d\\ude00\"}], \"model\" :\"gpt-4o\",\"y\":null , \"z\":-0.0}  \r\n";
    let seen = seen(&proxy, &backend, &apis::OPENAI.request(apis::OPENAI.path, ALICE, "", body)).await;
    assert_eq!(seen.text(), body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_is_written_over_the_name_alone() {
    let backend = backend();
    let proxy = proxy(&backend, ALIAS);
    for (api, path, body) in [
        (
            &apis::OPENAI,
            "/v1/chat/completions",
            "{ \"messages\":[{\"content\":\"fast \\\"model\\\":\\\"fast\\\"\"}], \"model\" : \"fast\" }",
        ),
        (&apis::OPENAI, "/v1/embeddings", "{\"input\":\"fast\",\"model\":\"fast\"}"),
        (&apis::ANTHROPIC, "/v1/messages", "{\"max_tokens\":1,\"model\":\"fast\",\"messages\":[]}"),
        (&apis::AZURE, "/openai/v1/chat/completions", "{\"model\":\"fast\",\"messages\":[]}"),
    ] {
        let seen = seen(&proxy, &backend, &api.request(path, ALICE, "", body)).await;
        let at = body.find("\"model\" : \"fast\"").or(body.find("\"model\":\"fast\"")).expect("a model");
        let expected = body[..at].to_owned() + &body[at..].replacen("fast", "the-real-one", 1);
        assert_eq!(seen.text(), expected);
        assert_eq!(seen.header("content-length"), Some(expected.len().to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_is_written_into_the_path_and_the_body_of_a_deployment() {
    let backend = backend();
    let proxy = proxy(&backend, ALIAS);
    let request = apis::AZURE.request(
        "/openai/deployments/fast/chat/completions?api-version=1",
        ALICE,
        "",
        "{\"model\":\"fast\",\"messages\":[]}",
    );
    let seen = seen(&proxy, &backend, &request).await;
    assert_eq!(seen.path(), "/openai/deployments/the-real-one/chat/completions?api-version=1");
    assert_eq!(seen.text(), "{\"model\":\"the-real-one\",\"messages\":[]}");
}

fn form(model: &str) -> Vec<u8> {
    let mut form = format!("--bound\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--bound\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n").into_bytes();
    form.extend((0..=255_u8).cycle().take(70_000));
    form.extend_from_slice(b"\r\n--boun\r\nd\r\n--bound--\r\n");
    form
}

async fn sends_form(proxy: &Proxy, backend: &crate::harness::Backend, path: &str, body: &[u8]) -> crate::harness::Seen {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\ncontent-type: multipart/form-data; boundary=bound\r\ncontent-length: {length}\r\n\r\n"
    );
    seen(proxy, backend, &[head.as_bytes(), body].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_keeps_every_byte_but_an_aliased_model() {
    let backend = backend();
    let proxy = proxy(&backend, ALIAS);
    for path in [
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/openai/deployments/whisper-1/audio/transcriptions?api-version=1",
    ] {
        let seen = sends_form(&proxy, &backend, path, &form("whisper-1")).await;
        assert!(seen.body == form("whisper-1"), "{path}");
        assert_eq!(seen.path(), path);
        assert_eq!(seen.header("content-type").as_deref(), Some("multipart/form-data; boundary=bound"));
    }
    let seen = sends_form(&proxy, &backend, "/v1/audio/transcriptions", &form("fast")).await;
    assert!(seen.body == form("the-real-one"));
    assert_eq!(seen.header("content-length"), Some(form("the-real-one").len().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_goes_on_whole() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    let text = "lorem ipsum ".repeat(200_000);
    let body = format!("{{\"model\":\"gpt-4o\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}");
    let seen = seen(&proxy, &backend, &apis::OPENAI.request(apis::OPENAI.path, ALICE, "", &body)).await;
    assert!(seen.text() == body);
}
