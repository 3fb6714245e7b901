//! Requests made to cost more than they are worth, refused at every stage.

/// The secret of a key that may use the model `m`.
pub const SECRET: &str = "attacks-secret-00001";

/// One of them.
#[derive(Debug, Clone)]
pub struct Request {
    pub name: String,
    pub bytes: Vec<u8>,
}

fn raw(name: &str, bytes: impl AsRef<[u8]>) -> Request {
    Request { name: name.to_owned(), bytes: bytes.as_ref().to_vec() }
}

/// A POST with these header lines.
fn post(name: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Request {
    let body = body.as_ref();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {SECRET}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    raw(name, [head.as_bytes(), body].concat())
}

const JSON: &str = "content-type: application/json\r\n";
const FORM: &str = "content-type: multipart/form-data; boundary=b\r\n";
const CHAT: &str = "/v1/chat/completions";

/// Refused for what the head says.
fn heads() -> Vec<Request> {
    let get =
        |name: &str, path: &str, headers: &str| raw(name, format!("GET {path} HTTP/1.1\r\nhost:a\r\n{headers}\r\n"));
    let many: String = (0..95).map(|n| format!("x-{n}: {n}\r\n")).collect();
    vec![
        raw("a byte that begins no head", "\0"),
        raw("a line that is no request", "a\r\n\r\n"),
        raw("two lengths", "POST /v1/messages HTTP/1.1\r\nhost:a\r\ncontent-length:1\r\ncontent-length:1\r\n\r\n"),
        get("the smallest request there is", "/", ""),
        get("a long path", &format!("/{}", "a".repeat(8_000)), ""),
        get("a long query", &format!("/v1/models?{}", "a=%41&".repeat(1_300)), ""),
        get("no secret", "/v1/models", ""),
        get("a wrong secret", "/v1/models", "x-api-key:a\r\n"),
        get("a long wrong secret", "/v1/models", &format!("x-api-key:{}\r\n", "a".repeat(8_000))),
        get("a long request id", "/v1/models", &format!("x-request-id:{}\r\n", "a".repeat(8_000))),
        get("a request id of the longest kind kept", "/v1/models", &format!("x-request-id:{}\r\n", "a".repeat(128))),
        get("many headers", "/v1/models", &many),
        get("a long name of a model", &format!("/v1/models/{}", "a".repeat(256)), &format!("x-api-key:{SECRET}\r\n")),
        get("a key's standing", "/v1/key", &format!("x-api-key:{SECRET}\r\n")),
        get("a key's usage", "/api/usage/token/", &format!("x-api-key:{SECRET}\r\n")),
        get("the list of models", "/v1/models", &format!("x-api-key:{SECRET}\r\n")),
        get("two secrets", "/v1/models?key=a", "x-api-key:a\r\n"),
        get("an upgrade", CHAT, "upgrade: websocket\r\nconnection: upgrade\r\n"),
    ]
}

/// Refused for what the body says, or for what it asks for.
fn bodies() -> Vec<Request> {
    let quoted = |text: &str| format!("{{\"model\":\"{text}\"}}");
    let parts: String =
        (0..5_000).map(|n| format!("--b\r\nContent-Disposition: form-data; name=\"{n}\"\r\n\r\n\r\n")).collect();
    vec![
        post("a body that is none", CHAT, JSON, "a"),
        post("depth", CHAT, JSON, "[".repeat(64 * 1024)),
        post(
            "depth within its bound",
            CHAT,
            JSON,
            format!("{{\"model\":\"x\",\"a\":{}{}}}", "[".repeat(127), "]".repeat(127)),
        ),
        post("a model of another key", CHAT, JSON, quoted(&"g".repeat(256))),
        post("a model that nobody serves", CHAT, JSON, quoted(&"z".repeat(256))),
        post("a model that is no name", CHAT, JSON, quoted(&"\\u0001".repeat(10_000))),
        post("a model that is too long", CHAT, JSON, quoted(&"a".repeat(64 * 1024))),
        post("a name misspelled by escapes", CHAT, JSON, "{\"\\u006d\\u006f\\u0064\\u0065\\u006c\":\"m\"}"),
        post("many small members", CHAT, JSON, format!("{{{}\"model\":\"x\"}}", "\"a\":0,".repeat(20_000))),
        post("many escapes", CHAT, JSON, format!("{{\"model\":\"x\",\"a\":\"{}\"}}", "\\ud83d\\ude00".repeat(8_000))),
        post("many escaped names", CHAT, JSON, format!("{{{}\"model\":\"x\"}}", "\"\\u0061\":0,".repeat(10_000))),
        post("many models", CHAT, JSON, format!("{{\"model\":\"m\",\"models\":[{}\"x\"]}}", "\"m\",".repeat(20_000))),
        post(
            "many fallbacks",
            CHAT,
            JSON,
            format!("{{\"model\":\"m\",\"fallbacks\":[{}\"x\"]}}", "{\"model\":\"m\"},".repeat(5_000)),
        ),
        post(
            "many tools",
            "/v1/responses",
            JSON,
            format!("{{\"model\":\"x\",\"input\":\"a\",\"tools\":[{}]}}", vec!["{\"type\":\"a\"}"; 5_000].join(",")),
        ),
        post(
            "many messages",
            CHAT,
            JSON,
            format!(
                "{{\"model\":\"x\",\"messages\":[{}]}}",
                vec!["{\"role\":\"user\",\"content\":\"\"}"; 3_000].join(",")
            ),
        ),
        post(
            "a batch",
            "/v1beta/models/x:batchEmbedContents",
            JSON,
            format!("{{\"requests\":[{}]}}", vec!["{}"; 30_000].join(",")),
        ),
        post("a form of many parts", "/v1/images/edits", FORM, format!("{parts}--b--\r\n")),
        post(
            "a form that never ends",
            "/v1/images/edits",
            FORM,
            "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".to_owned() + &"\r\n--".repeat(20_000),
        ),
        post(
            "a form of a long header",
            "/v1/images/edits",
            FORM,
            format!("--b\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\n\r\n--b--\r\n", "a".repeat(60_000)),
        ),
        chunks(16_000),
    ]
}

/// A body in chunks of one byte, each with its own line.
fn chunks(count: usize) -> Request {
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\nx-api-key: {SECRET}\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
    raw("chunks of one byte", head + &"1\r\n[\r\n".repeat(count) + "0\r\n\r\n")
}

/// Each is answered, and refused or about the key itself.
pub fn all() -> Vec<Request> {
    [heads(), bodies()].concat()
}

/// Those that hold something while their last byte is not there; and one whose length is only told.
pub fn held() -> Vec<Request> {
    let promised =
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\nx-api-key: {SECRET}\r\n{JSON}content-length: 33554432\r\n\r\n");
    let head: String = (0..90).map(|n| format!("x-{n}: {}\r\n", "a".repeat(300))).collect();
    let mut held = vec![
        raw("nothing but a connection", "GE"),
        raw("a length that is only told", promised + "{\"model"),
        raw("a long head", format!("GET /v1/models HTTP/1.1\r\nhost: a\r\n{head}\r\n")),
    ];
    held.extend(bodies().into_iter().filter(|request| request.bytes.len() > 16 * 1024));
    held
}
