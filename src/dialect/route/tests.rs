//! Good paths and bad ones, by table.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn headers(names: &[&'static str]) -> Headers {
    names.iter().map(|name| (http::HeaderName::from_static(name), HeaderValue::from_static("x"))).collect()
}

fn ask(method: Method, path: &str) -> Result<Route, Refusal> {
    route(&method, path, None, &Headers::new(), &[])
}

use crate::policy::DialectName as D;
use crate::policy::Endpoint as E;

const POSTS: [(&str, D, E, Option<&str>); 55] = [
    ("/v1/chat/completions", D::OpenAi, E::ChatCompletions, None),
    ("/v1/completions", D::OpenAi, E::Completions, None),
    ("/v1/responses", D::OpenAi, E::Responses, None),
    ("/v1/embeddings", D::OpenAi, E::Embeddings, None),
    ("/v1/moderations", D::OpenAi, E::Moderations, None),
    ("/v1/images/generations", D::OpenAi, E::ImageGenerations, None),
    ("/v1/images/edits", D::OpenAi, E::ImageEdits, None),
    ("/v1/images/variations", D::OpenAi, E::ImageVariations, None),
    ("/v1/audio/speech", D::OpenAi, E::AudioSpeech, None),
    ("/v1/audio/transcriptions", D::OpenAi, E::AudioTranscriptions, None),
    ("/v1/audio/translations", D::OpenAi, E::AudioTranslations, None),
    ("/v1/rerank", D::OpenAi, E::Rerank, None),
    ("/v1/messages", D::Anthropic, E::Messages, None),
    ("/v1/messages/count_tokens", D::Anthropic, E::CountTokens, None),
    ("/v1beta/models/gemini-2.0-flash:generateContent", D::Gemini, E::GenerateContent, Some("gemini-2.0-flash")),
    ("/v1beta/models/g:streamGenerateContent", D::Gemini, E::StreamGenerateContent, Some("g")),
    ("/v1beta/models/g:embedContent", D::Gemini, E::EmbedContent, Some("g")),
    ("/v1beta/models/g:batchEmbedContents", D::Gemini, E::BatchEmbedContents, Some("g")),
    ("/v1beta/models/g:countTokens", D::Gemini, E::GeminiCountTokens, Some("g")),
    ("/v1/models/g:generateContent", D::Gemini, E::GenerateContent, Some("g")),
    ("/v1/models/g:streamGenerateContent", D::Gemini, E::StreamGenerateContent, Some("g")),
    ("/v1/models/g:embedContent", D::Gemini, E::EmbedContent, Some("g")),
    ("/v1/models/g:batchEmbedContents", D::Gemini, E::BatchEmbedContents, Some("g")),
    ("/v1/models/g:countTokens", D::Gemini, E::GeminiCountTokens, Some("g")),
    ("/models/g:generateContent", D::Gemini, E::GenerateContent, Some("g")),
    ("/models/g:streamGenerateContent", D::Gemini, E::StreamGenerateContent, Some("g")),
    ("/models/g:embedContent", D::Gemini, E::EmbedContent, Some("g")),
    ("/models/g:batchEmbedContents", D::Gemini, E::BatchEmbedContents, Some("g")),
    ("/models/g:countTokens", D::Gemini, E::GeminiCountTokens, Some("g")),
    ("/v1beta/models/org/llama3:8b:generateContent", D::Gemini, E::GenerateContent, Some("org/llama3:8b")),
    ("/models/id@main:countTokens", D::Gemini, E::GeminiCountTokens, Some("id@main")),
    ("/openai/deployments/gpt-4o/chat/completions", D::Azure, E::ChatCompletions, Some("gpt-4o")),
    ("/openai/deployments/ft:a+b@c/chat/completions", D::Azure, E::ChatCompletions, Some("ft:a+b@c")),
    ("/openai/deployments/d/completions", D::Azure, E::Completions, Some("d")),
    ("/openai/deployments/d/embeddings", D::Azure, E::Embeddings, Some("d")),
    ("/openai/deployments/d/images/generations", D::Azure, E::ImageGenerations, Some("d")),
    ("/openai/deployments/d/images/edits", D::Azure, E::ImageEdits, Some("d")),
    ("/openai/deployments/d/audio/speech", D::Azure, E::AudioSpeech, Some("d")),
    ("/openai/deployments/d/audio/transcriptions", D::Azure, E::AudioTranscriptions, Some("d")),
    ("/openai/deployments/d/audio/translations", D::Azure, E::AudioTranslations, Some("d")),
    ("/openai/deployments/d/responses", D::Azure, E::Responses, Some("d")),
    ("/openai/deployments/chat/completions", D::Azure, E::Completions, Some("chat")),
    ("/openai/responses", D::Azure, E::Responses, None),
    ("/openai/v1/chat/completions", D::Azure, E::ChatCompletions, None),
    ("/openai/v1/completions", D::Azure, E::Completions, None),
    ("/openai/v1/responses", D::Azure, E::Responses, None),
    ("/openai/v1/embeddings", D::Azure, E::Embeddings, None),
    ("/openai/v1/moderations", D::Azure, E::Moderations, None),
    ("/openai/v1/images/generations", D::Azure, E::ImageGenerations, None),
    ("/openai/v1/images/edits", D::Azure, E::ImageEdits, None),
    ("/openai/v1/images/variations", D::Azure, E::ImageVariations, None),
    ("/openai/v1/audio/speech", D::Azure, E::AudioSpeech, None),
    ("/openai/v1/audio/transcriptions", D::Azure, E::AudioTranscriptions, None),
    ("/openai/v1/audio/translations", D::Azure, E::AudioTranslations, None),
    ("/openai/v1/rerank", D::Azure, E::Rerank, None),
];

const GETS: [(&str, D, E, Option<&str>); 15] = [
    ("/v1/models", D::OpenAi, E::Models, None),
    ("/v1/models/gpt-4o", D::OpenAi, E::Model, Some("gpt-4o")),
    ("/v1/models/org/model:free", D::OpenAi, E::Model, Some("org/model:free")),
    ("/v1/models/ft:gpt-4o+x", D::OpenAi, E::Model, Some("ft:gpt-4o+x")),
    ("/v1/models/g:GenerateContent", D::OpenAi, E::Model, Some("g:GenerateContent")),
    ("/v1/key", D::OpenAi, E::KeyStatus, None),
    ("/api/usage/token/", D::OpenAi, E::TokenUsage, None),
    ("/api/usage/token", D::OpenAi, E::TokenUsage, None),
    ("/v1beta/models", D::Gemini, E::Models, None),
    ("/v1beta/models/gemini-2.0-flash", D::Gemini, E::Model, Some("gemini-2.0-flash")),
    ("/v1beta/models/org/model", D::Gemini, E::Model, Some("org/model")),
    ("/openai/models", D::Azure, E::Models, None),
    ("/openai/models/gpt-4o", D::Azure, E::Model, Some("gpt-4o")),
    ("/openai/v1/models", D::Azure, E::Models, None),
    ("/openai/v1/models/org/model", D::Azure, E::Model, Some("org/model")),
];

fn check(found: &Route, path: &str, dialect: D, endpoint: E, model: Option<&str>) {
    assert_eq!((found.dialect, found.endpoint, found.passthrough), (dialect, endpoint, None), "{path}");
    assert_eq!(found.model.as_ref().map(ModelName::as_str), model, "{path}");
    assert_eq!(found.model_range.clone().map(|range| &path[range]), model, "{path}");
    assert_eq!(found.streams, endpoint == E::StreamGenerateContent, "{path}");
}

#[test]
fn every_call_has_its_path_and_its_method() {
    for (path, dialect, endpoint, model) in POSTS {
        check(&ask(Method::POST, path).unwrap(), path, dialect, endpoint, model);
        for method in
            [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::CONNECT]
        {
            assert_eq!(ask(method, path), Err(Refusal::MethodNotAllowed { allowed: "POST" }), "{path}");
        }
    }
    for (path, dialect, endpoint, model) in GETS {
        for method in [Method::GET, Method::HEAD] {
            check(&ask(method, path).unwrap(), path, dialect, endpoint, model);
        }
        if !path.contains(':') {
            for method in [Method::POST, Method::DELETE, Method::OPTIONS, Method::PATCH] {
                assert_eq!(ask(method, path), Err(Refusal::MethodNotAllowed { allowed: "GET, HEAD" }), "{path}");
            }
        }
    }
}

#[test]
fn methods_are_compared_byte_for_byte() {
    let method = Method::from_bytes(b"post").unwrap();
    assert_eq!(ask(method, "/v1/responses"), Err(Refusal::MethodNotAllowed { allowed: "POST" }));
}

const UNKNOWN: [&str; 62] = [
    "/",
    "/v1",
    "/v1/",
    "/v2/chat/completions",
    "/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions/x",
    "/v1/chat",
    "/v1/Chat/completions",
    "/V1/chat/completions",
    "/v1/chat/completionS",
    "/v1/MODELS",
    "/v1/messages/batches",
    "/v1/messages/",
    "/v1/files",
    "/v1/batches",
    "/v1/images",
    "/v1/images/",
    "/v1/images/other",
    "/v1/audio",
    "/v1/realtime/",
    "/v1/realtime/calls",
    "/v1/realtime/client_secrets",
    "/v1/realtime/sessions",
    "/openai/v1/realtime/calls",
    "/openai/deployments/m/realtime",
    "/v1/responses/resp_1",
    "/v1/models/",
    "/v1/key/",
    "/v1/modelsx",
    "/v1beta/models/",
    "/v1beta/models/g:predict",
    "/v1beta/models/g:generatecontent",
    "/v1beta/models/g:GenerateContent",
    "/v1beta/models/g:",
    "/v1beta/models/:generateContent",
    "/v1beta/files",
    "/v1alpha/models/g:generateContent",
    "/v1beta/tunedModels/g:generateContent",
    "/models",
    "/models/g",
    "/models/g:predict",
    "/Models/g:generateContent",
    "/openai",
    "/openai/",
    "/openai/deployments",
    "/openai/deployments/d",
    "/openai/deployments/d/",
    "/openai/deployments/d/rerank",
    "/openai/deployments/d/moderations",
    "/openai/deployments/org/model/chat/completions",
    "/openai/deployments/d/Chat/completions",
    "/openai/Deployments/d/chat/completions",
    "/openai/chat/completions",
    "/openai/v1/messages",
    "/openai/v1/key",
    "/openai/v1/models/",
    "/openai/v2/responses",
    "/v1%41/models",
    "/healthz",
    "/metrics",
    "/v1/chat/completions%41",
];

#[test]
fn what_is_not_on_the_list_is_unknown_whatever_its_case() {
    for path in UNKNOWN {
        assert_eq!(ask(Method::POST, path), Err(Refusal::UnknownPath), "{path}");
    }
}

const FLAWED: [&str; 59] = [
    "",
    "*",
    "v1/chat/completions",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat/completions//",
    "/v1/./chat/completions",
    "/./v1/chat/completions",
    "/v1/x/../chat/completions",
    "/../v1/chat/completions",
    "/v1/chat/completions/.",
    "/v1/chat/completions/..",
    "/.",
    "/..",
    "/v1\\chat\\completions",
    "/v1/chat/completions\\",
    "/v1/chat/completions;x=1",
    "/v1;/chat/completions",
    "/v1/%2e%2e/chat/completions",
    "/v1/%2E/chat/completions",
    "/v1/.%2e/chat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/v1/chat%5ccompletions",
    "/v1/chat%5Ccompletions",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0a",
    "/v1/chat/completions%0D%0A",
    "/v1/chat/completions%1f",
    "/v1/chat/completions%7f",
    "/v1/chat/completions%20",
    "/v1/chat/completions%3b",
    "/v1/chat/completions%c3%a9",
    "/v1/chat/completions%ff",
    "/v1/chat/%252e%252e/x",
    "/v1/chat/completions%",
    "/v1/chat/completions%2",
    "/v1/chat/completions%zz",
    "/v1/chat/completions%+1",
    "/v1/chat/completions\u{0}",
    "/v1/chat/completions\n",
    "/v1/chat/completions\t",
    "/v1/chat/completions ",
    "/v1/chat/completions\u{7f}",
    "/v1/chat/completions\u{e9}",
    "/v1/chat/completion\u{17f}",
    "/v1/models/a%2fb",
    "/v1/models/a%3Ab",
    "/v1/models/a%40b",
    "/v1/models/...",
    "/v1/models/a*b",
    "/v1/models/a,b",
    "/v1/models/a/",
    "/v1beta/models/a/:generateContent",
    "/v1beta/models/a%3A8b:generateContent",
    "/v1beta/models/a..b:generateContent",
    "/v1beta/models/a~b:generateContent",
    "/openai/deployments/a%2Db/chat/completions",
    "/openai/deployments/a..b/chat/completions",
];

#[test]
fn a_path_that_could_be_read_twice_is_refused_before_it_is_looked_up() {
    let flawed = Err(Refusal::Head(HeadFlaw::Path));
    for path in FLAWED {
        let read = ask(Method::GET, path);
        let posted = ask(Method::POST, path);
        assert!(read == flawed || posted == flawed, "{path:?}: {read:?} {posted:?}");
        assert!(read.is_err() && posted.is_err(), "{path:?}");
    }
    let long = format!("/v1/models/{}", "a".repeat(257));
    assert_eq!(ask(Method::GET, &long), flawed);
}

#[test]
fn a_query_with_odd_bytes_or_a_model_is_refused() {
    let post = |query: &str| route(&Method::POST, "/v1/chat/completions", Some(query), &Headers::new(), &[]);
    for query in [
        "",
        "beta=true",
        "alt=sse&key=x",
        "api-version=2024-10-21",
        "x=%C3%A9",
        "stream=true",
        "a=/../\\",
        "x=%2e%2f%5c",
    ] {
        assert!(post(query).is_ok(), "{query}");
    }
    for query in [
        "x=é",
        "x=\u{7f}",
        "x=\n",
        "x=%",
        "x=%2",
        "x=%gg",
        "x=%00",
        "x=%0A",
        "x=%7F",
        "a=1;b=2",
        "model=o3",
        "MODEL=o3",
        "a=b&mod%65l=o3",
        "model",
        "models[]=x",
        "model%5b%5d=x",
    ] {
        assert_eq!(post(query), Err(Refusal::Head(HeadFlaw::Query)), "{query:?}");
    }
}

#[test]
fn the_headers_choose_the_dialect_only_where_paths_are_shared() {
    for (path, endpoint) in [("/v1/models", E::Models), ("/v1/models/m", E::Model), ("/v1/key", E::KeyStatus)] {
        for (names, dialect) in [
            (&[][..], D::OpenAi),
            (&["authorization"], D::OpenAi),
            (&["x-api-key"], D::OpenAi),
            (&["x-api-key", "anthropic-version"], D::Anthropic),
            (&["x-goog-api-key"], D::Gemini),
            (&["anthropic-version", "x-goog-api-key"], D::Gemini),
        ] {
            let found = route(&Method::GET, path, None, &headers(names), &[]).unwrap();
            assert_eq!((found.dialect, found.endpoint), (dialect, endpoint), "{path} {names:?}");
        }
    }
    let google = headers(&["x-goog-api-key", "anthropic-version"]);
    let chat = route(&Method::POST, "/v1/chat/completions", None, &google, &[]).unwrap();
    assert_eq!(chat.dialect, D::OpenAi);
    let azure = route(&Method::GET, "/openai/models", None, &google, &[]).unwrap();
    assert_eq!(azure.dialect, D::Azure);
}

#[test]
fn the_nearest_dialect_is_told_by_path_then_headers() {
    for (path, names, dialect) in [
        ("/v1/nothing", &[][..], D::OpenAi),
        ("/v1/nothing", &["anthropic-version"], D::Anthropic),
        ("/v1/nothing", &["x-goog-api-key"], D::Gemini),
        ("/v1/nothing", &["api-key"], D::Azure),
        ("/v1/chat/completions", &["x-goog-api-key", "anthropic-version"], D::OpenAi),
        ("/v1/messages/batches", &[], D::Anthropic),
        ("/V1/Messages", &[], D::Anthropic),
        ("/v1beta/files", &["authorization"], D::Gemini),
        ("/models/g:generateContent", &[], D::Gemini),
        ("/openai/nothing", &["authorization"], D::Azure),
        ("", &[], D::OpenAi),
        ("é", &[], D::OpenAi),
    ] {
        assert_eq!(nearest(path, &headers(names)), dialect, "{path} {names:?}");
    }
    for (path, dialect, ..) in POSTS {
        assert_eq!(nearest(path, &Headers::new()), dialect, "{path}");
    }
}

fn own(path: &str, methods: &[Method]) -> PassthroughRoute {
    PassthroughRoute { path: path.into(), methods: methods.to_vec(), upstream: "main".into(), model_free: true }
}

#[test]
fn the_operators_paths_come_after_the_built_in_ones_and_are_exact() {
    let routes = [
        own("/v1/files", &[Method::GET]),
        own("/v1/files", &[Method::POST, Method::DELETE]),
        own("/v1/chat/completions", &[Method::POST, Method::GET]),
        own("/v1/odd", &[Method::PUT]),
    ];
    let ask = |method: Method, path: &str| route(&method, path, Some("model=x"), &Headers::new(), &routes);
    for (method, index) in [(Method::GET, 0), (Method::HEAD, 0), (Method::POST, 1), (Method::DELETE, 1)] {
        let found = ask(method, "/v1/files").unwrap();
        assert_eq!((found.endpoint, found.passthrough, found.dialect), (E::Passthrough, Some(index), D::OpenAi));
    }
    let refused = Err(Refusal::MethodNotAllowed { allowed: "GET, HEAD, POST, DELETE" });
    assert_eq!(ask(Method::OPTIONS, "/v1/files"), refused);
    assert_eq!(ask(Method::GET, "/v1/odd"), Err(Refusal::MethodNotAllowed { allowed: "" }));
    for path in ["/v1/files/", "/v1/Files", "/v1/files/1"] {
        assert_eq!(ask(Method::GET, path), Err(Refusal::UnknownPath), "{path}");
    }
    assert_eq!(ask(Method::GET, "/v1//files"), Err(Refusal::Head(HeadFlaw::Path)));
    // A built-in call keeps its method; the operator's entry serves only the others.
    assert_eq!(ask(Method::POST, "/v1/chat/completions"), Err(Refusal::Head(HeadFlaw::Query)));
    assert_eq!(ask(Method::GET, "/v1/chat/completions").map(|found| found.passthrough), Ok(Some(2)));
    let both = Err(Refusal::MethodNotAllowed { allowed: "GET, HEAD, POST" });
    assert_eq!(ask(Method::PUT, "/v1/chat/completions"), both);
}

proptest! {
    #[test]
    fn nothing_panics_and_a_model_is_where_it_is_said_to_be(
        path in "(/v1|/v1beta|/models|/openai|/models/|:generateContent|/deployments/|[a-z%.:;/é0-9]){0,8}",
        query in "[a-z%=&;é0-9]{0,12}",
        post: bool,
    ) {
        let method = if post { Method::POST } else { Method::GET };
        let _ = nearest(&path, &Headers::new());
        if let Ok(found) = route(&method, &path, Some(&query), &Headers::new(), &[]) {
            let stands = found.model_range.and_then(|range| path.get(range));
            prop_assert_eq!(stands, found.model.as_ref().map(ModelName::as_str));
        }
    }
}

#[test]
fn a_path_with_two_verbs_is_refused() {
    for path in [
        "/v1beta/models/gemini-2:generateContent:countTokens",
        "/v1/models/gemini-2:generateContent:x:countTokens",
        "/models/gemini-2:countTokens:generateContent",
    ] {
        let found = route(&Method::POST, path, None, &Headers::new(), &[]);
        assert_eq!(found, Err(Refusal::Head(HeadFlaw::Path)), "{path}");
    }
    assert!(route(&Method::POST, "/v1beta/models/ft:gemini-2:countTokens", None, &Headers::new(), &[]).is_ok());
}
