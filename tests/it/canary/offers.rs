//! Every way in which a caller can bring a secret, good or bad, and every way in which an operator can misplace one.

use super::secrets::{base64, canary};

/// What must come of an offer.
pub enum Expect {
    /// This status.
    Status(u16),
    /// Some 4xx.
    Refusal,
    /// Whatever: the connection may just end.
    Anything,
}

impl Expect {
    pub fn allows(&self, status: Option<u16>) -> bool {
        match self {
            Self::Status(expected) => status == Some(*expected),
            Self::Refusal => status.is_some_and(|status| (400..500).contains(&status)),
            Self::Anything => true,
        }
    }
}

/// Bytes a caller sends.
pub struct Offer {
    pub what: String,
    pub bytes: Vec<u8>,
    /// Whether the caller goes away after them.
    pub leaves: bool,
    pub expect: Expect,
}

fn offer(what: &str, bytes: impl Into<Vec<u8>>, expect: Expect) -> Offer {
    Offer { what: what.to_owned(), bytes: bytes.into(), leaves: false, expect }
}

/// A whole request on a connection that ends after it; `headers` come as lines.
fn request(method: &str, target: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let framing = match body {
        "" => String::new(),
        body => format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()),
    };
    format!("{method} {target} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n{lines}{framing}\r\n{body}").into_bytes()
}

fn get(target: &str, headers: &[&str]) -> Vec<u8> {
    request("GET", target, headers, "")
}

const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#;
const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
const MESSAGE: &str = r#"{"model":"claude-haiku-4-5","max_tokens":9,"messages":[{"role":"user","content":"Hello"}]}"#;
const CONTENTS: &str = r#"{"contents":[{"parts":[{"text":"Hello"}]}]}"#;

pub fn all() -> Vec<Offer> {
    [admitted(), refused(), odd_forms(), malformed(), in_bodies()].into_iter().flatten().collect()
}

/// Keys that work, at upstreams that do and do not; and keys that are known but may not.
fn admitted() -> Vec<Offer> {
    let bearer = |name: &str| format!("authorization: Bearer {}", canary(name));
    let chat = |name: &str, body: &str| request("POST", "/v1/chat/completions", &[&bearer(name)], body);
    let (file, chosen) = (canary("file-key"), canary("chosen-key"));
    let gemini = format!("/v1beta/models/gemini-2.5-flash:generateContent?key={file}");
    let escaped: String = file.bytes().map(|byte| format!("%{byte:02x}")).collect();
    vec![
        offer("a chat", chat("clear-key", CHAT), Expect::Status(200)),
        offer("a chat by the secret before the last", chat("previous-key", CHAT), Expect::Status(200)),
        offer("a stream that breaks off", chat("chosen-key", STREAM), Expect::Status(200)),
        offer("a stream of the sandbox", chat("sandbox-key", STREAM), Expect::Status(200)),
        offer(
            "an upstream's 401",
            request("POST", "/v1/embeddings", &[&bearer("clear-key")], r#"{"model":"m","input":"x"}"#),
            Expect::Status(401),
        ),
        offer(
            "half an answer",
            request("POST", "/v1/responses", &[&bearer("clear-key")], r#"{"model":"m","input":"x"}"#),
            Expect::Anything,
        ),
        offer(
            "an upstream that is gone",
            request("POST", "/v1/messages", &[&format!("x-api-key: {}", canary("env-key"))], MESSAGE),
            Expect::Status(529),
        ),
        offer("an upstream's nonsense", request("POST", &gemini, &[], CONTENTS), Expect::Status(503)),
        offer(
            "an escaped key",
            request("POST", &format!("/models/m:generateContent?key={escaped}&alt=sse"), &[], CONTENTS),
            Expect::Status(503),
        ),
        offer(
            "an upstream without TLS",
            request(
                "POST",
                "/openai/deployments/gpt-4o/chat/completions?api-version=1",
                &[&format!("api-key: {chosen}")],
                CHAT,
            ),
            Expect::Status(502),
        ),
        offer("the status of a key", get("/v1/key", &[&bearer("clear-key")]), Expect::Status(200)),
        offer("the models", get(&format!("/v1beta/models?key={}", canary("env-key")), &[]), Expect::Status(200)),
        offer(
            "one secret in two places",
            get(&format!("/v1/models?key={file}"), &[&format!("x-goog-api-key: {file}")]),
            Expect::Status(200),
        ),
        offer("a disabled key", chat("disabled-key", CHAT), Expect::Status(401)),
        offer("an expired key", chat("expired-key", CHAT), Expect::Status(401)),
        offer("a key of elsewhere", chat("distant-key", CHAT), Expect::Status(403)),
        Offer {
            leaves: true,
            ..offer(
                "half a body",
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer "
                    .iter()
                    .copied()
                    .chain(canary("clear-key").into_bytes())
                    .chain(*b"\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"model\":")
                    .collect::<Vec<u8>>(),
                Expect::Anything,
            )
        },
    ]
}

/// Secrets that are nobody's, in each place, and more than one.
fn refused() -> Vec<Offer> {
    let mut offers = Vec::new();
    let line = |header: &str, name: &str| format!("{header}: {}", canary(name));
    let wrong = [
        line("authorization: Bearer", "wrong-bearer").replacen(": canary", " canary", 1),
        line("x-api-key", "wrong-x-api-key"),
        line("api-key", "wrong-api-key"),
        line("x-goog-api-key", "wrong-goog-key"),
    ];
    for header in &wrong {
        for (target, body) in [
            ("/v1/chat/completions", CHAT),
            ("/v1/messages", MESSAGE),
            ("/models/m:generateContent", CONTENTS),
            ("/openai/deployments/m/chat/completions", CHAT),
        ] {
            offers.push(offer(
                &format!("{header} at {target}"),
                request("POST", target, &[header], body),
                Expect::Status(401),
            ));
        }
    }
    let (query, second) = (canary("wrong-query"), line("x-api-key", "second-secret"));
    offers.push(offer("a wrong ?key=", get(&format!("/v1/models?key={query}"), &[]), Expect::Status(401)));
    offers.push(offer(
        "a wrong ?key= twice",
        get(&format!("/v1/models?key={query}&key={query}"), &[]),
        Expect::Status(401),
    ));
    offers.push(offer("two secrets", get("/v1/models", &[&wrong[0], &second]), Expect::Status(401)));
    offers.push(offer(
        "a good and a bad secret",
        get("/v1/models", &[&line("api-key", "clear-key"), &second]),
        Expect::Status(401),
    ));
    offers.push(offer("one header twice", get("/v1/models", &[&second, &second]), Expect::Status(401)));
    let path = canary("in-the-path");
    for target in [
        format!("/{path}"),
        format!("/v1/{path}"),
        format!("/v1/models/{path}"),
        format!("/v1beta/models/{path}:generateContent"),
        format!("/openai/deployments/{path}/chat/completions"),
        format!("//{path}"),
        format!("/v1/../{path}"),
        format!("/v1/models?model={path}"),
        format!("/v1/models?api_key={path};x"),
        format!("http://{path}@proxy/v1/models"),
        format!("http://{path}/v1/models"),
        format!("/v1/models#{path}"),
        path.clone(),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            offers.push(offer(
                &format!("{method} {target}"),
                request(method, &target, &[&second], ""),
                Expect::Refusal,
            ));
        }
    }
    offers
}

/// What is almost a credential.
fn odd_forms() -> Vec<Offer> {
    let odd = canary("odd-form");
    let basic = base64(format!("user:{odd}").as_bytes());
    let mut offers = Vec::new();
    for value in [
        odd.clone(),
        format!("Bearer  {odd}"),
        format!("Bearer\t{odd}"),
        format!("bearer {odd} {odd}"),
        format!("Token {odd}"),
        format!("Basic {basic}"),
        format!("Digest username=\"{odd}\", response=\"{odd}\""),
        format!("Bearer {odd}\u{e9}"),
        format!("Bearer={odd}"),
        format!("Bearer \"{odd}\""),
    ] {
        let header = format!("authorization: {value}");
        offers.push(offer(&format!("{header:?}"), get("/v1/models", &[&header]), Expect::Status(401)));
    }
    for header in [
        "cookie: session=",
        "proxy-authorization: Bearer ",
        "x-auth-token: ",
        "x-forwarded-for: ",
        "forwarded: for=",
        "expect: ",
        "content-encoding: ",
        "user-agent: ",
        "sec-websocket-protocol: openai-insecure-api-key.",
        "referer: http://proxy/?key=",
        "if-match: ",
    ] {
        let header = format!("{header}{odd}");
        offers.push(offer(&header, request("POST", "/v1/chat/completions", &[&header], CHAT), Expect::Refusal));
    }
    offers
}

/// Requests that no parser may take, with a secret in them.
fn malformed() -> Vec<Offer> {
    let secret = canary("malformed");
    let auth = format!("authorization: Bearer {secret}\r\n");
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\n";
    let long = format!("x-api-key: {}\r\n", secret.repeat(400));
    let many = format!("x-api-key: {secret}\r\n").repeat(200);
    let texts = [
        format!("GET /v1/models HTTP/1.1\nhost: a\nauthorization: Bearer {secret}\n\n"),
        format!("{head}authorization : Bearer {secret}\r\n\r\n"),
        format!("{head}authorization: Bearer\r\n {secret}\r\n\r\n"),
        format!("{head}{secret}\r\n\r\n"),
        format!("{head}x-api-key: {secret}\0\r\n\r\n"),
        format!("{head}{long}\r\n"),
        format!("{head}{many}\r\n"),
        format!("{head}{auth}content-length: {secret}\r\n\r\n"),
        format!("{head}{auth}transfer-encoding: {secret}\r\n\r\n"),
        format!("{head}{auth}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc"),
        format!("{head}{auth}host: {secret}\r\n\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nhost: {secret}/x\r\n{auth}\r\n"),
        format!("GET /v1/models HTTP/9.9\r\n{auth}\r\n"),
        format!("{secret} /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"),
        format!("{} /v1/models HTTP/1.1\r\nhost: a\r\n{auth}connection: close\r\n\r\n", &secret[..12].to_uppercase()),
        format!("GET /v1/models?{} HTTP/1.1\r\nhost: a\r\n\r\n", secret.repeat(300)),
        format!("CONNECT {secret}:443 HTTP/1.1\r\nhost: a\r\n{auth}\r\n"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{secret}"),
        format!(
            "GET /v1/models HTTP/1.1\r\nhost: a\r\n{auth}connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: {secret}\r\n\r\n"
        ),
    ];
    let mut offers: Vec<Offer> = texts
        .into_iter()
        .map(|text| Offer {
            leaves: true,
            ..offer(&format!("{:.200}", text.escape_debug().to_string()), text, Expect::Anything)
        })
        .collect();
    let clear = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", canary("clear-key"));
    let chunks = format!("{head}{clear}transfer-encoding: chunked\r\n\r\n5\r\n{{\"mod\r\n{secret}\r\n");
    offers.push(offer("a chunk that is none", chunks, Expect::Status(400)));
    let trailers = format!(
        "{head}{clear}connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nx-api-key: {secret}\r\n\r\n"
    );
    offers.push(offer("a secret in a trailer", trailers, Expect::Status(400)));
    offers
}

/// Secrets in bodies that are refused: what is told of a body is where it errs, not what it says.
fn in_bodies() -> Vec<Offer> {
    let secret = canary("malformed");
    let bearer = format!("authorization: Bearer {}", canary("clear-key"));
    let bodies = [
        format!(r#"{{"model":"m","api_key":"{secret}"}}"#),
        format!(r#"{{"model":"m","extra_headers":{{"authorization":"Bearer {secret}"}}}}"#),
        format!(r#"{{"model":"m","messages":[],"client_secret":"{secret}"}}"#),
        format!(r#"{{"model":"m","messages":"{secret}"#),
        format!(r#"{{"model":"m",{secret}:1}}"#),
        format!(r#"{{"model":"m","max_tokens":"{secret}"}}"#),
        format!(r#"{{"model":["{secret}"]}}"#),
        format!(r#"{{"model":"{secret} {secret}"}}"#),
        format!(r#"{{"model":"m","stream":"{secret}"}}"#),
        format!(r#"{{"Model":"{secret}"}}"#),
        format!("\"{secret}\""),
        secret.clone(),
    ];
    let mut offers: Vec<Offer> = bodies
        .iter()
        .map(|body| offer(body, request("POST", "/v1/chat/completions", &[&bearer], body), Expect::Status(400)))
        .collect();
    let form = |content_type: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{bearer}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let part = format!("--b\r\ncontent-disposition: form-data; name=\"api_key\"\r\n\r\n{secret}\r\n--b--\r\n");
    offers.push(offer("a secret in a form", form("multipart/form-data; boundary=b", &part), Expect::Status(400)));
    offers.push(offer(
        "a secret as a boundary",
        form(&format!("multipart/form-data; boundary={secret}; x=y"), "x"),
        Expect::Status(400),
    ));
    offers.push(offer("a secret as a content type", form(&secret, "x"), Expect::Status(415)));
    offers
}

/// Key files with SECRET where it should not be: under misspelled names, instead of its hash, unquoted, unclosed, or beside a fault.
pub const BAD_KEY_FILES: [&str; 18] = [
    "[[keys]]\nname = \"a\"\nkey = \"SECRET\n",
    "[[keys]]\nname = \"a\"\nkey = SECRET\n",
    "[[keys]]\nname = \"a\"\nkye = \"SECRET\"\n",
    "[[keys]]\nname = \"a\"\nkey_hash = \"SECRET\"\n",
    "[[keys]]\nname = \"a\"\nkey_hash = \"sha256:SECRET\" # COMMENT\n",
    "[[keys]]\nname = \"a\"\nkey = [\"SECRET\"]\n",
    "[[keys]]\nname = \"a\"\nkey = { value = \"SECRET\" }\n",
    "[[keys]]\nname = \"a\"\nkey = \"SECRET\"\nkey_hash = \"sha256:HASH\"\n",
    "[[keys]]\nname = \"a\"\nkey = \"SECRET\"\nprevious = [{ key_hash = \"SECRET\", until = \"soon\" }]\n",
    "[[keys]]\nname = \"a\"\nkey = \"SECRET\"\nprevious = \"SECRET\"\n",
    "[[keys]]\nname = \"a\"\nkey = \"SECRET\"\nprevious = [\"SECRET\"]\n",
    "[[keys]]\nname = \"a\"\nkey = \"SECRET\"\n[[keys]]\nname = \"b\"\nkey = \"SECRET\"\n",
    "[[keys]]\nname = \"a\"\nkey = \"env:SECRET\"\n",
    "[[keys]]\nname = \"a\"\nkey = \"$SECRET\"\n",
    "keys = [{ name = \"a\", key = \"SECRET\", rpm_limit = 0 }] # COMMENT\n",
    "keys = [\"SECRET\"]\n",
    "keys = \"SECRET\"\n",
    "[[keys]]\nname = \"a\"\nkey = '''SECRET\nSECRET'''\nrpm_limit = \"many\"\n",
];

/// The same for the configuration.
pub const BAD_CONFIGS: [&str; 18] = [
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://user:SECRET@example.com\"\nmodels = [\"*\"]\n",
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://example.com\"\napikey = \"SECRET\"\nmodels = [\"*\"]\n",
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://example.com\"\napi_key = \"SECRET\nmodels = [\"*\"]\n",
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = [\"https://example.com/?key=SECRET\"]\nmodels = [\"*\"]\n",
    "[[upstreams]]\nname = \"a\"\ndialect = \"sandbox\"\napi_key = \"SECRET\"\nmodels = [\"*\"]\n",
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://example.com\"\napi_key = [[\"SECRET\"]]\nheaders = { authorization = \"SECRET\" }\nmodels = [\"*\"]\n",
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://example.com\"\napi_key = \"SECRET\\u0007\"\nmodels = [\"*\"]\n",
    "upstreams = [\"https://SECRET@example.com\"]\n",
    "[server]\napi_key = \"SECRET\"\n",
    "[server]\ntls = \"SECRET\"\n",
    "[server]\ntls = { cert = \"SECRET\", key = \"SECRET\" }\n",
    "[server]\ntls = [{ cert = \"a.pem\", key = \"-----BEGIN PRIVATE KEY-----\\nSECRET.pem\" }]\nclient_ca = \"SECRET\"\n",
    "[admin]\ntokens = \"SECRET\"\n",
    "[admin]\ntokens = [\"SECRET\"]\n",
    "admin = \"SECRET\"\n",
    "[admin]\ntokens = [{ name = \"a\", token = \"SECRET\", role = \"root\" }, { name = \"a\", token = \"SECRET\", rol = \"read\" }]\n",
    "[storage]\nurl = \"postgres://keyward:SECRET@db/keyward\"\npepper = [\"SECRET\"]\n",
    "[storage]\nurl = \"SECRET\"\n[storage]\npepper = \"SECRET\"\n",
];
