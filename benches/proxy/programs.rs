//! The programs that are compared, running; and how they take turns.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::cpu;
use crate::guard::Guarded;
use crate::keyward_process::{self as keyward, KeyFile, Setup};
use crate::moment::Moment;
use crate::probe::Probe;
use crate::rivals;
use crate::series::Series;
use crate::surroundings;
use crate::table::{Column, Table};

/// How long a program may take to its first answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a program does next to nothing before it is measured.
const SETTLED_FOR: Duration = Duration::from_millis(300);

/// For those that look at none.
const NO_SECRET: &str = "nobody-looks-at-this";

/// What all rows share.
#[derive(Debug)]
pub struct Bench {
    pub arguments: Arguments,
    pub table: Table,
    /// What is to be said beneath the table.
    pub notes: Vec<String>,
    haproxy: Option<PathBuf>,
    nginx: Option<PathBuf>,
    folder: TempDir,
    started: usize,
}

/// One running program, in front of a backend.
#[derive(Debug)]
pub struct Program {
    pub column: Column,
    pub address: SocketAddr,
    /// Keys that it takes; others take anything.
    pub secrets: Vec<String>,
    /// For Keyward, its key file.
    pub keys: Option<KeyFile>,
    /// `None` for the backend itself.
    pub process: Option<Guarded>,
    /// From the start to the first answer.
    pub started_in: Duration,
}

impl Program {
    /// The process whose CPU counts.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.process.as_ref().map(Guarded::pid).context("the backend is not measured")
    }

    /// The backend without any proxy.
    pub fn direct(backend: SocketAddr) -> Self {
        let secrets = vec![NO_SECRET.to_owned()];
        let (process, keys) = (None, None);
        Self { column: Column::Direct, address: backend, secrets, keys, process, started_in: Duration::ZERO }
    }
}

impl Bench {
    pub fn new(arguments: Arguments) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("keyward-bench").tempdir().context("a temporary folder")?;
        let (haproxy, nginx) = (rivals::find("haproxy"), rivals::find("nginx"));
        surroundings::clear_when_ended(folder.path().to_owned())?;
        let installed = [&haproxy, &nginx].into_iter().flatten().map(PathBuf::as_path).collect::<Vec<_>>();
        let mut notes = surroundings::describe(&installed);
        if haproxy.is_none() || nginx.is_none() {
            notes.push(format!("not everything to compare with is installed: {}", rivals::INSTALL));
            eprintln!("to compare with HAProxy and nginx: {}", rivals::INSTALL);
        }
        let rounds = arguments.rounds;
        Ok(Self { arguments, table: Table::new(rounds), notes, haproxy, nginx, folder, started: 0 })
    }

    /// Progress, beside the table.
    pub fn say(&self, words: &str) {
        eprintln!("{words}");
    }

    /// Whichever rivals are installed.
    pub fn rivals(&mut self, backend: SocketAddr, is_streaming: bool) -> anyhow::Result<Vec<Program>> {
        let both = [self.haproxy(backend)?, self.nginx(backend, is_streaming)?];
        Ok(both.into_iter().flatten().collect())
    }

    /// HAProxy as a plain proxy, if it is installed.
    pub fn haproxy(&mut self, backend: SocketAddr) -> anyhow::Result<Option<Program>> {
        self.haproxy_with(backend, None)
    }

    /// The same with a setup's keys and what it has of their policies.
    pub fn haproxy_with(&mut self, backend: SocketAddr, setup: Option<Setup>) -> anyhow::Result<Option<Program>> {
        let Some(haproxy) = self.haproxy.clone() else { return Ok(None) };
        let program = self.start(Column::Haproxy, |folder, listen| {
            let (file, log) = (folder.join("haproxy.cfg"), File::create(folder.join("error.log"))?);
            let keys = setup.map(|setup| KeyFile::new(folder.join("keys.map"), setup));
            if let Some(keys) = &keys {
                keys.write_map()?;
            }
            let map = keys.as_ref().map(KeyFile::path);
            std::fs::write(&file, rivals::haproxy_configuration(listen, backend, map))?;
            let arguments = ["-db".as_ref(), "-q".as_ref(), "-f".as_ref(), file.as_os_str()];
            let process = Guarded::spawn(&haproxy, arguments, |command| {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            })?;
            Ok((process, keys))
        })?;
        Ok(Some(program))
    }

    /// nginx, if it is installed; answers are buffered unless they are streams.
    pub fn nginx(&mut self, backend: SocketAddr, is_streaming: bool) -> anyhow::Result<Option<Program>> {
        let Some(nginx) = self.nginx.clone() else { return Ok(None) };
        let program = self.start(Column::Nginx, |folder, listen| {
            let (file, log) = (folder.join("nginx.conf"), folder.join("error.log"));
            std::fs::write(&file, rivals::nginx_configuration(listen, backend, folder, is_streaming))?;
            let arguments = ["-p".as_ref(), folder.as_os_str(), "-e".as_ref(), log.as_os_str()];
            let arguments = arguments.into_iter().chain(["-c".as_ref(), file.as_os_str()]);
            let process = Guarded::spawn(&nginx, arguments, |command| {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            })?;
            Ok((process, None))
        })?;
        Ok(Some(program))
    }

    /// Keyward with this setup.
    pub fn keyward(&mut self, column: Column, backend: SocketAddr, setup: Setup) -> anyhow::Result<Program> {
        self.start(column, |folder, listen| {
            let keys = keyward::write_files(folder, listen, backend, setup)?;
            Ok((keyward::spawn(folder, setup)?, Some(keys)))
        })
    }

    /// Keyward with one worker: without limits, and with every policy, the key being one of many.
    pub fn keywards(&mut self, backend: SocketAddr) -> anyhow::Result<Vec<Program>> {
        let keys = self.many_keys();
        let plain = Setup { workers: 1, keys: 1, has_policy: false, has_access_log: false };
        let policy = Setup { keys, has_policy: true, ..plain };
        Ok(vec![self.keyward(Column::Plain, backend, plain)?, self.keyward(Column::Policy, backend, policy)?])
    }

    /// How many keys are many.
    pub fn many_keys(&self) -> usize {
        self.arguments.pick(100_000, 2_000)
    }

    /// Starts a program on a free port and waits for its first answer.
    fn start(
        &mut self,
        column: Column,
        spawn: impl Fn(&Path, SocketAddr) -> anyhow::Result<(Guarded, Option<KeyFile>)>,
    ) -> anyhow::Result<Program> {
        let mut tried = self.try_start(column, &spawn);
        if let Err(error) = &tried {
            // A port that was free a moment ago may be taken now.
            eprintln!("  once more: {error:#}");
            tried = self.try_start(column, &spawn);
        }
        tried
    }

    fn try_start(
        &mut self,
        column: Column,
        spawn: impl Fn(&Path, SocketAddr) -> anyhow::Result<(Guarded, Option<KeyFile>)>,
    ) -> anyhow::Result<Program> {
        self.started += 1;
        let folder = self.folder.path().join(format!("program-{}", self.started));
        std::fs::create_dir(&folder)?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let (mut process, keys) = spawn(&folder, address)?;
        let began = Moment::now();
        let secrets = keys.as_ref().map_or_else(|| vec![NO_SECRET.to_owned()], |keys| keys.secrets.clone());
        let started_in = first_answer(&mut process, address, &secrets[0], began)
            .with_context(|| format!("{}: {}", column.name(), log_of(&folder)))?;
        settle(process.0.id())?;
        Ok(Program { column, address, secrets, keys, process: Some(process), started_in })
    }

    /// Lets all programs take their turn, as many times as there are rounds. A failed measurement is noted and is a gap.
    pub fn rounds<T>(
        &mut self,
        what: &str,
        programs: &[Program],
        mut measure: impl FnMut(&Program) -> anyhow::Result<T>,
    ) -> Vec<Turns<T>> {
        let mut all =
            programs.iter().map(|program| Turns { column: program.column, turns: Vec::new() }).collect::<Vec<_>>();
        for round in 1..=self.arguments.rounds {
            self.say(&format!("  {what}, round {round} of {}", self.arguments.rounds));
            for (program, turns) in programs.iter().zip(&mut all) {
                let turn = measure(program);
                turns.turns.push(self.keep(what, program.column, turn));
            }
        }
        all
    }

    /// Notes what failed.
    pub fn keep<T>(&mut self, what: &str, column: Column, turn: anyhow::Result<T>) -> Option<T> {
        turn.map_err(|error| {
            let note = format!("a window was thrown away ({what}, {}): {error:#}", column.name());
            eprintln!("  {note}");
            self.notes.push(note);
        })
        .ok()
    }
}

/// What one program's turns came to.
#[derive(Debug)]
pub struct Turns<T> {
    pub column: Column,
    pub turns: Vec<Option<T>>,
}

impl<T> Turns<T> {
    /// One number of each turn.
    pub fn series(&self, number: impl Fn(&T) -> Option<f64>) -> Series {
        self.turns.iter().map(|turn| turn.as_ref().and_then(&number)).collect()
    }
}

/// One number of each turn of each program.
pub fn cells<T>(all: &[Turns<T>], number: impl Fn(&T) -> Option<f64>) -> Vec<(Column, Series)> {
    all.iter().map(|turns| (turns.column, turns.series(&number))).collect()
}

/// Asks until the first answer comes; the time from `began` to it.
fn first_answer(process: &mut Guarded, address: SocketAddr, secret: &str, began: Moment) -> anyhow::Result<Duration> {
    loop {
        process.check()?;
        match Probe::open(address).and_then(|mut probe| probe.ask(secret)) {
            Ok(status) => {
                ensure!(status == 200, "its first answer has status {status}");
                return Ok(began.elapsed());
            }
            Err(error) => ensure!(began.elapsed() < PATIENCE, "no answer in {PATIENCE:?}: {error:#}"),
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Waits until a program has done what it does once after its start (keys of a file go into the store): all that is measured shares the
/// cores with it.
fn settle(pid: u32) -> anyhow::Result<()> {
    let began = Moment::now();
    while began.elapsed() < PATIENCE {
        let before = cpu::sample(pid)?;
        std::thread::sleep(SETTLED_FOR);
        if Duration::from_nanos(cpu::spent(&before, &cpu::sample(pid)?).total_ns) < SETTLED_FOR / 20 {
            return Ok(());
        }
    }
    Ok(())
}

/// What a program said before it failed.
fn log_of(folder: &Path) -> String {
    let read = |name| std::fs::read_to_string(folder.join(name)).ok();
    let said = read("keyward.log").or_else(|| read("error.log")).unwrap_or_default();
    if said.is_empty() { "it said nothing".to_owned() } else { said }
}
