//! A program that is followed by others of its kind.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::program::{PATIENCE, Running, Stopwatch};
use crate::harness::{Client, get};

/// The processes of one home. The first is the test's child, the others are followed by number.
pub struct House {
    first: Running,
    /// Who serves.
    pub pid: u32,
    /// Everybody there was.
    all: BTreeSet<u32>,
    /// From the signal to the new process's first word.
    pub slowest: Duration,
}

impl Deref for House {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.first
    }
}

impl DerefMut for House {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.first
    }
}

impl House {
    pub async fn start(config: &str, lay_out: impl FnOnce(&Path)) -> Self {
        let first = Running::start(config, lay_out).await;
        let pid = first.child.id();
        Self { first, pid, all: BTreeSet::from([pid]), slowest: Duration::ZERO }
    }

    /// What they have logged, but for the lines of requests.
    pub fn log(&self) -> String {
        let is_request = |line: &&str| line.contains("\"message\":\"request\"");
        self.first.log().lines().filter(|line| !is_request(line)).map(|line| format!("{line}\n")).collect()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// One right behind the other.
    pub fn signals(&self, names: &[&str]) {
        let kills = names.iter().map(|name| format!("kill -{name} {};", self.pid)).collect::<String>();
        assert!(Command::new("sh").args(["-c", &kills]).status().expect("sh runs").success());
    }

    pub fn ask_to_hand_over(&self) {
        self.signal("USR2");
    }

    /// Who has said to serve last, and where.
    fn told(&self) -> Option<(u32, SocketAddr, SocketAddr)> {
        let told: Value = serde_json::from_slice(&fs::read(self.path("ready")).ok()?).ok()?;
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        let pid = u32::try_from(told["pid"].as_u64()?).ok()?;
        Some((pid, address(&told["data"][0])?, address(&told["admin"])?))
    }

    /// Has the one that serves hand over, and waits until another does.
    pub async fn hand_over(&mut self) {
        let (before, began) = (self.pid, Stopwatch::start());
        self.ask_to_hand_over();
        while !self.look() || self.pid == before {
            assert!(began.elapsed() < PATIENCE, "nobody follows:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.slowest = self.slowest.max(began.elapsed());
    }

    /// Sees who serves now; `false` when nobody has said so yet.
    pub fn look(&mut self) -> bool {
        self.note_children();
        let Some((pid, data, admin)) = self.told() else { return false };
        (self.pid, self.first.data, self.first.admin) = (pid, data, admin);
        self.all.insert(pid);
        true
    }

    /// Those that are being started are to be ended too, whatever becomes of the test.
    pub fn note_children(&mut self) -> Vec<u32> {
        // Each is listed with the thread that started it.
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
        let children = children.collect::<String>();
        let children = children.split_whitespace().filter_map(|text| text.parse().ok()).collect::<Vec<u32>>();
        self.all.extend(&children);
        children
    }

    /// How far the one that serves gives way to others on the machine.
    pub fn niceness(&self) -> i32 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        // The name may have anything in it; behind it niceness is the seventeenth (proc_pid_stat(5)).
        let (_name, rest) = stat.rsplit_once(')').expect("a name");
        rest.split_whitespace().nth(16).and_then(|text| text.parse().ok()).expect("a number")
    }

    /// Asks to hand over, and waits until the one that serves says that it goes on.
    pub async fn hand_over_in_vain(&mut self) {
        let failures = |log: &str| log.matches("the hand-over failed; this process goes on").count();
        let before = failures(&self.log());
        self.ask_to_hand_over();
        self.until_log(|log| failures(log) > before).await;
        assert!(is_alive(self.pid));
    }

    /// Waits until all but the one that serves have ended.
    pub async fn until_alone(&mut self) {
        let began = Stopwatch::start();
        while let Some(other) = self.all.iter().find(|pid| **pid != self.pid && is_alive(**pid)) {
            assert!(began.elapsed() < 4 * PATIENCE, "{other} runs on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the one that serves, in order.
    pub async fn end(&mut self) {
        self.signal("TERM");
        self.until_nobody(PATIENCE).await;
    }

    pub async fn until_nobody(&mut self, patience: Duration) {
        let began = Stopwatch::start();
        while let Some(other) = self.all.iter().find(|pid| is_alive(**pid)) {
            assert!(began.elapsed() < patience, "{other} runs on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether anybody is left.
    pub fn is_anybody_there(&mut self) -> bool {
        self.note_children();
        self.all.iter().any(|pid| is_alive(*pid))
    }

    /// Starts a process in the place of those that are gone.
    pub async fn start_again(&mut self) {
        self.first.restart().await;
        self.pid = self.first.child.id();
        self.all.insert(self.pid);
    }

    pub async fn until_metric(&self, line: &str) {
        let began = Stopwatch::start();
        while !Client::once(self.admin, &get("/metrics", "")).await.text().lines().any(|found| found == line) {
            assert!(began.elapsed() < PATIENCE, "{line} never shows");
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.note_children();
        for pid in self.all.iter().filter(|pid| is_alive(**pid)) {
            kill(*pid, "KILL");
        }
    }
}

pub fn signal(pid: u32, name: &str) {
    assert!(kill(pid, name), "{pid} is gone");
}

/// Whether there was somebody to hear it.
pub fn kill(pid: u32, name: &str) -> bool {
    let told = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).output();
    told.expect("kill runs").status.success()
}

/// Whether it runs: one that has ended and whose end nobody has seen does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_over = |(_, rest): (&str, &str)| matches!(rest.trim_start().chars().next(), Some('Z' | 'X') | None);
    // Its first thread may have ended before the others, which still have its files.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads > 1 || stat.rsplit_once(')').is_some_and(|state| !is_over(state))
}
