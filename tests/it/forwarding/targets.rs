//! Methods, paths and queries.

use keyward::clock::Clock;

use super::{backend, credential, proxy, refused, seen};
use crate::harness::proxy::ALICE;
use crate::harness::{Backend, Client, Proxy, apis, get};

const CHAT: &str = "{\"model\":\"gpt-4o\",\"messages\":[]}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_keeps_its_bytes_but_for_the_secret() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    for (query, kept) in [
        ("?beta=true", "?beta=true"),
        ("?a=%20b&&c=+d&e", "?a=%20b&&c=+d&e"),
        (&format!("?key={ALICE}"), ""),
        (&format!("?a=1&key={ALICE}&b=2"), "?a=1&b=2"),
        (&format!("?alt=sse&key={ALICE}"), "?alt=sse"),
        (&format!("?k%65y={ALICE}&a=1"), "?a=1"),
    ] {
        let request = apis::ANTHROPIC.request(&format!("/v1/messages{query}"), ALICE, "", apis::ANTHROPIC.body);
        assert_eq!(seen(&proxy, &backend, &request).await.path(), format!("/v1/messages{kept}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_apis_paths_go_on_as_they_came() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    let gemini = apis::GEMINI.body;
    let embed = "{\"content\":{\"parts\":[{\"text\":\"a\"}]}}";
    for (api, path, body) in [
        (&apis::OPENAI, "/v1/completions", "{\"model\":\"m\",\"prompt\":\"a\"}"),
        (&apis::OPENAI, "/v1/responses", "{\"model\":\"m\",\"input\":\"a\"}"),
        (&apis::OPENAI, "/v1/embeddings", "{\"model\":\"m\",\"input\":\"a\"}"),
        (&apis::OPENAI, "/v1/moderations", "{\"input\":\"a\"}"),
        (&apis::OPENAI, "/v1/images/generations", "{\"model\":\"m\",\"prompt\":\"a\"}"),
        (&apis::OPENAI, "/v1/rerank", "{\"model\":\"m\",\"query\":\"a\",\"documents\":[]}"),
        (&apis::ANTHROPIC, "/v1/messages/count_tokens", "{\"model\":\"m\",\"messages\":[]}"),
        (&apis::GEMINI, "/v1beta/models/gemini-pro:streamGenerateContent?alt=sse", gemini),
        (&apis::GEMINI, "/v1beta/models/gemini-pro:streamGenerateContent", gemini),
        (&apis::GEMINI, "/v1/models/gemini-pro:generateContent", gemini),
        (&apis::GEMINI, "/models/gemini-pro:generateContent", gemini),
        (&apis::GEMINI, "/v1beta/models/gemini-pro:embedContent", embed),
        (&apis::GEMINI, "/v1beta/models/gemini-pro:countTokens", gemini),
        (&apis::AZURE, "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", "{\"messages\":[]}"),
        (&apis::AZURE, "/openai/deployments/my-gpt/embeddings?api-version=2024-10-21", "{\"input\":\"a\"}"),
        (&apis::AZURE, "/openai/v1/chat/completions?api-version=preview", CHAT),
        (&apis::AZURE, "/openai/responses?api-version=2025-04-01-preview", "{\"model\":\"m\",\"input\":\"a\"}"),
    ] {
        let seen = seen(&proxy, &backend, &api.request(path, ALICE, "", body)).await;
        assert!(seen.head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{}", seen.head);
        assert_eq!(seen.text(), body);
        assert!(super::lines(&seen).contains(&credential(api)), "{path}: {}", seen.head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absolute_target_goes_on_as_a_path() {
    let backend = backend();
    let proxy = proxy(&backend, "");
    let request = String::from_utf8(apis::OPENAI.call(ALICE, "")).expect("text");
    let request = request.replacen("POST /v1", "POST http://proxy/v1", 1);
    let seen = seen(&proxy, &backend, request.as_bytes()).await;
    assert_eq!(seen.path(), "/v1/chat/completions");
    assert_eq!(seen.header("host"), Some(backend.address.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_url_may_have_a_path_of_its_own() {
    for (prefix, path) in [
        ("/gateway", "/gateway/v1/chat/completions"),
        ("/gateway/", "/gateway/v1/chat/completions"),
        ("/gateway/v1", "/gateway/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
    ] {
        let backend = backend();
        let text = Proxy::config_for(&backend, "")
            .replace(&format!("http://{}", backend.address), &format!("http://{}{prefix}", backend.address));
        let proxy = Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system());
        let seen = seen(&proxy, &backend, &apis::OPENAI.call(ALICE, "")).await;
        assert_eq!((seen.path(), seen.header("host")), (path, Some(backend.address.to_string())), "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_is_written_into_the_path() {
    let backend = backend();
    let proxy = proxy(&backend, "[models]\n\"fast\" = \"the-real-one\"\n");
    for (api, path, real) in [
        (&apis::GEMINI, "/v1beta/models/fast:generateContent", "/v1beta/models/the-real-one:generateContent"),
        (
            &apis::GEMINI,
            "/v1beta/models/fast:streamGenerateContent?alt=sse",
            "/v1beta/models/the-real-one:streamGenerateContent?alt=sse",
        ),
        (&apis::GEMINI, "/models/fast:generateContent", "/models/the-real-one:generateContent"),
        (
            &apis::AZURE,
            "/openai/deployments/fast/chat/completions?api-version=1",
            "/openai/deployments/the-real-one/chat/completions?api-version=1",
        ),
    ] {
        let seen = seen(&proxy, &backend, &api.request(path, ALICE, "", api.body)).await;
        assert_eq!((seen.path(), seen.text().as_str()), (real, api.body));
    }
}

const PASSTHROUGH: &str = "[[passthrough]]\npath = \"/v1/files\"\nmethods = [\"GET\", \"POST\", \"DELETE\"]\nupstream = \"openai\"\nmodel_free = true\n\
    [[passthrough]]\npath = \"/v2/chat\"\nmethods = [\"POST\"]\nupstream = \"anthropic\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_own_paths_go_to_their_upstream() {
    let backend = backend();
    let proxy = proxy(&backend, PASSTHROUGH);
    let seen_get = seen(&proxy, &backend, &get("/v1/files?purpose=x", ALICE)).await;
    assert!(seen_get.head.starts_with("GET /v1/files?purpose=x HTTP/1.1\r\n"), "{}", seen_get.head);
    assert_eq!((seen_get.header("content-length"), seen_get.header("content-type")), (None, None));
    assert!(super::lines(&seen_get).contains(&credential(&apis::OPENAI)));
    let delete = String::from_utf8(get("/v1/files", ALICE)).expect("text").replacen("GET", "DELETE", 1);
    assert!(seen(&proxy, &backend, delete.as_bytes()).await.head.starts_with("DELETE /v1/files HTTP/1.1\r\n"));

    let upload = format!(
        "POST /v1/files HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\ncontent-type: application/octet-stream\r\ncontent-length: 4\r\n\r\n\0\u{1}\r\n"
    );
    let uploaded = seen(&proxy, &backend, upload.as_bytes()).await;
    assert_eq!(
        (uploaded.body.as_slice(), uploaded.header("content-type").as_deref()),
        (&b"\0\x01\r\n"[..], Some("application/octet-stream"))
    );

    let chat = seen(&proxy, &backend, &apis::OPENAI.request("/v2/chat", ALICE, "", CHAT)).await;
    assert_eq!((chat.path(), chat.text().as_str()), ("/v2/chat", CHAT));
    assert!(super::lines(&chat).contains(&credential(&apis::ANTHROPIC)), "{}", chat.head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_with_a_list_of_models_uses_the_operators_paths_only_as_far_as_it_says() {
    let backend = backend();
    let keys = Proxy::keys_of(&[("alice", ALICE, "models_allowed = [\"gpt-4o\"]")]);
    let proxy = Proxy::start(&Proxy::config_for(&backend, PASSTHROUGH), &keys, Clock::system());
    for body in ["{\"model\":\"other\"}", "{\"messages\":[]}", CHAT] {
        let answer = Client::once(proxy.address, &apis::OPENAI.request("/v2/chat", ALICE, "", body)).await;
        assert_eq!(answer.status, 403, "{body}: {}", answer.text());
        refused(&answer, &backend);
    }
    seen(&proxy, &backend, &get("/v1/files", ALICE)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_json_needs_no_model_on_the_operators_paths() {
    let backend = backend();
    let proxy = proxy(&backend, PASSTHROUGH);
    let upload = format!(
        "POST /v2/chat HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\ncontent-type: application/octet-stream\r\ncontent-length: 4\r\n\r\nabcd"
    );
    assert_eq!(seen(&proxy, &backend, upload.as_bytes()).await.text(), "abcd");
    let without = apis::OPENAI.request("/v2/chat", ALICE, "", "{\"messages\":[]}");
    assert_eq!(seen(&proxy, &backend, &without).await.text(), "{\"messages\":[]}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_to_the_upstream_of_their_model_and_api() {
    let (one, two): (Backend, Backend) = (backend(), backend());
    let upstream = |name: &str, dialect: &str, at: &Backend, models: &str| {
        format!(
            "[[upstreams]]\nname = \"{name}\"\ndialect = \"{dialect}\"\nurl = \"http://{}\"\napi_key = \"credential-of-{name}\"\nmodels = [{models}]\n",
            at.address
        )
    };
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ndrain_timeout = \"100ms\"\n".to_owned()
        + &upstream("first", "openai", &one, "\"gpt-*\"")
        + &upstream("second", "openai", &two, "\"*\"")
        + &upstream("claude", "anthropic", &one, "\"claude*\"");
    let proxy = Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system());
    let chat = |model: &str| {
        apis::OPENAI.request("/v1/chat/completions", ALICE, "", &format!("{{\"model\":\"{model}\",\"messages\":[]}}"))
    };
    let to_first = seen(&proxy, &one, &chat("gpt-4o")).await;
    assert_eq!(to_first.header("authorization").as_deref(), Some("Bearer credential-of-first"));
    let to_second = seen(&proxy, &two, &chat("claude-3")).await;
    assert_eq!(to_second.header("authorization").as_deref(), Some("Bearer credential-of-second"));
    let to_claude = seen(&proxy, &one, &apis::ANTHROPIC.call(ALICE, "")).await;
    assert_eq!(
        (to_claude.header("x-api-key").as_deref(), to_claude.header("authorization")),
        (Some("credential-of-claude"), None)
    );
    let nobody =
        apis::ANTHROPIC.request("/v1/messages", ALICE, "", "{\"model\":\"gpt-4o\",\"max_tokens\":1,\"messages\":[]}");
    assert_eq!(Client::once(proxy.address, &nobody).await.status, 404);
}
