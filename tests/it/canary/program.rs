//! The real program in a directory of its own, with everything it says and writes kept.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// How long is waited for what must come; only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with the files the test itself wrote.
pub struct Home {
    folder: tempfile::TempDir,
    written: HashMap<PathBuf, Vec<u8>>,
    environment: Vec<(&'static str, String)>,
}

impl Home {
    pub fn new(environment: Vec<(&'static str, String)>) -> Self {
        Self { folder: tempfile::tempdir().expect("a directory"), written: HashMap::new(), environment }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in one step, so that no reader finds half of it.
    pub fn write(&mut self, name: &str, text: &[u8]) {
        let path = self.path(name);
        let beside = path.with_extension("beside");
        fs::write(&beside, text).expect("a file");
        fs::rename(beside, &path).expect("a file in place");
        self.written.insert(path, text.to_vec());
    }

    /// Every file that the test did not write, or that is not as the test wrote it.
    pub fn others(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        walk(self.folder.path(), &mut files);
        files.retain(|(path, bytes)| self.written.get(path) != Some(bytes));
        files
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the program")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("KEYWARD_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        command.env_remove("KEYWARD_CONFIG").envs(self.environment.iter().cloned());
        command
    }
}

fn walk(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, files) } else { files.push((path.clone(), fs::read(&path).unwrap_or_default())) }
    }
}

/// A running `keyward serve`; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
    pub data: SocketAddr,
    pub admin: SocketAddr,
}

impl Running {
    pub fn start(home: &Home) -> Self {
        let file = |name: &str| fs::File::create(home.path(name)).expect("a file for output");
        let arguments = ["serve", "--config", "keyward.toml", "--ready-file", "ready"];
        let mut child = home
            .command(&arguments)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the program starts");
        let address = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse().ok());
        let log = home.path("stderr");
        let (data, admin) = until("the program does not listen", || {
            let ready: serde_json::Value =
                serde_json::from_slice(&fs::read(home.path("ready")).unwrap_or_default()).ok()?;
            Some((address(&ready["data"][0])?, address(&ready["admin"])?))
        })
        .unwrap_or_else(|problem| {
            let _ = child.kill();
            panic!("{problem}:\n{}", fs::read_to_string(&log).unwrap_or_default());
        });
        Self { child, log, data, admin }
    }

    /// What an operator's probe gets: head and body.
    pub fn ask(&self, path: &str) -> Vec<u8> {
        exchange(
            self.admin,
            format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes(),
            false,
        )
    }

    /// Waits until `/readyz` says what `test` looks for.
    pub fn until_ready_says(&self, test: impl Fn(&str) -> bool) {
        until("readiness does not tell", || test(&String::from_utf8_lossy(&self.ask("/readyz"))).then_some(()))
            .unwrap_or_else(|problem| panic!("{problem}: {}", String::from_utf8_lossy(&self.ask("/readyz"))));
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Asks it to read its files again, without waiting for it to notice that they changed.
    pub fn reload(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success(), "{signal} was not sent");
    }

    /// Asks it to end and waits for that.
    pub fn end(mut self) {
        self.signal("-TERM");
        let status = until("the program does not end", || self.child.try_wait().expect("its state")).expect("an end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another process cannot be waited for in any other way that works everywhere.
fn until<T>(problem: &str, mut test: impl FnMut() -> Option<T>) -> Result<T, String> {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if let Some(found) = test() {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(problem.to_owned())
}

/// Sends these bytes and reads until the other side closes. `leaves` says that the client goes away after sending.
pub fn exchange(address: SocketAddr, bytes: &[u8], leaves: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // A peer that refuses early may close before it has read everything.
    let _ = stream.write_all(bytes);
    if leaves {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("no end of the answer to {:?}", String::from_utf8_lossy(bytes));
            }
            Err(_) => return answer,
        }
    }
}
