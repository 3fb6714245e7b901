//! Secrets and people: what the program itself makes and what it refuses to start with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keyward::config;
use serde_json::Value;

use crate::harness::program::{PATIENCE, Running, Stopwatch, command};
use crate::harness::{self, Client, Proxy};

const SECRET: &str = "people-secret-000001";
const CONFIG: &str = "keys_file = \"keys.toml\"\n[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
    [storage]\npepper = \"file:data/pepper\"\n[[upstreams]]\nname = \"sandbox\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n";

/// The program under a mask that takes no permission away, its first words kept in `first-words`.
async fn start() -> Running {
    let home = tempfile::tempdir().expect("a directory");
    let log = fs::File::create(home.path().join("log")).expect("a log");
    let keys = Proxy::keys_of(&[("a", SECRET, "")]);
    Running::start_through(home, "umask 000; exec \"$0\" \"$@\" >first-words", CONFIG, keys, log).await
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        found.push(entry.path());
        if entry.path().is_dir() {
            files_below(&entry.path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_program_writes_is_its_owners_alone_whatever_the_mask() {
    let running = start().await;
    let call = harness::post("/v1/chat/completions", SECRET, &harness::chat("sandbox", false));
    assert_eq!(Client::once(running.data, &call).await.status, 200);
    let backup = ["store", "backup", "--config", "keyward.toml", "copy.db"];
    let copied = command(running.home.path(), &backup).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(copied.expect("the program").success());
    // These were made by the test and its shell; where the program listens is no secret.
    let others = ["keyward.toml", "keys.toml", "log", "first-words", "ready"].map(|name| running.path(name));
    let mut found = Vec::new();
    files_below(running.home.path(), &mut found);
    let made: Vec<_> = found.into_iter().filter(|path| !others.contains(path)).collect();
    assert!(made.len() >= 5, "store, log of the store, journals, pepper, copy: {made:?}");
    for path in made {
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
}

/// Whoever copies the store or looks into the ledger need not have what the program that serves has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_commands_ask_for_no_secret_of_the_service() {
    let running = start().await;
    let more = "[[upstreams]]\nname = \"b\"\ndialect = \"openai\"\nurl = \"http://127.0.0.1:1\"\napi_key = \"env:KEYWARD_NOT_SET\"\nmodels = [\"b\"]\n";
    fs::write(running.path("other.toml"), format!("{CONFIG}{more}")).expect("written");
    let run = |arguments: &[&str]| {
        let out = command(running.home.path(), arguments).output().expect("the program");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for arguments in [
        &["store", "backup", "--config", "other.toml", "copy.db"][..],
        &["ledger", "verify", "--config", "other.toml"],
        &["ledger", "records", "--config", "other.toml"],
    ] {
        let (code, told) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {told}");
    }
    let (code, told) = run(&["check", "--config", "other.toml"]);
    assert!(code == Some(2) && told.contains("KEYWARD_NOT_SET"), "{code:?}: {told}");
    // What they read is checked all the same.
    fs::write(running.path("other.toml"), format!("{CONFIG}[storage.more]\na = 1\n")).expect("written");
    assert_eq!(run(&["ledger", "verify", "--config", "other.toml"]).0, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_programs_begin_with_the_same_secret() {
    let (one, other) = (start().await, start().await);
    for name in ["first-words", "data/pepper"] {
        let (ours, theirs) = (fs::read(one.path(name)).expect(name), fs::read(other.path(name)).expect(name));
        assert!(ours.len() >= 16 && ours != theirs, "{name}");
    }
    // And none is let in without.
    for token in ["", "admin", "keyward", "password", "changeme"] {
        let asked = format!(
            "GET /api/v1/gateway/keys HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n",
            one.admin
        );
        assert_eq!(Client::once(one.admin, asked.as_bytes()).await.status, 401, "{token:?}");
    }
}

#[test]
fn of_two_programs_that_begin_at_once_on_a_store_one_runs_and_its_pepper_is_the_one_there() {
    for round in 0..8 {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("keyward.toml"), CONFIG).expect("written");
        fs::write(home.path().join("keys.toml"), Proxy::keys_of(&[("a", SECRET, "")])).expect("written");
        let log = || fs::OpenOptions::new().create(true).append(true).open(home.path().join("log")).expect("a log");
        let [mut one, mut other] = ["one", "other"].map(|ready| {
            let line = ["serve", "--config", "keyward.toml", "--ready-file", ready];
            command(home.path(), &line).stdout(Stdio::null()).stderr(log()).spawn().expect("it starts")
        });
        let began = Stopwatch::start();
        let told = || fs::read_to_string(home.path().join("log")).expect("the log");
        let (loser, mut winner) = loop {
            match (one.try_wait().expect("a child"), other.try_wait().expect("a child")) {
                (Some(status), None) => break (status, other),
                (None, Some(status)) => break (status, one),
                (None, None) => assert!(began.elapsed() < PATIENCE, "round {round}: both run: {}", told()),
                (Some(_), Some(_)) => panic!("round {round}: neither runs: {}", told()),
            }
            std::thread::yield_now();
        };
        assert!(!loser.success() && told().contains("another program"), "round {round}: {}", told());
        while !["one", "other"].iter().any(|ready| home.path().join(ready).exists()) {
            assert!(began.elapsed() < PATIENCE, "round {round}: {}", told());
            std::thread::yield_now();
        }
        winner.kill().expect("killed");
        winner.wait().expect("ended");
        let check = command(home.path(), &["check", "--config", "keyward.toml"]).output().expect("the binary runs");
        assert!(check.status.success(), "round {round}: {}", String::from_utf8_lossy(&check.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_token_is_told_by_the_first_start_that_succeeds() {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("keyward.toml"), CONFIG).expect("written");
    fs::write(home.path().join("keys.toml"), Proxy::keys_of(&[("a", SECRET, "")])).expect("written");
    // No room for a journal, but for everything that is made before it.
    let line = "ulimit -f 8192; exec \"$0\" \"$@\"";
    let mut small = Command::new("sh");
    small.args(["-c", line, env!("CARGO_BIN_EXE_keyward"), "serve", "--config", "keyward.toml"]);
    let failed = small.current_dir(home.path()).stdin(Stdio::null()).output().expect("a shell");
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!((failed.status.code(), failed.stdout.len()), (Some(1), 0), "{told}");
    assert!(told.contains("a journal of settled requests"), "{told}");
    let log = fs::File::create(home.path().join("log")).expect("a log");
    let keys = Proxy::keys_of(&[("a", SECRET, "")]);
    let running = Running::start_through(home, "exec \"$0\" \"$@\" >first-words", CONFIG, keys, log).await;
    let token = fs::read_to_string(running.path("first-words")).expect("what it said");
    let asked =
        format!("GET /api/v1/gateway/keys HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", token.trim());
    assert_eq!(Client::once(running.admin, asked.as_bytes()).await.status, 200, "{token:?}");
}

#[test]
fn an_empty_or_short_secret_refuses_the_start() {
    let env = |name: &str| (name == "EMPTY").then(String::new);
    let upstream = |key: &str| {
        format!("[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://a\"\nmodels = [\"*\"]\n{key}\n")
    };
    let token = |token: &str| {
        format!("[admin]\ntokens = [{{ name = \"a\", token = \"{token}\", role = \"write\" }}]\n{}", upstream(""))
    };
    for text in [
        token(""),
        token("fifteen-letters"),
        token("env:EMPTY"),
        token("env:ABSENT"),
        upstream("api_key = \"\""),
        upstream("api_key = \"env:EMPTY\""),
    ] {
        assert!(config::parse(&text, Path::new("keyward.toml"), &env).is_err(), "{text}");
    }
    assert!(config::parse(&token("sixteen-letters-"), Path::new("keyward.toml"), &env).is_ok());
    for key in ["", "short", "env:EMPTY", "env:ABSENT"] {
        let text = format!("[[keys]]\nname = \"a\"\nkey = \"{key}\"\n");
        assert!(config::parse_keys(&text, Path::new("keys.toml"), &env).is_err(), "{text}");
    }
    for pepper in ["", "\n", "fifteen-letters"] {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("keyward.toml"), CONFIG).expect("written");
        fs::write(home.path().join("keys.toml"), Proxy::keys_of(&[("a", SECRET, "")])).expect("written");
        fs::create_dir(home.path().join("data")).expect("a folder");
        fs::write(home.path().join("data/pepper"), pepper).expect("written");
        let output = command(home.path(), &["serve", "--config", "keyward.toml"]).output().expect("the program");
        assert!(!output.status.success(), "a pepper of {} bytes", pepper.len());
    }
}

/// The admin API takes names, numbers and rules; nothing of a caller's is an address to connect to, a file to read or a line to run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_admin_call_takes_an_address_a_path_or_a_command() {
    let running = start().await;
    let asked = format!("GET /openapi.json HTTP/1.1\r\nhost: {}\r\n\r\n", running.admin);
    let document = Client::once(running.admin, asked.as_bytes()).await.json();
    let mut names = Vec::new();
    inputs(&document["components"], &mut names);
    inputs(&document["paths"], &mut names);
    assert!(names.len() > 30, "the document names what is taken: {names:?}");
    for name in names {
        let words: Vec<_> = name.split(['_', '-']).collect();
        let reaches_out = [
            "url", "uri", "href", "host", "hostname", "webhook", "callback", "proxy", "file", "filename", "dir",
            "command", "cmd", "exec", "script", "template",
        ];
        assert!(!words.iter().any(|word| reaches_out.contains(word)), "{name}");
    }
}

/// Every name of a property or a parameter in an OpenAPI document.
fn inputs(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                names.extend(properties.keys().cloned());
            }
            if let (Some(name), Some(_)) = (members.get("name").and_then(Value::as_str), members.get("in")) {
                names.push(name.to_owned());
            }
            members.values().for_each(|value| inputs(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| inputs(value, names)),
        _ => {}
    }
}

#[test]
fn the_image_runs_as_a_user() {
    let dockerfile = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile")).expect("the Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap_or_default();
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(
        user.split(':').all(|part| part.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}: a number, so that it can be told from root"
    );
}
