//! The command line as scripts and people use it: output, errors, exit codes.

mod keys;
mod records;
mod server;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn keyward(arguments: &[&str], input: &str) -> Output {
    keyward_with(arguments, input, &[])
}

fn keyward_with(arguments: &[&str], input: &str, env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    for name in ["CONFIG", "LOG", "ADMIN_URL", "ADMIN_TOKEN", "ADMIN_TOKEN_FILE"] {
        command.env_remove(format!("KEYWARD_{name}"));
    }
    let mut child = command
        .args(arguments)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    // A command that does not read its input may have ended by now.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path.display().to_string()
}

const GOOD: &str = "keys_file = \"keys.toml\"\n[[upstreams]]\nname = \"s\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n";

#[test]
fn a_secret_is_hashed_as_the_key_file_wants_it() {
    let output = keyward(&["key", "hash"], "test-secret-1\n");
    assert_eq!(output.status.code(), Some(0));
    // printf %s test-secret-1 | sha256sum
    let expected = "sha256:0c54f5db7fd32c14f2d370493828b4ff42bed33c48dc0c689ff8e00fa747ecc3\n";
    assert_eq!(stdout(&output), expected);
    assert!(!stdout(&output).contains("test-secret-1") && !stderr(&output).contains("test-secret-1"));
    let again = keyward(&["key", "hash"], "test-secret-1");
    assert_eq!(stdout(&again), stdout(&output), "a newline at the end is not part of the secret");
    assert_eq!(keyward(&["key", "hash"], "short").status.code(), Some(2));
    assert_eq!(keyward(&["key", "hash"], "has a space in it").status.code(), Some(2));
}

#[test]
fn a_generated_secret_goes_to_standard_error_and_its_hash_to_standard_output() {
    let output = keyward(&["key", "hash", "--generate"], "");
    let said = stderr(&output);
    let secret = said.split_whitespace().last().expect("a secret");
    assert!(secret.starts_with("sk-kw-") && secret.len() == 55, "{secret}");
    assert!(stdout(&output).starts_with("sha256:") && !stdout(&output).contains(secret));
    assert_eq!(stdout(&keyward(&["key", "hash"], secret)), stdout(&output));
}

#[test]
fn check_says_every_fault_of_both_files_and_exits_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = write(folder.path(), "keyward.toml", GOOD);
    write(folder.path(), "keys.toml", "[[keys]]\nname = \"a\"\nkey = \"secret-of-a-1\"\n");
    let output = keyward(&["check", "--config", &config], "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("in order, 1 key(s)"));

    let text = format!("{GOOD}[limits]\non_low_quota = \"sometimes\"\nunknown_name = 1\n");
    write(folder.path(), "keyward.toml", &text);
    write(folder.path(), "keys.toml", "[[keys]]\nname = \"a\"\nkey = \"secret-of-a-1\"\nrpm_limit = 0\n");
    let output = keyward(&["check", "--json", "--config", &config], "");
    assert_eq!(output.status.code(), Some(2));
    let verdict: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(verdict["ok"], false);
    let faults = verdict["faults"].to_string();
    assert!(faults.contains("keyward.toml:7:") && faults.contains("limits.on_low_quota"), "{faults}");
    assert!(faults.contains("keyward.toml:8:") && faults.contains("limits.unknown_name"), "{faults}");
    assert!(faults.contains("keys.toml:4:") && faults.contains("keys[0].rpm_limit"), "{faults}");
    assert!(!stdout(&output).contains("secret-of-a-1") && !stderr(&output).contains("secret-of-a-1"));
    assert!(!folder.path().join("data").exists(), "a check writes nothing");
}

#[test]
fn serve_refuses_what_check_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = write(folder.path(), "keyward.toml", "[server]\nlistne = \"127.0.0.1:0\"\n");
    let output = keyward(&["serve", "--config", &config], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("listne") && stderr(&output).contains("nothing was started"),
        "{}",
        stderr(&output)
    );
    let missing = keyward(&["serve", "--config", "/nonexistent/keyward.toml"], "");
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/nonexistent/keyward.toml"));
}

#[test]
fn the_rest_answers_on_standard_output() {
    for (arguments, expected) in [
        (&["version"][..], "keyward "),
        (&["version", "--json"], "\"version\""),
        (&["man"], ".TH keyward"),
        (&["completions", "bash"], "_keyward"),
        (&["--help"], "Examples:"),
        (&["serve", "--help"], "Example:"),
    ] {
        let output = keyward(arguments, "");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains(expected), "{arguments:?}: {}", stdout(&output));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let pages = keyward(&["man", "--all", &folder.path().display().to_string()], "");
    assert_eq!(pages.status.code(), Some(0), "{}", stderr(&pages));
    for page in ["keyward.1", "keyward-key-create.1", "keyward-usage.1", "keyward-ledger-records.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
    let nobody = keyward(&["healthcheck", "--admin-url", "http://127.0.0.1:1"], "");
    assert_eq!(nobody.status.code(), Some(1));
    assert_eq!(keyward(&["no-such-command"], "").status.code(), Some(2));
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "keys.toml", "keys = []\n");
    let config = write(folder.path(), "keyward.toml", GOOD);
    for arguments in [
        &["version"][..],
        &["version", "--json"],
        &["check", "--config", &config],
        &["check", "--json", "--config", &config],
        &["key", "hash", "--generate"],
        &["man"],
        &["completions", "bash"],
        &["--help"],
        &["key", "delete", "--help"],
        &["--version"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").expect("the full device");
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        let output = command.args(arguments).stdout(full).output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("standard output: "), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn the_first_start_goes_on_when_nobody_reads_the_token() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "keys.toml", "keys = []\n");
    let text = format!("{GOOD}[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n");
    let config = write(folder.path(), "keyward.toml", &text);
    let ready = folder.path().join("ready.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(["serve", "--config", &config, "--ready-file", &ready.display().to_string()]);
    command.current_dir(folder.path()).stderr(fs::File::create(folder.path().join("log")).expect("a file"));
    let full = fs::File::options().write(true).open("/dev/full").expect("the full device");
    let mut child = command.stdout(full).spawn().expect("the program");
    while !ready.exists() && child.try_wait().expect("its state").is_none() {
        std::thread::yield_now();
    }
    let ended = child.try_wait().expect("its state");
    child.kill().expect("it ends");
    child.wait().expect("it ends");
    let log = fs::read_to_string(folder.path().join("log")).expect("the log");
    assert!(ended.is_none(), "{log}");
    assert!(log.contains("could not be written") && log.contains("[admin] tokens"), "{log}");
}

/// Answers every connection with these bytes until the test's process ends.
fn stranger(answer: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn an_answer_of_a_stranger_is_no_success() {
    for answer in [
        "SSH-2.0-OpenSSH_9\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"detail\":1}",
        "HTTP/1.1 500 No\r\ncontent-length: 8\r\n\r\n\u{1b}[31mred",
        "HTTP/1.1 301 Moved\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
    ] {
        let url = stranger(answer);
        let env = [("KEYWARD_ADMIN_URL", url.as_str()), ("KEYWARD_ADMIN_TOKEN", "a-token-of-somebody")];
        for arguments in [
            &["key", "create", "--name", "x"][..],
            &["key", "create", "--name", "x", "--json"],
            &["key", "create", "--name", "x", "--quiet"],
            &["key", "disable", "01999f2e-3f6c-7c3a-9d55-2f1f6f0f9a11", "--json"],
            &["key", "list"],
            &["key", "list", "--json"],
            &["usage"],
            &["audit"],
            &["reload"],
            &["reload", "--json"],
        ] {
            let output = keyward_with(arguments, "", &env);
            assert_eq!(output.status.code(), Some(1), "{arguments:?} {answer:?}: {}", stdout(&output));
            assert!(stderr(&output).starts_with("keyward: ") && stdout(&output).is_empty(), "{arguments:?} {answer:?}");
            assert!(!stderr(&output).contains('\u{1b}'), "{arguments:?} {answer:?}");
        }
    }
}
