//! Keys by command, against a server of the test's own that remembers what it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::{keyward_with, stderr, stdout};

const ID: &str = "01999f2e-3f6c-7c3a-9d55-2f1f6f0f9a11";
const OTHER: &str = "01999f2e-aaaa-7c3a-9d55-2f1f6f0f9a12";
const SECRET: &str = "sk-kw-a-secret-that-is-shown-only-once";

/// What it was asked: method, target, headers, body.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    head: String,
    body: Value,
}

/// A server that answers by script.
struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    fn start(script: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let Some(asked) = read(&mut stream) else { continue };
                let (status, body) = script(&asked);
                seen.lock().expect("no panic").push(asked);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
        Self { address, asked }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let url = format!("http://{}", self.address);
        keyward_with(arguments, input, &[("KEYWARD_ADMIN_URL", &url), ("KEYWARD_ADMIN_TOKEN", "a-token-of-the-test")])
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

fn read(stream: &mut std::net::TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, head, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

fn key(id: &str, name: &str, secret: Option<&str>) -> String {
    // Not in the order of the alphabet: the order must be kept.
    let secret = secret.map_or("null".to_owned(), |secret| format!("\"{secret}\""));
    format!(
        r#"{{"id":"{id}","org_id":null,"team_id":"search","name":"{name}","key":{secret},"key_prefix":"sk-kw-a-secr","models_allowed":["gpt-4o*"],"rpm_limit":60,"expires_at":"2027-01-01T00:00:00Z","status":"active"}}"#
    )
}

/// A server that has two keys.
fn two_keys() -> Scripted {
    Scripted::start(|asked| {
        let path = asked.line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        match (asked.line.split(' ').next().unwrap_or_default(), path.as_str()) {
            ("GET", "/api/v1/gateway/keys") => {
                (200, format!(r#"{{"items":[{},{}],"total":2}}"#, key(OTHER, "demo-2", None), key(ID, "demo", None)))
            }
            ("POST", "/api/v1/gateway/keys") => (201, key(ID, "demo", Some(SECRET))),
            ("PUT", path) if path.ends_with("/rotate") => (200, key(ID, "demo", Some(SECRET))),
            ("DELETE", _) => (204, String::new()),
            _ => (200, key(ID, "demo", None)),
        }
    })
}

#[test]
fn a_key_is_made_with_a_table_for_eyes_json_for_programs_and_the_bare_secret_for_scripts() {
    let server = two_keys();
    let line = ["key", "create", "--name", "demo", "--model", "gpt-4o*", "--rpm", "60", "--expires", "30d"];
    let table = server.run(&line, "");
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    assert!(stdout(&table).contains(SECRET) && stdout(&table).contains("gpt-4o*"), "{}", stdout(&table));
    assert!(!stdout(&table).contains('\u{1b}'), "no colours where there is no terminal");
    assert!(stderr(&table).contains("only now"));

    let quiet = server.run(&[&line[..], &["--quiet"]].concat(), "");
    assert_eq!(stdout(&quiet), format!("{SECRET}\n"));
    assert!(stderr(&quiet).contains("only now") && !stderr(&quiet).contains(SECRET));

    let json = server.run(&[&line[..], &["--json"]].concat(), "");
    assert_eq!(stdout(&json), format!("{}\n", key(ID, "demo", Some(SECRET))), "as it came, in its order");

    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /api/v1/gateway/keys");
    assert!(asked[0].head.contains("authorization: Bearer a-token-of-the-test"));
    assert_eq!((&asked[0].body["name"], &asked[0].body["rpm_limit"]), (&json!("demo"), &json!(60)));
    assert_eq!(asked[0].body["models_allowed"], json!(["gpt-4o*"]));
    assert!(asked[0].body["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{}", asked[0].body);
    let once = |at: usize| asked[at].head.lines().find(|line| line.starts_with("idempotency-key: ")).map(str::to_owned);
    assert!(once(0).is_some() && once(0) != once(1), "each command is a wish of its own");
}

#[test]
fn a_chosen_secret_comes_from_standard_input_and_is_not_said_again() {
    let server = two_keys();
    let output = server.run(&["key", "create", "--name", "moved", "--key-stdin", "--quiet"], "my-old-secret-1\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(server.asked()[0].body["key"], "my-old-secret-1");
    assert!(!stderr(&output).contains("my-old-secret-1"));
    let malformed = server.run(&["key", "create", "--name", "moved", "--key-stdin"], "no secret at all");
    assert_eq!((malformed.status.code(), server.asked().len()), (Some(2), 1));
}

#[test]
fn a_key_is_named_by_its_name_its_id_or_the_beginning_of_one_and_never_by_chance() {
    let server = two_keys();
    let quiet = |name: &str| server.run(&["key", "show", name, "--quiet"], "");
    for name in ["demo", ID, "01999f2e-3"] {
        assert_eq!(stdout(&quiet(name)), format!("{ID}\n"), "{name}");
    }
    let lines = server.lines();
    assert_eq!(lines[0], "GET /api/v1/gateway/keys?limit=1000&name=demo");
    assert_eq!(lines[2], format!("GET /api/v1/gateway/keys/{ID}"), "an id is not looked up");
    let several = quiet("01999f2e");
    assert_eq!(several.status.code(), Some(1));
    assert!(stderr(&several).contains(ID) && stderr(&several).contains(OTHER), "{}", stderr(&several));
    let none = quiet("dem");
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("no key is named `dem`"));
}

#[test]
fn only_what_is_named_is_changed() {
    let server = two_keys();
    let line = ["key", "update", ID, "--rpm", "120", "--expires", "never", "--clear", "ip", "--if-match", "\"3\""];
    assert_eq!(server.run(&line, "").status.code(), Some(0));
    let asked = server.asked();
    assert_eq!(asked[0].line, format!("PUT /api/v1/gateway/keys/{ID}"));
    assert_eq!(asked[0].body, json!({"rpm_limit": 120, "expires_at": null, "allowed_ips": null}));
    assert!(asked[0].head.contains("if-match: \"3\"\r\n"), "{}", asked[0].head);
    assert_eq!(server.run(&["key", "update", ID], "").status.code(), Some(2));
    assert_eq!(server.asked().len(), 1, "nothing to change is not asked");
}

#[test]
fn a_key_is_rotated_switched_and_deleted() {
    let server = two_keys();
    let rotated = server.run(&["key", "rotate", ID, "--grace", "2h", "--quiet"], "");
    assert_eq!(stdout(&rotated), format!("{SECRET}\n"), "{}", stderr(&rotated));
    assert_eq!(server.asked()[0].body, json!({"grace_seconds": 7200}));
    for (arguments, line) in [
        (&["key", "rotate", ID, "--grace", "0"][..], format!("PUT /api/v1/gateway/keys/{ID}/rotate")),
        (&["key", "rotate-end", ID], format!("PUT /api/v1/gateway/keys/{ID}/rotate/end")),
        (&["key", "disable", ID], format!("PUT /api/v1/gateway/keys/{ID}/disable")),
        (&["key", "enable", ID], format!("PUT /api/v1/gateway/keys/{ID}/enable")),
        (&["key", "delete", ID, "--yes"], format!("DELETE /api/v1/gateway/keys/{ID}")),
    ] {
        let output = server.run(arguments, "");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert_eq!(server.lines().last(), Some(&line));
    }
    let asked = server.asked().len();
    let unconfirmed = server.run(&["key", "delete", ID], "y\n");
    assert_eq!(unconfirmed.status.code(), Some(2));
    assert!(stderr(&unconfirmed).contains("--yes"));
    assert_eq!(server.asked().len(), asked, "nothing was asked");
}

#[test]
fn a_list_follows_its_cursors_up_to_its_limit_as_one_document() {
    let server = Scripted::start(|asked| {
        let last = asked.line.contains("cursor=b%2B");
        let next = if last { "null" } else { "\"b+\"" };
        let (first, second) = if last { (3, 4) } else { (1, 2) };
        let name = |n: i32| key(ID, &format!("k{n}"), None);
        (200, format!(r#"{{"items":[{},{}],"total":4,"next_cursor":{next}}}"#, name(first), name(second)))
    });
    let names = |output: &Output| {
        let list: Value = serde_json::from_str(&stdout(output)).expect("one document");
        let names = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|key| key["name"].as_str().unwrap_or_default().to_owned());
        (names.collect::<Vec<_>>().join(","), list["total"].clone())
    };
    let all = server.run(&["key", "list", "--json", "--status", "active", "--team", "a&b", "--sandbox=false"], "");
    assert_eq!(names(&all), ("k1,k2,k3,k4".to_owned(), json!(4)));
    assert_eq!(server.lines()[0], "GET /api/v1/gateway/keys?limit=500&status=active&team_id=a%26b&is_sandbox=false");
    let three = server.run(&["key", "list", "--json", "--limit", "3"], "");
    assert_eq!(names(&three).0, "k1,k2,k3");
    assert!(server.lines()[2].contains("limit=3") && server.lines()[3].contains("limit=1"), "{:?}", server.lines());
    let ids = server.run(&["key", "list", "--quiet"], "");
    assert_eq!(stdout(&ids), format!("{ID}\n").repeat(4));
    let table = server.run(&["key", "list"], "");
    assert_eq!(stdout(&table).matches("NAME").count(), 1, "one head for all pages");
    assert!(stdout(&table).contains("k4") && stderr(&table).contains("4 of 4"));
    let empty = Scripted::start(|_| (200, r#"{"items":[],"total":0}"#.to_owned()));
    assert_eq!(names(&empty.run(&["key", "list", "--json"], "")), (String::new(), json!(0)));
}

#[test]
fn a_no_is_said_in_the_servers_words_and_ends_with_1() {
    for (status, body, expected) in [
        (
            422,
            r#"{"detail":[{"loc":["body","rpm_limit"],"msg":"Input should be less","type":"x"}]}"#,
            "rpm_limit: Input should be less",
        ),
        (401, r#"{"detail":"unknown token"}"#, "KEYWARD_ADMIN_TOKEN"),
        (409, r#"{"detail":"declared by file"}"#, "declared by file"),
        (503, "<html>gone</html>", "--admin-url"),
        (200, "<html>hello</html>", "--admin-url"),
    ] {
        let server = Scripted::start(move |_| (status, body.to_owned()));
        let output = server.run(&["key", "show", ID], "");
        assert_eq!(output.status.code(), Some(1), "{status}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{status}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{status}");
    }
}

#[test]
fn what_surrounds_a_command_is_checked_before_anything_is_asked() {
    let run = |arguments: &[&str], env: &[(&str, &str)]| {
        let output = keyward_with(arguments, "", env);
        (output.status.code(), stderr(&output))
    };
    let token = ("KEYWARD_ADMIN_TOKEN", "a-token-of-the-test");
    let (code, said) = run(&["key", "list"], &[]);
    assert!(code == Some(2) && said.contains("KEYWARD_ADMIN_TOKEN_FILE"), "{said}");
    let (code, said) = run(&["key", "list", "--admin-url", "ftp://127.0.0.1:1"], &[token]);
    assert!(code == Some(2) && said.contains("expected http"), "{said}");
    let (code, said) = run(&["usage", "--admin-url", "http://127.0.0.1:1"], &[token]);
    assert!(code == Some(1) && said.contains("not reachable"), "{said}");
    let (code, said) = run(&["usage", "--from", "someday"], &[token]);
    assert!(code == Some(2) && said.contains("someday"), "{said}");
    assert_eq!(run(&["key", "create", "--name", "a", "--expires", "soon"], &[token]).0, Some(2));
    assert_eq!(run(&["key", "rotate", ID, "--grace", "a while"], &[token]).0, Some(2));
    assert_eq!(run(&["key", "list", "--json", "--quiet"], &[token]).0, Some(2));
}
