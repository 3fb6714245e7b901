//! Tokens, queries and what becomes of connections that fail.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::*;

/// A server that gives each connection the next answer; an empty one is a connection that breaks. It returns what it was asked.
fn server(answers: Vec<&'static str>) -> (Server, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin_url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).expect("text");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a body");
            asked.push(format!("{head}{}", String::from_utf8(body).expect("text")));
            stream.write_all(answer.as_bytes()).expect("it listens");
        }
        asked
    });
    (Server { admin_url, admin_ca: None }, asked)
}

const YES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn client(server: &Server) -> Client {
    Client::with_token(server, "token-of-an-operator").expect("a client")
}

fn why(failure: Failure) -> String {
    match failure {
        Failure::Failed(why) | Failure::NotInOrder(why) => why,
        Failure::NobodyReads => String::new(),
    }
}

#[test]
fn a_call_that_may_be_made_twice_is_sent_again_with_the_same_idempotency_key_when_the_connection_breaks() {
    let (server, asked) = server(vec!["", YES]);
    let call = Call::new(Method::POST, "/x").with_body(serde_json::json!({"a": 1})).once().expect("random");
    assert_eq!(client(&server).call(&call).expect("an answer").text(), Ok("{}"));
    let asked = asked.join().expect("it ends");
    assert_eq!(asked[0], asked[1]);
    assert!(asked[0].starts_with("POST /x HTTP/1.1\r\n") && asked[0].ends_with("{\"a\":1}"), "{}", asked[0]);
    let key = asked[0].lines().find_map(|line| line.strip_prefix("idempotency-key: ")).expect("a key");
    assert!(key.len() == 32 && asked[0].contains("authorization: Bearer token-of-an-operator"), "{}", asked[0]);
}

#[test]
fn it_is_not_sent_a_third_time_and_a_call_that_may_not_be_repeated_is_sent_once() {
    let (twice, asked) = server(vec!["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"]);
    let broken = client(&twice).call(&Call::get("/x")).expect_err("no whole answer");
    assert!(why(broken).contains("broke off"));
    assert_eq!(asked.join().expect("it ends").len(), 2);
    let (once, asked) = server(vec![""]);
    assert!(client(&once).call(&Call::put("/x")).is_err());
    assert_eq!(asked.join().expect("it ends").len(), 1);
}

#[test]
fn nobody_there_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin_url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let why = why(client(&Server { admin_url, admin_ca: None }).call(&Call::get("/x")).expect_err("nobody"));
    assert!(why.contains("is not reachable") && why.contains("KEYWARD_ADMIN_URL"), "{why}");
}

#[test]
fn the_token_comes_from_the_variable_or_the_file_and_from_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token").display().to_string();
    std::fs::write(&path, "from-the-file\n").expect("written");
    let of = |variable: Option<&str>, file: Option<&str>| {
        let (variable, file) = (variable.map(str::to_owned), file.map(str::to_owned));
        token(&move |name| if name == TOKEN { variable.clone() } else { file.clone() })
    };
    assert_eq!(of(Some("direct"), None), Ok("direct".to_owned()));
    assert_eq!(of(Some(""), Some(&path)), Ok("from-the-file".to_owned()));
    assert!(why(of(None, None).expect_err("none")).contains("set KEYWARD_ADMIN_TOKEN"));
    assert!(why(of(Some("a"), Some(&path)).expect_err("both")).contains("both set"));
    assert!(why(of(None, Some("/nonexistent")).expect_err("no file")).contains("/nonexistent"));
    assert!(of(Some(" \n"), None).is_err());
    let server = Server { admin_url: "http://127.0.0.1:1".to_owned(), admin_ca: None };
    let said = why(Client::with_token(&server, "bad\ntoken").expect_err("not a header"));
    assert!(!said.contains("bad"), "{said}");
}

#[test]
fn queries_hold_any_text_and_only_what_is_given() {
    let mut query = Query::default();
    assert_eq!(query.behind("/p"), "/p");
    query.add("none", None::<&str>);
    query.add("a", Some("x y&z=%ü"));
    query.add("b", Some("2"));
    assert_eq!(query.behind("/p"), "/p?a=x%20y%26z%3D%25%C3%BC&b=2");
}
