//! JSON that parsers read differently (SECURITY 2), in every dialect.

use super::{CALLS, JSON, Refusing};

const INVALID: &str = "invalid_json";
const DUPLICATE: &str = "duplicate_member";
const MISSPELLED: &str = "misspelled_member";
const VALUE: &str = "invalid_value";
const DENIED: &str = "member_not_allowed";

/// Refused whatever the API. A lenient or a strict reader, or one that folds names, would find another model than `m`, another limit,
/// or nothing wrong at all.
const ANYWHERE: &[(&[u8], &str)] = &[
    (b"", INVALID),
    (b"null", INVALID),
    (b"[{\"model\":\"m\"}]", INVALID),
    (b"\"m\"", INVALID),
    (b"model=m", INVALID),
    (b"\xEF\xBB\xBF{\"model\":\"m\"}", INVALID),
    (b"\xFF\xFE{\0\"\0m\0o\0d\0e\0l\0", INVALID),
    (b"{\0\"\0m\0o\0d\0e\0l\0\"\0:\0", INVALID),
    (b"{\"model\":\"m\",\"a\":\"\xFF\"}", INVALID),
    (b"{\"model\":\"m\",\"a\":\"\xC0\xAF\"}", INVALID),
    (b"{\"model\":\"m\",\"a\":\"\xED\xA0\x80\"}", INVALID),
    (b"{\"model\":\"m\",\"\x80\":1}", INVALID),
    (b"{\"model\":\"m\"}\xFF", INVALID),
    (b"\xC2\xA0{\"model\":\"m\"}", INVALID),
    (b"\x0C{\"model\":\"m\"}", INVALID),
    (b"{\"model\":\"m\"}\0", INVALID),
    (b"{\"model\":\"m\"}{\"model\":\"x\"}", INVALID),
    (b"{\"model\":\"m\"}\n{\"model\":\"x\"}", INVALID),
    (b"{\"model\":\"m\"},{\"model\":\"x\"}", INVALID),
    (b"{\"model\":\"m\"}//", INVALID),
    (b")]}',\n{\"model\":\"m\"}", INVALID),
    (b"\x1E{\"model\":\"m\"}\n", INVALID),
    (b"{\"model\":\"m\"", INVALID),
    (b"{\"model\":\"m\",}", INVALID),
    (b"{,\"model\":\"m\"}", INVALID),
    (b"{\"model\":\"m\",,\"a\":1}", INVALID),
    (b"{model:\"m\"}", INVALID),
    (b"{'model':'m'}", INVALID),
    (b"{/*\"model\":\"x\",*/\"model\":\"m\"}", INVALID),
    (b"{//\n\"model\":\"m\"}", INVALID),
    (b"{\"model\":\"m\",\"a\":[1,]}", INVALID),
    (b"{\"model\":\"m\",\"a\":NaN}", INVALID),
    (b"{\"model\":\"m\",\"a\":Infinity}", INVALID),
    (b"{\"model\":\"m\",\"a\":+1}", INVALID),
    (b"{\"model\":\"m\",\"a\":01}", INVALID),
    (b"{\"model\":\"m\",\"a\":.5}", INVALID),
    (b"{\"model\":\"m\",\"a\":0x10}", INVALID),
    (b"{\"model\":\"m\",\"a\":True}", INVALID),
    (b"{\"model\":\"m\",\"a\":\"\n\"}", INVALID),
    (b"{\"model\":\"m\",\"a\":\"\0\"}", INVALID),
    (b"{\"model\":\"m\",\"a\":\"\\x41\"}", INVALID),
    (b"{\"model\":\"m\",\"a\":\"\\u00g0\"}", INVALID),
    (b"{\"model\":\"m\",\"\\ud800\":1}", INVALID),
    (b"{\"model\":\"m\",\"model\":\"x\"}", DUPLICATE),
    (b"{\"model\":\"m\",\"model\":\"m\"}", DUPLICATE),
    (b"{\"model\":\"m\",\"Model\":\"x\"}", MISSPELLED),
    (b"{\"MODEL\":\"x\",\"model\":\"m\"}", MISSPELLED),
    (b"{\"model\":\"m\",\"\\u006dodel\":\"x\"}", MISSPELLED),
    (b"{\"model\":\"m\",\"\\u004dODEL\":\"x\"}", MISSPELLED),
    (b"{\"model\":\"m\",\"model\\u0000\":\"x\"}", MISSPELLED),
    (b"{\"model\":\"m\",\"model\\u0000y\":\"x\"}", MISSPELLED),
    (b"{\"model\":\"m\",\"max_to\\u212aens\":9}", MISSPELLED),
    (b"{\"model\":\"m\",\"max_to\xE2\x84\xAAens\":9}", MISSPELLED),
    (b"{\"model\":\"m\",\"me\xC5\xBF\xC5\xBFages\":[]}", MISSPELLED),
    (b"{\"model\":\"m\",\"\\u017ftream\":true}", MISSPELLED),
    (b"{\"model\":\"m\",\"API_BASE\":\"http://x\"}", MISSPELLED),
    (b"{\"model\":\"m\",\"api\\u005fbase\":\"http://x\"}", MISSPELLED),
    (b"{\"model\":\"m\",\"Fallbacks\":[\"x\"]}", MISSPELLED),
    (b"{\"model\":\"m\",\"stream\":false,\"stream\":true}", DUPLICATE),
    (b"{\"model\":\"m\",\"messages\":[],\"messages\":[1]}", DUPLICATE),
    (b"{\"model\":\"m\",\"contents\":[],\"contents\":[1]}", DUPLICATE),
    (b"{\"model\":\"m\",\"tools\":[],\"tools\":[1]}", DUPLICATE),
    (b"{\"model\":1}", VALUE),
    (b"{\"model\":[\"m\",\"x\"]}", VALUE),
    (b"{\"model\":{\"id\":\"m\"}}", VALUE),
    (b"{\"model\":\"\"}", VALUE),
    (b"{\"model\":\"m \"}", VALUE),
    (b"{\"model\":\"m\\u0000\"}", VALUE),
    (b"{\"model\":\"\\u006d\"}", VALUE),
    (b"{\"model\":\"../m\"}", VALUE),
    (b"{\"model\":\"m?x=y\"}", VALUE),
    (b"{\"model\":\"m,x\"}", VALUE),
    (b"{\"model\":\"\xEF\xBD\x8D\"}", VALUE),
    (b"{\"model\":\"m\",\"stream\":1}", VALUE),
    (b"{\"model\":\"m\",\"stream\":\"true\"}", VALUE),
    (b"{\"model\":\"m\",\"models\":\"x\"}", VALUE),
    (b"{\"model\":\"m\",\"models\":[1]}", VALUE),
    (b"{\"model\":\"m\",\"fallbacks\":{\"m\":[\"x\"]}}", VALUE),
    (b"{\"model\":\"m\",\"fallbacks\":[{\"model\":\"m\",\"api_base\":\"x\"}]}", DENIED),
    (b"{\"model\":\"m\",\"api_base\":\"http://169.254.169.254/\"}", DENIED),
    (b"{\"model\":\"m\",\"base_url\":\"http://evil\"}", DENIED),
    (b"{\"model\":\"m\",\"api_key\":\"sk-x\"}", DENIED),
    (b"{\"model\":\"m\",\"user_config\":{}}", DENIED),
    (b"{\"model\":\"m\",\"custom_llm_provider\":\"x\"}", DENIED),
    (b"{\"model\":\"m\",\"extra_headers\":{\"authorization\":\"x\"}}", DENIED),
    (b"{\"model\":\"m\",\"extra_body\":{\"model\":\"x\"}}", DENIED),
    (b"{\"model\":\"m\",\"model_list\":[]}", DENIED),
    (b"{\"model\":\"m\",\"mock_response\":\"x\"}", DENIED),
    (b"{\"model\":\"m\",\"data_sources\":[]}", DENIED),
    (b"{\"model\":\"m\",\"route\":\"fallback\"}", DENIED),
];

/// Refused by one call, because of what its own API reads.
const OF_ONE_CALL: &[(&str, &[u8], &str)] = &[
    ("/v1/chat/completions", b"{}", "missing_required_parameter"),
    ("/v1/chat/completions", b"{\"model\":null}", "missing_required_parameter"),
    ("/v1/chat/completions", b"{\"metadata\":{\"model\":\"m\"}}", "missing_required_parameter"),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"n\":1e2}", VALUE),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"n\":\"2\"}", VALUE),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"n\":129}", VALUE),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"max_tokens\":-1}", VALUE),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"max_tokens\":1.5}", VALUE),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"max_tokens\":4294967297}", VALUE),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"max_tokens\":18446744073709551617}", VALUE),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"max_tokens\":1,\"n_predict\":100000}", VALUE),
    (
        "/v1/chat/completions",
        b"{\"model\":\"m\",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}}",
        DUPLICATE,
    ),
    ("/v1/chat/completions", b"{\"model\":\"m\",\"stream_options\":{\"Include_Usage\":false}}", MISSPELLED),
    ("/v1/responses", b"{\"input\":\"x\",\"previous_response_id\":\"resp_1\"}", "missing_required_parameter"),
    ("/v1/responses", b"{\"model\":\"m\",\"prompt\":{\"id\":\"pmpt_1\"}}", DENIED),
    ("/v1/responses", b"{\"model\":\"m\",\"background\":true}", VALUE),
    ("/v1/embeddings", b"{\"input\":\"x\"}", "missing_required_parameter"),
    ("/v1/messages", b"{\"messages\":[]}", "missing_required_parameter"),
    ("/v1/messages/count_tokens", b"{\"model\":\"m\",\"model\":\"x\"}", DUPLICATE),
    ("/v1beta/models/m:generateContent", b"{\"model\":\"models/x\"}", "model_disagrees"),
    (
        "/v1beta/models/m:generateContent",
        b"{\"generationConfig\":{\"maxOutputTokens\":1,\"maxOutputTokens\":9}}",
        DUPLICATE,
    ),
    ("/v1beta/models/m:generateContent", b"{\"generationConfig\":{},\"generation_config\":{}}", DUPLICATE),
    ("/v1beta/models/m:generateContent", b"{\"generationConfig\":{\"MaxOutputTokens\":9}}", MISSPELLED),
    (
        "/v1beta/models/m:batchEmbedContents",
        b"{\"requests\":[{\"model\":\"models/m\"},{\"model\":\"models/x\"}]}",
        "model_disagrees",
    ),
    (
        "/v1beta/models/m:batchEmbedContents",
        b"{\"requests\":[{\"model\":\"models/m\",\"Model\":\"models/x\"}]}",
        MISSPELLED,
    ),
    ("/v1beta/models/m:countTokens", b"{\"generateContentRequest\":{\"model\":\"models/x\"}}", "model_disagrees"),
    ("/openai/deployments/m/chat/completions", b"{\"model\":\"x\"}", "model_disagrees"),
    ("/openai/deployments/m/embeddings", b"{\"model\":\"x\",\"input\":\"a\"}", "model_disagrees"),
    ("/openai/v1/chat/completions", b"{\"messages\":[]}", "missing_required_parameter"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_parsers_read_differently_is_refused_in_every_dialect() {
    let mut proxy = Refusing::start().await;
    for path in CALLS {
        for (body, name) in ANYWHERE {
            proxy.refuses(path, JSON, body, 400, name).await;
        }
    }
    proxy.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_has_its_own_members_to_lie_with() {
    let mut proxy = Refusing::start().await;
    for (path, body, name) in OF_ONE_CALL {
        proxy.refuses(path, JSON, body, 400, name).await;
    }
    proxy.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn depth_and_length_are_no_weapon() {
    let mut proxy = Refusing::start().await;
    let arrays = [b"{\"model\":\"m\",\"a\":".as_slice(), &b"[".repeat(500_000)].concat();
    let objects = b"{\"a\":".repeat(200_000);
    let one_too_deep = format!("{{\"model\":\"m\",\"a\":{}{}}}", "[".repeat(128), "]".repeat(128));
    let name = format!("{{\"model\":\"{}\"}}", "m".repeat(257));
    let many = format!("{{\"model\":\"m\",\"models\":[{}\"m\"]}}", "\"m\",".repeat(10_000));
    for path in CALLS {
        for body in [arrays.as_slice(), &objects, one_too_deep.as_bytes()] {
            proxy.refuses(path, JSON, body, 400, INVALID).await;
        }
        for body in [&name, &many] {
            proxy.refuses(path, JSON, body.as_bytes(), 400, VALUE).await;
        }
    }
    proxy.is_unharmed().await;
}

/// Every model a body names must be the key's own, not only the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_named_beside_the_first_is_checked_as_well() {
    let mut proxy = Refusing::for_key("models_allowed = [\"m\"]").await;
    let bodies: &[&[u8]] = &[
        b"{\"model\":\"m\",\"models\":[\"x\"]}",
        b"{\"model\":\"m\",\"models\":[\"m\",\"x\"],\"route\":\"fallback\"}",
        b"{\"model\":\"m\",\"fallbacks\":[\"x\"]}",
        b"{\"model\":\"m\",\"fallbacks\":[{\"model\":\"x\"}]}",
        b"{\"model\":\"m\",\"tools\":[{\"type\":\"image_generation\",\"model\":\"x\"}]}",
    ];
    for path in [CALLS[0], CALLS[3], "/v1/responses"] {
        for body in bodies {
            proxy.refuses(path, JSON, body, 403, "model_not_allowed").await;
        }
    }
    for body in [&b"{\"model\":\"x\"}"[..], b"{\"model\":\"M\"}", b"{\"model\":\"m/m\"}", b"{\"model\":\"models/m\"}"] {
        proxy.refuses(CALLS[0], JSON, body, 403, "model_not_allowed").await;
        proxy.refuses(CALLS[1], JSON, body, 403, "model_not_allowed").await;
    }
    for path in ["/v1beta/models/x:generateContent", "/openai/deployments/x/chat/completions"] {
        proxy.refuses(path, JSON, b"{}", 403, "model_not_allowed").await;
    }
    proxy.is_unharmed().await;
}
