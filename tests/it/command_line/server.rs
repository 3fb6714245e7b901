//! The commands against the program itself.

use std::process::Output;

use serde_json::{Value, json};

use super::{keyward_with, stderr, stdout};
use crate::harness::program::Running;
use crate::harness::{Client, chat, post};

const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "127.0.0.1:0"
tokens = [{ name = "ops", token = "an-operators-token", role = "write" }]
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

async fn start() -> Running {
    let keys = "[[keys]]\nname = \"filed\"\nkey = \"a-secret-of-the-file\"\n";
    Running::start(CONFIG, |home| std::fs::write(home.join("keys.toml"), keys).expect("written")).await
}

fn run(program: &Running, line: &str, input: &str) -> Output {
    let url = format!("http://{}", program.admin);
    let token = program.path("token");
    std::fs::write(&token, "an-operators-token\n").expect("written");
    let env = [("KEYWARD_ADMIN_URL", url.as_str()), ("KEYWARD_ADMIN_TOKEN_FILE", token.to_str().expect("a path"))];
    keyward_with(&line.split(' ').collect::<Vec<_>>(), input, &env)
}

/// What a command that ends well prints.
#[track_caller]
fn printed(program: &Running, line: &str) -> String {
    let output = run(program, line, "");
    assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
    stdout(&output)
}

#[track_caller]
fn json_of(program: &Running, line: &str) -> Value {
    serde_json::from_str(&printed(program, &format!("{line} --json"))).expect("JSON")
}

/// The secret of a `--quiet` command.
#[track_caller]
fn secret(program: &Running, line: &str) -> String {
    printed(program, &format!("{line} --quiet")).trim_end().to_owned()
}

async fn status_of(program: &Running, secret: &str) -> u16 {
    Client::once(program.data, &post("/v1/chat/completions", secret, &chat("gpt-4o", false))).await.status
}

#[tokio::test]
async fn a_key_lives_from_create_to_delete_by_command() {
    let program = start().await;
    let first =
        secret(&program, "key create --name demo --model gpt-4o* --rpm 60 --expires 30d --team search --metadata a=b");
    assert_eq!(status_of(&program, &first).await, 200, "the very next request");
    let key = json_of(&program, "key show demo");
    assert_eq!(
        (&key["rpm_limit"], &key["team_id"], &key["metadata"]),
        (&json!(60), &json!("search"), &json!({"a": "b"}))
    );
    assert_eq!(key["key"], Value::Null);

    let second = secret(&program, "key rotate demo --grace 1h");
    assert_eq!((status_of(&program, &first).await, status_of(&program, &second).await), (200, 200), "both work");
    let shown = printed(&program, "key show demo");
    assert!(shown.contains("old_secrets") && shown.contains("1 use since") && !shown.contains(&first), "{shown}");
    printed(&program, "key rotate-end demo");
    assert_eq!((status_of(&program, &first).await, status_of(&program, &second).await), (401, 200));

    let changed = json_of(&program, "key update demo --rpm 7 --clear expires --clear metadata --quota 1000000");
    assert_eq!(
        (&changed["rpm_limit"], &changed["expires_at"], &changed["metadata"]),
        (&json!(7), &Value::Null, &json!({}))
    );
    assert_eq!((&changed["quota_limit"], &changed["models_allowed"]), (&json!(1_000_000), &json!(["gpt-4o*"])));
    let stale = run(&program, "key update demo --rpm 8 --if-match \"1\"", "");
    assert_eq!(stale.status.code(), Some(1));
    assert!(stderr(&stale).contains("(412)"), "{}", stderr(&stale));
    let wrong = run(&program, "key update demo --rpm 0 --quota-reset weekly --model a(b", "");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("\n  rpm_limit: ") && stderr(&wrong).contains("\n  models_allowed[0]: "),
        "{}",
        stderr(&wrong)
    );

    printed(&program, "key disable demo");
    assert_eq!(status_of(&program, &second).await, 401, "the very next request");
    assert!(printed(&program, "key list --status disabled").contains("demo"));
    printed(&program, "key enable demo");
    assert_eq!(status_of(&program, &second).await, 200, "the very next request");
    assert_eq!(run(&program, "key delete demo", "y\n").status.code(), Some(2), "nobody is there to confirm");
    assert_eq!(printed(&program, "key delete demo demo --yes").lines().count(), 1, "one key, named twice");
    assert_eq!(status_of(&program, &second).await, 401, "the very next request");
    assert_eq!(run(&program, "key show demo", "").status.code(), Some(1));
    let filed = run(&program, "key delete filed --yes", "");
    assert!(filed.status.code() == Some(1) && stderr(&filed).contains("(409)"), "{}", stderr(&filed));
}

#[tokio::test]
async fn a_secret_of_ones_own_and_a_key_that_begins_switched_off() {
    let program = start().await;
    let made = run(&program, "key create --name moved --key-stdin --json", "my-old-secret-1\n");
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert_eq!(status_of(&program, "my-old-secret-1").await, 200);
    let taken = run(&program, "key create --name again --key-stdin", "my-old-secret-1\n");
    assert!(taken.status.code() == Some(1) && stderr(&taken).contains("(409)"), "{}", stderr(&taken));

    let off = json_of(&program, "key create --name off --disabled");
    assert_eq!(off["status"], "disabled");
    let secret = off["key"].as_str().expect("a secret");
    assert_eq!(status_of(&program, secret).await, 401);
    printed(&program, "key enable off");
    assert_eq!(status_of(&program, secret).await, 200);
}

#[tokio::test]
async fn questions_about_keys_are_answered_with_the_servers_numbers() {
    let program = start().await;
    let secret = secret(&program, "key create --name asked --model gpt-4o* --rpm 60 --org acme");
    assert_eq!(status_of(&program, &secret).await, 200);

    let may = run(
        &program,
        "key explain asked --model gpt-4o --endpoint /v1/chat/completions --ip 10.1.2.3 --prompt-tokens 80",
        "",
    );
    assert_eq!(may.status.code(), Some(0), "{}", stderr(&may));
    assert!(stdout(&may).ends_with("admitted\n"), "{}", stdout(&may));
    let may_not = run(&program, "key explain asked --model o3", "");
    assert_eq!(may_not.status.code(), Some(1));
    assert!(
        stdout(&may_not).contains("(model_not_allowed)") && stdout(&may_not).ends_with("refused\n"),
        "{}",
        stdout(&may_not)
    );

    let used = json_of(&program, "key usage asked --by model");
    assert_eq!((&used["group_by"], &used["items"][0]["group"]), (&json!("model"), &json!("gpt-4o")));
    assert_eq!(used["items"][0]["requests"], 1);
    let table = printed(&program, "usage --from 1d --by org");
    assert!(table.starts_with("ORG ") && table.contains("\nacme "), "{table}");
    let csv = printed(&program, "usage --by key --key asked --csv");
    assert!(csv.starts_with("group,name,requests") && csv.contains(",asked,1,"), "{csv}");
    let nothing = run(&program, "usage --from 2020-01-01 --to 2020-01-02", "");
    assert!(nothing.status.code() == Some(0) && stderr(&nothing).contains("nothing was used"));

    let audit = printed(&program, "audit --action key.create");
    assert!(audit.contains("key.create") && audit.contains("name: asked") && !audit.contains(&secret), "{audit}");
    assert_eq!(json_of(&program, "audit --key asked --operator ops")["items"][0]["action"], "key.create");
}

#[tokio::test]
async fn a_time_that_ends_before_it_begins_is_refused() {
    let program = start().await;
    for line in ["usage", "key usage filed", "audit"] {
        let wrong = run(&program, &format!("{line} --from 1d --to 7d"), "");
        assert_eq!(wrong.status.code(), Some(2), "{line}");
        assert!(stderr(&wrong).contains("--from has to be before --to"), "{}", stderr(&wrong));
    }
}

#[tokio::test]
async fn a_list_of_more_than_a_page_is_whole() {
    let program = start().await;
    let bearer = "authorization: Bearer an-operators-token";
    let mut client = Client::connect(program.admin).await;
    for n in 0..520 {
        let body = json!({ "name": format!("k{n}") }).to_string();
        let length = body.len();
        let head = format!(
            "POST /api/v1/gateway/keys HTTP/1.1\r\nhost: a\r\n{bearer}\r\ncontent-type: application/json\r\ncontent-length: {length}"
        );
        client.send(format!("{head}\r\n\r\n{body}").as_bytes()).await;
        assert_eq!(client.answer().await.status, 201);
    }
    let ids = printed(&program, "key list --quiet");
    let mut distinct = ids.lines().collect::<Vec<_>>();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 521, "with the key of the file");
    let list = json_of(&program, "key list --limit 510 --name k");
    assert_eq!((list["items"].as_array().map(Vec::len), &list["total"]), (Some(510), &json!(520)));
    let start = &ids.lines().next().expect("an id")[..23];
    assert_eq!(printed(&program, &format!("key show {start} --quiet")).trim_end(), ids.lines().next().expect("an id"));
}

#[tokio::test]
async fn a_reload_says_what_it_came_to() {
    let program = start().await;
    assert!(printed(&program, "reload").contains("applied        yes"));
    for round in 0..10 {
        let name = format!("filed-{round}");
        program.write("keys.toml", &format!("[[keys]]\nname = \"{name}\"\nkey = \"a-secret-of-the-file\"\n"));
        printed(&program, "reload");
        assert!(printed(&program, "key list").contains(&name), "what is in force is listed");
    }
    program.write("keys.toml", "[[keys]]\nname = \"filed\"\nkey = \"a-secret-of-the-file\"\nrpm_limit = 0\n");
    let refused = run(&program, "reload", "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stdout(&refused).contains("rpm_limit"), "{}{}", stdout(&refused), stderr(&refused));
}
