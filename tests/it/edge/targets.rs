//! Request lines: methods, versions, forms of the target, paths and queries.

use super::{Attack, Edge, line};
use crate::harness::{Client, proxy::ALICE};

/// Request lines that are none.
const LINES: &[&str] = &[
    "GET  /v1/models HTTP/1.1",
    "GET /v1/models  HTTP/1.1",
    " GET /v1/models HTTP/1.1",
    "GET\t/v1/models HTTP/1.1",
    "GET /v1/models\tHTTP/1.1",
    "GET /v1/models HTTP/1.1 ",
    "GET /v1/models HTTP/1.1\t",
    "GET /v1/models HTTP/1.1 HTTP/1.1",
    "GET /v1/models HTTP/1.2",
    "GET /v1/models HTTP/1.10",
    "GET /v1/models HTTP/01.1",
    "GET /v1/models HTTP/2",
    "GET /v1/models HTTP/2.0",
    "GET /v1/models HTTP/3",
    "GET /v1/models HTTP/0.9",
    "GET /v1/models HTTP/1,1",
    "GET /v1/models HTTP/1.",
    "GET /v1/models HTTP/",
    "GET /v1/models http/1.1",
    "GET /v1/models HTTPS/1.1",
    "GET /v1/models ICY/1.1",
    "GET /v1/models RTSP/1.0",
    "GET /v1/models",
    "GET",
    "GET HTTP/1.1",
    "/v1/models HTTP/1.1",
    "G(T /v1/models HTTP/1.1",
    "GET: /v1/models HTTP/1.1",
    "G\u{c9}T /v1/models HTTP/1.1",
    "AVERYLONGMETHODNAME /v1/models HTTP/1.1",
    "GET /v1/models?a b HTTP/1.1",
    "GET /v1/mod els HTTP/1.1",
    "GET /v1/models\u{0} HTTP/1.1",
    "GET /v1/models\u{7f} HTTP/1.1",
    "GET /v1/models?\u{1} HTTP/1.1",
    // Forms of the target.
    "OPTIONS * HTTP/1.1",
    "GET * HTTP/1.1",
    "GET proxy HTTP/1.1",
    "GET proxy:80 HTTP/1.1",
    "GET v1/models HTTP/1.1",
    "GET ?a=b HTTP/1.1",
    "GET http://other/v1/models HTTP/1.1",
    "GET http://proxy:81/v1/models HTTP/1.1",
    "GET http://user@proxy/v1/models HTTP/1.1",
    "GET http://proxy@other/v1/models HTTP/1.1",
    "GET http://proxy.other/v1/models HTTP/1.1",
    "GET http:///v1/models HTTP/1.1",
    "GET http:/v1/models HTTP/1.1",
    "GET http:v1/models HTTP/1.1",
    "GET ftp://proxy/v1/models HTTP/1.1",
    "GET file:///etc/passwd HTTP/1.1",
    "GET unix:/run/socket HTTP/1.1",
    "GET http://proxy\\v1/models HTTP/1.1",
    "GET http://proxy//v1/models HTTP/1.1",
    "GET http://proxy/v1/../v1/models HTTP/1.1",
];

/// Paths that some reader takes for `/v1/chat/completions`, or for what no route should reach: 400.
const ODD_PATHS: &[&str] = &[
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat//completions",
    "/v1/chat/completions//",
    "/./v1/chat/completions",
    "/v1/./chat/completions",
    "/v1/chat/completions/.",
    "/v1/../v1/chat/completions",
    "/v1/chat/completions/..",
    "/v1/chat/completions/../../admin",
    "/../v1/chat/completions",
    "/v1/%2e/chat/completions",
    "/v1/%2E%2E/v1/chat/completions",
    "/v1/.%2e/v1/chat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/v1%5cchat%5ccompletions",
    "/v1\\chat\\completions",
    "/v1/chat/completions\\",
    "/v1/chat;a=b/completions",
    "/v1/chat/completions;a",
    "/v1/chat/completions%3b",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0a",
    "/v1/chat/completions%0d%0aX:y",
    "/v1/chat/completions%20",
    "/v1/chat/completions%7f",
    "/v1/chat/completions%c3%a9",
    "/v1/chat/completions%252e",
    "/v1/chat/completions%",
    "/v1/chat/completions%4",
    "/v1/chat/completions%zz",
    "/v1/chat/completions%u0041",
    "/v1/chat/completions\u{e9}",
    "/v1/chat/\u{ff0f}completions",
    "/v1/chat/completions#a",
    "/v1/chat/completions#",
    "/v1/chat/completions|",
    "/v1/chat/completions<",
    "/v1/chat/completions^",
    "/v1/chat/completions`",
    "/v1/chat/{completions}",
    "/v1/chat/completions\"",
    "/openai/deployments/gpt-4o/../other/chat/completions",
    "/openai/deployments/gpt%2f4o/chat/completions",
    "/openai/deployments/gpt 4o/chat/completions",
    "/v1beta/models/..:generateContent",
    "/v1beta/models/a/../b:generateContent",
    "/v1beta/models/a%2fb:generateContent",
    "/v1beta/models/a/:generateContent",
    "/v1beta/models/a!b:generateContent",
    "/v1beta/models/%67emini:generateContent",
];

/// Paths that are near a route and are none: 404.
const UNKNOWN_PATHS: &[&str] = &[
    "/",
    "/v1",
    "/v1/",
    "/v1/chat/completions/",
    "/v1/chat/completions/x",
    "/V1/chat/completions",
    "/v1/Chat/completions",
    "/v1/chat/COMPLETIONS",
    "/v1/chat/c%6fmpletions",
    "/%76%31/chat/completions",
    "/v1/chat",
    "/chat/completions",
    "/v2/chat/completions",
    "/v1/v1/chat/completions",
    "/v1/chat/completions.json",
    "/v1/chat/completions,",
    "/v1/batches",
    "/v1/files",
    "/v1/realtime/calls",
    "/v1/fine_tuning/jobs",
    "/v1/assistants",
    "/v1/responses/resp_1",
    "/v1/messages/batches",
    "/v1/messages/",
    "/anthropic/v1/messages",
    "/v1beta/models/gemini:unknownVerb",
    "/v1beta/models/gemini:GenerateContent",
    "/v1beta/models/:generateContent",
    "/v1beta/files",
    "/openai/deployments",
    "/openai/deployments/gpt-4o",
    "/openai/deployments/gpt-4o/files",
    "/openai/deployments/a/b/chat/completions",
    "/metrics",
    "/healthz",
    "/readyz",
    "/admin",
    "/-/refused",
    "/.well-known/openid-configuration",
];

const QUERIES: &[&str] = &[
    "a=%00",
    "a=%0a",
    "a=%0D%0Ax:y",
    "a=%7f",
    "a=%",
    "a=%2",
    "a=%zz",
    "a;b",
    "a=b;model=other",
    "a=\u{e9}",
    "a=b#c",
    "#",
    "a=<b>",
    "a=b|c",
    "a=\"b\"",
    "a=\\",
    "model=other",
    "Model=other",
    "m%6fdel=other",
    "models=other",
    "models[]=other",
    "a=b&model",
];

fn post(path: &str) -> String {
    let body = crate::harness::chat("m", false);
    format!(
        "POST {path} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_line_has_three_words_and_one_target() {
    let attacks = LINES.iter().map(|request| Attack::new(line(request), 400)).collect::<Vec<_>>();
    let edge = Edge::start();
    edge.refuses(&attacks).await;
    edge.refuses_byte_by_byte(&attacks).await;
    for good in
        ["GET http://proxy/v1/models HTTP/1.1", "GET HTTP://PROXY/v1/models HTTP/1.1", "GET /v1/models HTTP/1.0"]
    {
        assert_eq!(Client::once(edge.proxy.address, line(good).as_bytes()).await.status, 200, "{good}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_is_an_allowed_one_to_the_byte() {
    let edge = Edge::start();
    let odd = ODD_PATHS.iter().map(|path| Attack::new(post(path), 400)).collect::<Vec<_>>();
    edge.refuses(&odd).await;
    let unknown = UNKNOWN_PATHS.iter().map(|path| Attack::that_leaves_open(post(path), 404));
    edge.refuses(&unknown.collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_names_no_model_and_holds_no_control() {
    let attacks = QUERIES.iter().map(|query| Attack::new(post(&format!("/v1/chat/completions?{query}")), 400));
    Edge::start().refuses(&attacks.collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_takes_its_own_methods_only() {
    let edge = Edge::start();
    let posts = [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1beta/models/m:generateContent",
        "/openai/deployments/m/chat/completions",
    ];
    let gets = ["/v1/models", "/v1/key", "/v1/models/m", "/v1beta/models", "/openai/models", "/api/usage/token/"];
    let other = ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "Post", "GETS", "PROPFIND", "QUERY", "M-SEARCH"];
    for (paths, methods, allow) in [(&posts[..], ["GET", "HEAD"], "POST"), (&gets[..], ["POST", "POSTS"], "GET, HEAD")]
    {
        for path in paths {
            for method in other.iter().chain(&methods).filter(|method| **method != "HEAD") {
                let attack = Attack::that_leaves_open(line(&format!("{method} {path} HTTP/1.1")), 405);
                edge.refuses(std::slice::from_ref(&attack)).await;
                let answer = Client::once(edge.proxy.address, &attack.bytes).await;
                assert_eq!(answer.header("allow").as_deref(), Some(allow), "{method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_dialect_is_told_in_its_own_words() {
    let edge = Edge::start();
    for (path, pointer, value) in [
        ("/v1/chat/completions", "/error/type", "invalid_request_error"),
        ("/v1/messages", "/error/type", "invalid_request_error"),
        ("/v1/messages", "/type", "error"),
        ("/v1beta/models/m:generateContent", "/error/status", "INVALID_ARGUMENT"),
        ("/openai/deployments/m/chat/completions", "/error/type", "invalid_request_error"),
    ] {
        for bad in ["content-length: 5\r\ncontent-length: 5\r\n", "x y\r\n"] {
            let request = post(path).replacen("host: proxy\r\n", &format!("host: proxy\r\n{bad}"), 1);
            let answer = Client::once(edge.proxy.address, request.as_bytes()).await;
            assert_eq!(answer.status, 400, "{path}");
            assert_eq!(
                answer.json().pointer(pointer).and_then(|v| v.as_str()),
                Some(value),
                "{path}: {}",
                answer.text()
            );
        }
    }
    edge.is_unharmed().await;
}
