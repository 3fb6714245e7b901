//! The real binary, running in a directory of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use keyward::clock::Clock;
use serde_json::Value;

/// A wait that only a failure comes to the end of.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Real time since a moment.
pub struct Stopwatch(Clock, u64);

impl Stopwatch {
    pub fn start() -> Self {
        let clock = Clock::system();
        let began_ns = clock.now().monotonic_ns;
        Self(clock, began_ns)
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.now().monotonic_ns - self.1)
    }
}

const SERVE: [&str; 5] = ["serve", "--config", "keyward.toml", "--ready-file", "ready"];

/// The program, running; ended when dropped.
pub struct Running {
    pub child: Child,
    pub home: tempfile::TempDir,
    pub data: SocketAddr,
    pub admin: SocketAddr,
}

impl Running {
    /// Starts it in a directory that `lay_out` fills, beside its `keyward.toml`, and keeps its log there.
    pub async fn start(config: &str, lay_out: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let log = fs::File::create(home.path().join("log")).expect("a log");
        Self::start_in(home, config, lay_out, log.into()).await
    }

    /// The same with a standard error of the test's own.
    pub async fn start_in(home: tempfile::TempDir, config: &str, lay_out: impl FnOnce(&Path), log: Stdio) -> Self {
        fs::write(home.path().join("keyward.toml"), config).expect("written");
        lay_out(home.path());
        let mut child = serve(home.path(), log);
        let (data, admin) = listening(home.path(), &mut child).await;
        Self { child, home, data, admin }
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) {
        fs::remove_file(self.path("ready")).expect("the ready file");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        self.child = serve(self.home.path(), log.into());
        (self.data, self.admin) = listening(self.home.path(), &mut self.child).await;
    }

    /// Starts it by a line of a shell's in which `"$0" "$@"` is the program.
    pub async fn start_through(home: tempfile::TempDir, line: &str, config: &str, keys: String, log: fs::File) -> Self {
        fs::write(home.path().join("keyward.toml"), config).expect("written");
        fs::write(home.path().join("keys.toml"), keys).expect("written");
        let mut shell = Command::new("sh");
        shell.args(["-c", line, env!("CARGO_BIN_EXE_keyward")]).args(SERVE).current_dir(home.path());
        let mut child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("a shell");
        let (data, admin) = listening(home.path(), &mut child).await;
        Self { child, home, data, admin }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("the log")
    }

    /// Waits until what it has written so far is as `holds` wants it; it writes its log a moment later than it acts.
    pub async fn until_log(&self, holds: impl Fn(&str) -> bool) {
        let began = Stopwatch::start();
        while !holds(&self.log()) {
            assert!(began.elapsed() < PATIENCE, "not logged:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let told = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(told.expect("kill runs").success());
    }

    /// Waits for its end, for `patience` at most.
    pub async fn ended_within(&mut self, patience: Duration) -> ExitStatus {
        let began = Stopwatch::start();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(began.elapsed() < patience, "runs on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn serve(home: &Path, log: Stdio) -> Child {
    command(home, &SERVE).stdout(Stdio::null()).stderr(log).spawn().expect("the binary starts")
}

/// Waits until it listens: its data and its admin address.
async fn listening(home: &Path, child: &mut Child) -> (SocketAddr, SocketAddr) {
    let began = Stopwatch::start();
    let ready: Value = loop {
        if let Ok(ready) = fs::read(home.join("ready")) {
            break serde_json::from_slice(&ready).expect("JSON");
        }
        let log = || fs::read_to_string(home.join("log")).unwrap_or_default();
        assert!(child.try_wait().expect("a child").is_none(), "ended: {}", log());
        assert!(began.elapsed() < PATIENCE, "does not listen: {}", log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // One that listens on a path is asked there.
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = |value: &Value| match value.as_str().expect("an address") {
        text if text.starts_with("unix:") => nowhere,
        text => text.parse().expect("an address"),
    };
    (address(&ready["data"][0]), address(&ready["admin"]))
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, to be run in `home`.
pub fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(arguments).current_dir(home).stdin(Stdio::null());
    command
}
