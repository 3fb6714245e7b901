//! A service manager's sockets, and what it is told. The test is the service manager.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::SECRET;
use crate::harness::program::{PATIENCE, Stopwatch};
use crate::harness::{Client, Proxy, chat, post};

const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:1"
workers = 1
[admin]
listen = "127.0.0.1:0"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("keyward.toml"), CONFIG).expect("written");
    fs::write(home.path().join("keys.toml"), Proxy::keys_of(&[("a", SECRET, "")])).expect("written");
    home
}

/// A process that does not outlive the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program as a service: with this socket, and told whom to tell.
fn start(home: &Path, socket: Option<&TcpListener>) -> Service {
    let line = match socket {
        Some(_) => r#"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=data exec "$0" "$@" 3<&0 0</dev/null"#,
        None => r#"exec "$0" "$@" 0</dev/null"#,
    };
    let log = fs::OpenOptions::new().create(true).append(true).open(home.join("log")).expect("a log");
    let stdin = socket.map_or_else(Stdio::null, |socket| OwnedFd::from(socket.try_clone().expect("a socket")).into());
    let mut shell = Command::new("sh");
    shell.args(["-c", line, env!("CARGO_BIN_EXE_keyward"), "serve", "--config", "keyward.toml"]);
    shell.env("NOTIFY_SOCKET", home.join("notify")).env("WATCHDOG_USEC", "100000");
    Service(shell.current_dir(home).stdin(stdin).stdout(Stdio::null()).stderr(log).spawn().expect("a shell"))
}

fn signal(child: &Service, name: &str) {
    let told = Command::new("kill").args([&format!("-{name}"), &child.0.id().to_string()]).status();
    assert!(told.expect("kill runs").success());
}

fn ended(child: &mut Service, home: &Path) -> i32 {
    let began = Stopwatch::start();
    loop {
        if let Some(status) = child.0.try_wait().expect("a child") {
            return status.code().unwrap_or(-1);
        }
        assert!(
            began.elapsed() < PATIENCE,
            "it runs on:\n{}",
            fs::read_to_string(home.join("log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until this is said, and gives the word it stands in; what else is said meanwhile is passed over.
fn heard(manager: &UnixDatagram, what: &str) -> String {
    let mut word = [0; 4096];
    let began = Stopwatch::start();
    loop {
        assert!(began.elapsed() < PATIENCE, "{what} is never said");
        let count = manager.recv(&mut word).unwrap_or_else(|error| panic!("{what}: {error}"));
        let said = String::from_utf8_lossy(&word[..count]).into_owned();
        if said.contains(what) {
            return said;
        }
    }
}

fn manager(home: &Path) -> UnixDatagram {
    let manager = UnixDatagram::bind(home.join("notify")).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    manager
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_sockets_of_a_service_manager_refuses_nobody_and_cuts_no_stream() {
    let home = home();
    let manager = manager(home.path());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("its address");
    let call = |stream| post("/v1/chat/completions", SECRET, &chat(if stream { "sandbox-slow" } else { "m" }, stream));
    // Before anybody is there.
    let mut early = Client::connect(address).await;
    early.send(&call(false)).await;
    let mut first = start(home.path(), Some(&socket));
    heard(&manager, "READY=1");
    assert_eq!(early.answer().await.status, 200);
    let mut running = Client::connect(address).await;
    running.send(&call(true)).await;
    running.head().await;
    signal(&first, "TERM");
    heard(&manager, "STOPPING=1");
    let mut waiting = Client::connect(address).await;
    waiting.send(&call(false)).await;
    let rest = String::from_utf8(running.remaining().await).expect("text");
    assert!(rest.contains("data: [DONE]") && rest.ends_with("0\r\n\r\n"), "{rest}");
    assert_eq!(ended(&mut first, home.path()), 0);
    let mut second = start(home.path(), Some(&socket));
    assert_eq!(waiting.answer().await.status, 200, "whoever came in between is served by the next");
    heard(&manager, "READY=1");
    signal(&second, "TERM");
    assert_eq!(ended(&mut second, home.path()), 0);
}

#[test]
fn a_service_manager_is_told_what_the_program_is_about() {
    let home = home();
    fs::write(home.path().join("keyward.toml"), CONFIG.replace("127.0.0.1:1\"", "127.0.0.1:0\"")).expect("written");
    let manager = manager(home.path());
    let mut first = start(home.path(), None);
    heard(&manager, "READY=1");
    heard(&manager, "WATCHDOG=1");
    signal(&first, "HUP");
    let said = heard(&manager, "RELOADING=1");
    assert!(said.contains("MONOTONIC_USEC="), "{said}");
    heard(&manager, "READY=1");
    signal(&first, "USR2");
    heard(&manager, "RELOADING=1");
    let said = heard(&manager, "MAINPID=");
    let next: u32 = said.lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok()).expect("a number");
    assert!(said.contains("READY=1") && next != first.0.id(), "{said}");
    assert_eq!(ended(&mut first, home.path()), 0);
    heard(&manager, "WATCHDOG=1");
    let told = Command::new("kill").args(["-TERM", &next.to_string()]).status();
    assert!(told.expect("kill runs").success());
    heard(&manager, "STOPPING=1");
}
