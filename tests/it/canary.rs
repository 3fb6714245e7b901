//! Secrets wherever one can stand, and everything the real program says, answers or writes searched for them.
//!
//! The tests of the other modules run the proxy in their own process; the harness (`harness/log.rs`) searches each line that
//! it logs there, and the metrics at its end, for the secrets of their keys and upstreams, so that the whole suite is a canary
//! too; `tests/sdk.rs` searches the log of the program its SDKs talk to. Unit tests log nothing: they install no subscriber.

mod offers;
mod program;
mod secrets;

use std::net::SocketAddr;
use std::process::Output;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::raw_backend::RawBackend;
use super::harness::{Backend, Reply, Seen, log};
use offers::{BAD_CONFIGS, BAD_KEY_FILES};
use program::{Home, Running, exchange};
use secrets::{Search, canary, sha256};

/// Secrets of keys, which no upstream may see either; of these, the last ones are nobody's.
const OF_CALLERS: [&str; 17] = [
    "clear-key",
    "env-key",
    "file-key",
    "chosen-key",
    "previous-key",
    "disabled-key",
    "expired-key",
    "distant-key",
    "sandbox-key",
    "wrong-bearer",
    "wrong-x-api-key",
    "wrong-api-key",
    "wrong-goog-key",
    "wrong-query",
    "odd-form",
    "second-secret",
    "in-the-path",
];

/// Everything else that is secret.
const OF_OPERATORS: [&str; 10] = [
    "openai-credential",
    "anthropic-credential",
    "gemini-credential",
    "azure-credential",
    "token-of-env",
    "token-in-clear",
    "the-pepper",
    "malformed",
    "misplaced",
    "in-a-comment",
];

fn search() -> Search {
    Search::for_all(&[&OF_CALLERS[..], &OF_OPERATORS[..]].concat())
}

fn environment() -> Vec<(&'static str, String)> {
    vec![
        ("CANARY_KEY", canary("env-key")),
        ("CANARY_ANTHROPIC", canary("anthropic-credential")),
        ("CANARY_TOKEN", canary("token-of-env")),
    ]
}

/// Upstreams that answer, are gone, talk nonsense, and do not speak TLS.
fn configuration([answers, gone, nonsense, no_tls]: [SocketAddr; 4]) -> String {
    let (openai, azure) = (canary("openai-credential"), canary("azure-credential"));
    let token = canary("token-in-clear");
    format!(
        r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 2
trusted_proxies = ["127.0.0.0/8"]
drain_timeout = "1s"
[admin]
listen = "127.0.0.1:0"
tokens = [
    {{ name = "env", token = "env:CANARY_TOKEN", role = "write" }},
    {{ name = "clear", token = "{token}", role = "read" }},
]
[storage]
url = "sqlite:data/keyward.db"
pepper = "file:pepper"
[[upstreams]]
name = "openai"
dialect = "openai"
url = "http://{answers}"
api_key = "{openai}"
models = ["*"]
[[upstreams]]
name = "anthropic"
dialect = "anthropic"
url = "http://{gone}"
api_key = "env:CANARY_ANTHROPIC"
models = ["*"]
[[upstreams]]
name = "gemini"
dialect = "gemini"
url = "http://{nonsense}"
api_key = "file:gemini-credential"
models = ["*"]
[[upstreams]]
name = "azure"
dialect = "azure"
url = "https://{no_tls}"
api_key = "{azure}"
models = ["*"]
"#
    )
}

fn key_file() -> String {
    let hash = |name: &str| format!("sha256:{}", sha256(&canary(name)));
    let hashed =
        |name: &str, lines: &str| format!("[[keys]]\nname = \"{name}\"\nkey_hash = \"{}\"\n{lines}\n", hash(name));
    let clear = canary("clear-key");
    let previous = hash("previous-key");
    [
        format!("# {}\n[[keys]]\nname = \"clear\"\nkey = \"{clear}\"\n", canary("in-a-comment")),
        "[[keys]]\nname = \"env\"\nkey = \"env:CANARY_KEY\"\n".to_owned(),
        "[[keys]]\nname = \"file\"\nkey = \"file:file-key\"\n".to_owned(),
        hashed(
            "chosen-key",
            &format!("previous = [{{ key_hash = \"{previous}\", until = \"2100-01-01T00:00:00Z\" }}]"),
        ),
        hashed("disabled-key", "disabled = true"),
        hashed("expired-key", "expires_at = \"2020-01-01T00:00:00Z\""),
        hashed("distant-key", "allowed_ips = [\"192.0.2.0/24\"]"),
        hashed("sandbox-key", "is_sandbox = true"),
    ]
    .concat()
}

/// A backend that answers in as many ways as there are paths.
async fn answers(seen: Seen, mut reply: Reply) -> Reply {
    const CHUNK: &str = "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}";
    match seen.path() {
        "/v1/chat/completions" if seen.text().contains("\"stream\":true") => {
            reply.stream_head().await;
            reply.chunk(format!("data: {CHUNK}\n\n").as_bytes()).await;
            reply.cut();
        }
        "/v1/chat/completions" => {
            reply.json(200, "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}").await;
        }
        "/v1/embeddings" => reply.json(401, "{\"error\":{\"message\":\"Incorrect API key provided: sk-***.\"}}").await,
        "/v1/responses" => {
            reply.raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{\"half\"").await;
            reply.cut();
        }
        _ => reply.json(500, "{\"error\":{\"message\":\"no\"}}").await,
    }
    reply
}

async fn nonsense(_: Seen, mut reply: Reply) -> Reply {
    reply.raw("500 what is this\nnot: http\n\n").await;
    reply.cut();
    reply
}

fn home(config: &str) -> Home {
    let mut home = Home::new(environment());
    home.write("keyward.toml", config.as_bytes());
    home.write("keys.toml", key_file().as_bytes());
    home.write("pepper", canary("the-pepper").as_bytes());
    home.write("gemini-credential", canary("gemini-credential").as_bytes());
    home.write("file-key", format!("{}\n", canary("file-key")).as_bytes());
    home
}

/// Text and JSON, as people and machines ask for it.
fn checks(home: &Home, search: &Search, is_good: bool) {
    for arguments in [&["check", "--config", "keyward.toml"][..], &["check", "--json", "--config", "keyward.toml"]] {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(if is_good { 0 } else { 2 }), "{output:?}");
        nothing_in(search, "`keyward check`", &output);
    }
}

fn nothing_in(search: &Search, what: &str, output: &Output) {
    search.none_in(&format!("{what} on standard output"), &output.stdout);
    search.none_in(&format!("{what} on standard error"), &output.stderr);
}

#[test]
fn nothing_the_program_says_answers_or_writes_holds_a_secret() {
    let (backend, nonsense) = (Backend::start(answers), Backend::start(nonsense));
    let no_tls = RawBackend::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let gone = {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        port.local_addr().expect("its address")
    };
    let config = configuration([backend.address, gone, nonsense.address, no_tls.address]);
    let (mut home, search) = (home(&config), search());
    checks(&home, &search, true);
    let running = Running::start(&home);

    let mut surprises = Vec::new();
    for offer in offers::all() {
        let answer = exchange(running.data, &offer.bytes, offer.leaves);
        search.none_in(&format!("the answer to {}", offer.what), &answer);
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|s| s.parse().ok());
        if !offer.expect.allows(status) {
            surprises.push(format!("{}: {}", offer.what, String::from_utf8_lossy(&answer)));
        }
    }
    let panics: Vec<String> =
        running.log().lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect();
    assert!(surprises.is_empty(), "{}\n{panics:?}", surprises.join("\n\n"));
    as_forwarded(&backend, &nonsense);
    refuse_reloads(&mut home, &running, &search, &config);

    for path in ["/readyz", "/healthz", "/livez", "/metrics", &format!("/{}", canary("malformed"))] {
        search.none_in(path, &running.ask(path));
    }
    let log = running.log();
    running.end();
    for (path, bytes) in home.others() {
        search.none_in(&path.display().to_string(), &bytes);
    }
    // What was searched is what was meant to be: everything was logged, down to the libraries.
    assert!(log.contains("\"TRACE\"") || log.contains("\"DEBUG\""), "{log}");
    assert!(log.lines().filter(|line| line.contains("\"access\"")).count() > 60, "{log}");
    assert!(log.contains("reload refused") && log.contains("no answer from upstream"), "{log}");
}

/// The operator's credentials went to their upstreams, and no caller's secret to any.
fn as_forwarded(backend: &Backend, nonsense: &Backend) {
    let heads =
        |backend: &Backend| backend.seen().iter().map(|seen| seen.head.clone() + &seen.text()).collect::<String>();
    let (openai, gemini) = (heads(backend), heads(nonsense));
    assert!(openai.contains(&canary("openai-credential")) && gemini.contains(&canary("gemini-credential")));
    let search = Search::for_all(&OF_CALLERS);
    search.none_in("what the upstream openai got", openai.as_bytes());
    search.none_in("what the upstream gemini got", gemini.as_bytes());
}

/// Files with secrets in wrong places, one after the other, and then good ones again.
fn refuse_reloads(home: &mut Home, running: &Running, search: &Search, config: &str) {
    let secret = canary("misplaced");
    let bad = BAD_KEY_FILES
        .iter()
        .map(|text| ("keys.toml", *text))
        .chain(BAD_CONFIGS.iter().map(|text| ("keyward.toml", *text)));
    for (name, text) in bad {
        let text = text
            .replace("SECRET", &secret)
            .replace("HASH", &sha256(&secret))
            .replace("COMMENT", &canary("in-a-comment"));
        home.write(name, text.as_bytes());
        running.reload();
        running.until_ready_says(|said| said.contains("refused"));
        let said = running.ask("/readyz");
        search.none_in(&format!("/readyz after {text}"), &said);
        checks(home, search, false);
        home.write("keyward.toml", config.as_bytes());
        home.write("keys.toml", key_file().as_bytes());
        running.reload();
        running.until_ready_says(|said| said.contains("\"in force\""));
    }
}

#[test]
fn a_refused_start_tells_no_secret() {
    let search = search();
    let mut home = home("");
    let secret = canary("misplaced");
    for text in [BAD_CONFIGS[0], BAD_CONFIGS[1], BAD_CONFIGS[2]] {
        home.write("keyward.toml", text.replace("SECRET", &secret).as_bytes());
        let output = home.run(&["serve", "--config", "keyward.toml"]);
        assert_eq!(output.status.code(), Some(2));
        nothing_in(&search, "a refused start", &output);
    }
    // A secret that stands where an argument is expected.
    for arguments in [&["key", "hash", secret.as_str()][..], &["serve", "--token", secret.as_str()]] {
        assert_eq!(home.run(arguments).status.code(), Some(2));
    }
    let others = home.others();
    assert!(others.is_empty(), "a start that is refused writes nothing: {others:?}");
}

#[test]
fn a_secret_in_the_log_of_any_other_test_is_noticed() {
    let secret = canary("watched-for");
    log::install();
    log::watch_for_secrets(&[&format!("[[keys]]\nname = \"a\"\nkey = \"{secret}\"\n")]);
    assert!(log::holds_a_secret(&format!("a line with {secret} in it")) && !log::holds_a_secret("one without"));
}

#[test]
fn the_search_finds_a_secret_in_every_disguise() {
    let names = ["clear-key", "malformed"];
    let search = Search::for_all(&names);
    let secret = canary("malformed");
    for text in [
        secret.clone(),
        format!("x{}y", secret.to_lowercase()),
        secret.to_uppercase(),
        format!("{:?}", secret.as_bytes()),
        sha256(&secret),
        serde_json::to_string(secret.as_bytes()).expect("JSON"),
        secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
        secret.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        secret.chars().rev().collect(),
        secrets::base64(format!("user:{secret}").as_bytes()),
        secrets::base64(format!("users:{secret}!").as_bytes()),
        secrets::base64(format!("a user:{secret}--").as_bytes()),
    ] {
        let found = search.found_in(text.as_bytes());
        assert!(!found.is_empty() && found.iter().all(|(name, _)| *name == "malformed"), "{text}: {found:?}");
    }
    assert!(search.found_in(&secret.as_bytes()[..20]).is_empty(), "what may be shown of a key is no finding");
}
