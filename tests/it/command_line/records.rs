//! `keyward ledger records`: beside the program, after it was killed, and of a store that is none.

use std::fs;
use std::process::{Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use super::{stderr, stdout};
use crate::harness::program::{PATIENCE, Running, Stopwatch, command};
use crate::harness::{Client, chat, post};
use crate::ledger::CONFIG;

const KEYS: &str =
    "[[keys]]\nname = \"a\"\nkey = \"a-secret-of-the-file\"\n[[keys]]\nname = \"b\"\nkey = \"b-secret-of-the-file\"\n";

async fn start() -> Running {
    Running::start(CONFIG, |home| fs::write(home.join("keys.toml"), KEYS).expect("written")).await
}

fn run(program: &Running, line: &str) -> Output {
    let line = format!("ledger records --config keyward.toml {line}");
    command(program.home.path(), &line.split_whitespace().collect::<Vec<_>>()).output().expect("it ends")
}

/// The records that a command which ends well prints, one a line.
#[track_caller]
fn records(program: &Running, line: &str) -> Vec<Value> {
    let output = run(program, &format!("{line} --json"));
    assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).expect("an object to a line")).collect()
}

/// What the client has to show for a request.
async fn ask(program: &Running, secret: &str, model: &str) -> (u16, Value) {
    let answer = Client::once(program.data, &post("/v1/chat/completions", secret, &chat(model, false))).await;
    // No two of them are settled in the same millisecond: this one is, and the next one is not before that is over.
    let millisecond = || jiff::Timestamp::now().as_millisecond();
    let settled_by = millisecond();
    while millisecond() <= settled_by {
        tokio::task::yield_now().await;
    }
    (answer.status, answer.json())
}

async fn until_recorded(program: &Running, count: usize) -> Vec<Value> {
    let began = Stopwatch::start();
    loop {
        let found = records(program, "");
        if found.len() == count {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn text<'a>(record: &'a Value, member: &str) -> &'a str {
    record[member].as_str().expect("a text")
}

#[tokio::test]
async fn what_a_running_proxy_has_settled_is_printed_with_its_numbers() {
    let program = start().await;
    assert!(stderr(&run(&program, "")).contains("there is no such record"));
    let (status, answer) = ask(&program, "a-secret-of-the-file", "gpt-4o").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ask(&program, "b-secret-of-the-file", "sandbox-error-500").await.0, 500);
    assert_eq!(ask(&program, "a-secret-of-the-file", "o3").await.0, 200);
    let found = until_recorded(&program, 3).await;

    let first = &found[0];
    let usage = &answer["usage"];
    assert_eq!(
        [&first["input_tokens"], &first["output_tokens"], &first["units"]],
        [&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]]
    );
    let told = ["model", "dialect", "endpoint", "outcome"].map(|member| text(first, member));
    assert_eq!(told, ["gpt-4o", "openai", "chat/completions", "answered"]);
    assert_eq!((&first["status"], &first["reason"], &first["estimated"]), (&200.into(), &Value::Null, &false.into()));
    let (first_byte, whole) = (first["first_byte_ms"].as_f64(), first["duration_ms"].as_f64());
    assert!(first_byte > Some(0.0) && first_byte <= whole, "{first}");
    let failed = [&found[1]["status"], &found[1]["outcome"], &found[1]["units"]];
    assert_eq!(failed, [&Value::from(500), &"upstream_error".into(), &0.into()]);
    assert_eq!(found[0]["key_id"], found[2]["key_id"]);
    let all = format!("{found:?}");
    assert!(!all.contains("secret"), "{all}");

    filtered(&program, &found);
    printed_otherwise(&program, &found);
}

/// By key and time.
fn filtered(program: &Running, found: &[Value]) {
    let (id, second) = (text(&found[1], "key_id"), text(&found[1], "at"));
    for line in ["--key b", &format!("--key {id}"), &format!("--key {}", &id[..13])] {
        assert_eq!(records(program, line), found[1..2], "{line}");
    }
    assert_eq!(records(program, &format!("--from {second}")), found[1..]);
    assert_eq!(records(program, &format!("--to {second}")), found[..1], "a day before, up to that");
    assert_eq!(records(program, &format!("--from {second} --limit 1 --key a")), found[2..]);
    let none = run(program, "--from 2020-01-01 --to 2020-01-02 --json");
    assert_eq!((none.status.code(), stdout(&none)), (Some(0), String::new()));
    assert!(stderr(&none).contains("there is no such record"), "{}", stderr(&none));
    let nobody = run(program, "--key nobody");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("no key is named `nobody`"), "{}", stderr(&nobody));
    for (line, told) in
        [("--from 1d --to 7d", "--from has to be before --to"), ("--from soon", "--from `soon` is no moment")]
    {
        let wrong = run(program, line);
        assert!(wrong.status.code() == Some(2) && stderr(&wrong).contains(told), "{line}: {}", stderr(&wrong));
    }
}

/// As a table, as CSV, and to nobody.
fn printed_otherwise(program: &Running, found: &[Value]) {
    let table = run(program, "--limit 2");
    assert_eq!(stdout(&table).lines().count(), 3, "{}", stdout(&table));
    assert!(stdout(&table).contains("sandbox-error-500") && !stdout(&table).contains("gpt-4o"), "{}", stdout(&table));
    assert!(stderr(&table).contains("the newest 2 of 3 record(s)"), "{}", stderr(&table));
    let csv = stdout(&run(program, "--csv"));
    let lines = csv.split_terminator("\r\n").collect::<Vec<_>>();
    assert!(lines.len() == 4 && lines[0].starts_with("at,request_id,key_id,"), "{csv}");
    assert!(lines[3].contains(text(&found[2], "request_id")), "{csv}");
    let full = fs::File::options().write(true).open("/dev/full").expect("the full device");
    let arguments = ["ledger", "records", "--config", "keyward.toml", "--json"];
    let unread =
        command(program.home.path(), &arguments).stdout(full).stderr(Stdio::piped()).output().expect("it ends");
    assert!(unread.status.code() == Some(1) && stderr(&unread).contains("standard output"), "{}", stderr(&unread));
}

#[tokio::test]
async fn what_a_killed_program_left_in_its_journals_is_told() {
    let mut program = start().await;
    // As long as somebody writes nothing of it comes into the store.
    let writer = Connection::open(program.path("data/keyward.db")).expect("the store");
    writer.busy_timeout(PATIENCE).and_then(|()| writer.execute_batch("BEGIN IMMEDIATE")).expect("the lock");
    assert_eq!(ask(&program, "a-secret-of-the-file", "gpt-4o").await.0, 200);
    program.kill();
    writer.execute_batch("ROLLBACK").expect("let go");
    let left = run(&program, "");
    assert_eq!((left.status.code(), stdout(&left)), (Some(0), String::new()), "{}", stderr(&left));
    assert!(stderr(&left).contains("up to 1 more are still in the journals"), "{}", stderr(&left));
    program.restart().await;
    until_recorded(&program, 1).await;
    assert!(!stderr(&run(&program, "")).contains("journals"));
}

#[tokio::test]
async fn a_store_that_is_damaged_or_not_there_is_told_with_what_to_do() {
    let mut program = start().await;
    assert_eq!(ask(&program, "a-secret-of-the-file", "gpt-4o").await.0, 200);
    until_recorded(&program, 1).await;
    program.signal("TERM");
    assert!(program.ended_within(PATIENCE).await.success());
    let store = program.path("data/keyward.db");
    Connection::open(&store)
        .and_then(|store| store.execute("UPDATE record_blocks SET data = x'00'", []))
        .expect("damaged");
    let told = |expected: &str| {
        let output = run(&program, "--json");
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
        assert!(stderr(&output).contains("keyward.db: ") && stderr(&output).contains(expected), "{}", stderr(&output));
    };
    told("restore it from a backup");
    fs::write(&store, "no store at all, but long enough to be looked at").expect("written");
    told("restore it from a backup");
    fs::remove_file(&store).expect("removed");
    told("there is no such file");
    assert!(!store.exists(), "nothing is made by looking");
}
