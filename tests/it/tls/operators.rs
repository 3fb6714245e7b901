//! TLS on the admin listener, and the command line that speaks it.

use super::*;
use crate::harness::certificates::write;
use crate::harness::program::{Running, command};

const TOKEN: &str = "operator-0123456789";

async fn start(authority: &Authority, more: &str) -> Running {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntls = {{ cert = \"admin.pem\", key = \"admin.key\" }}\n{more}\n\
         tokens = [{{ name = \"ops\", token = \"{TOKEN}\", role = \"write\" }}]\n[[upstreams]]\nname = \"built-in\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n"
    );
    Running::start(&config, |home| {
        authority.issue(&["localhost", "127.0.0.1", "proxy.example"]).write(home, "admin");
        write(home, "ca.pem", &authority.pem());
    })
    .await
}

/// Exit code, and everything that was said.
fn run(program: &Running, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = command(program.home.path(), arguments);
    let output = command.env("KEYWARD_ADMIN_TOKEN", TOKEN).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_speaks_tls_and_trusts_whom_it_is_told_to() {
    let authority = Authority::new();
    let program = start(&authority, "").await;
    let url = format!("https://127.0.0.1:{}", program.admin.port());
    let with = |command: &[&str], more: &[&str]| run(&program, &[command, &["--admin-url", &url], more].concat());
    let (code, said) = with(&["key", "create", "--name", "demo"], &["--admin-ca", "ca.pem"]);
    assert!(code == Some(0) && said.contains("sk-kw-"), "{said}");
    let (code, said) = with(&["healthcheck"], &["--admin-ca", "ca.pem"]);
    assert!(code == Some(0) && said.contains("ready"), "{said}");
    for command in [&["healthcheck"][..], &["key", "list"]] {
        let (code, said) = with(command, &[]);
        assert!(code == Some(1) && said.contains("certificate"), "without its authority: {said}");
    }
    let (code, said) = with(&["key", "list"], &["--admin-ca", "none.pem"]);
    assert!(code == Some(2) && said.contains("none.pem") && said.contains("does not exist"), "{said}");
    let plain = format!("http://127.0.0.1:{}", program.admin.port());
    let (code, said) = run(&program, &["key", "list", "--admin-url", &plain]);
    assert_eq!(code, Some(1), "in clear: {said}");
    let (code, said) = run(&program, &["key", "list", "--admin-url", &plain, "--admin-ca", "ca.pem"]);
    assert!(code == Some(2) && said.contains("https://"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_show_a_certificate_beside_their_token_where_they_have_to() {
    let authority = Authority::new();
    let program = start(&authority, "client_ca = \"ca.pem\"").await;
    let good = authority.issue(&["operator"]);
    let reads = async |issued: Option<&Issued>| {
        let config = authority.client(&[], issued);
        let mut stream = shake(&config, "proxy.example", program.admin).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    assert!(reads(Some(&good)).await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    assert_eq!(reads(None).await, None);
    let text = {
        let config = authority.client(&[], Some(&good));
        let mut stream = shake(&config, "proxy.example", program.admin).await.expect("a handshake");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    assert!(text.contains("keyward_tls_handshakes_failed_total{listener=\"admin\",reason=\"failed\"} 1"), "{text}");
}
