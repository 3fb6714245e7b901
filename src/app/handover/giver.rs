//! The old process's side of a hand-over.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::admin::Gate;
use crate::app::books::Books;
use crate::app::handover::line::{Line, VERSION, Word};
use crate::app::handover::{STDIN, VARIABLE};
use crate::app::holds;
use crate::app::time_mark::TimeMark;
use crate::ledger::Ledger;
use crate::listen::{Given, Listener, Role};
use crate::proxy::Plane;
use crate::proxy::server::Door;

/// How long the new process may take for its configuration and its sockets.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to open the store and count.
const PATIENCE_WITH_STORE: Duration = Duration::from_secs(300);

/// Keys whose holds are told in one word.
const KEYS_IN_A_WORD: usize = 500;

/// How often, and after which rest, it is tried to get the store back.
const TRIES: u32 = 60;
const REST: Duration = Duration::from_secs(1);

/// What is needed to hand over, and to take back.
#[derive(Debug)]
pub struct Giver {
    /// The program and its arguments, as this process was started.
    pub command: Vec<OsString>,
    /// Every socket that listens.
    pub listeners: Vec<(Role, Listener)>,
    /// Whether clients are accepted.
    pub door: Door,
    /// Whether operators are.
    pub admin_is_open: watch::Sender<bool>,
    /// Closed while the store is: no change of a key is cut in the middle.
    pub gate: Gate,
    /// What outlives the process.
    pub books: Books,
    /// Where the latest time that was certain is kept.
    pub time_mark: TimeMark,
    /// Where settled requests are written down.
    pub ledger: Arc<Ledger>,
    /// The data plane.
    pub plane: Arc<Plane>,
    /// The process that is being started.
    pub next: Mutex<Next>,
}

/// The next process, as long as this one may have to end it.
#[derive(Debug, Default)]
pub struct Next {
    child: Option<Child>,
    /// This process is to end: there is to be no next one, though it was not even started yet.
    is_unwanted: bool,
}

/// A process that serves in this one's place.
#[derive(Debug)]
pub struct Handed {
    /// Its number.
    pub pid: u32,
    /// It sees by its end that this process is gone.
    _line: Line,
}

impl Handed {
    /// Asks it to end as an operator would.
    pub fn end(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
            tracing::warn!(%error, pid = self.pid, "the new process cannot be asked to end");
        }
    }
}

impl Giver {
    /// Starts the next process and hands over to it. Where that fails everything is as it was before. Blocks.
    ///
    /// # Errors
    /// Why this process has to go on.
    pub fn hand_over(&self) -> Result<Handed, String> {
        let (line, theirs) = Line::new().map_err(|error| format!("no line to it: {error}"))?;
        let pid = self.start(theirs.into()).map_err(|error| format!("it cannot be started: {error}"))?;
        tracing::info!(pid, "handing over to a new process");
        match self.talk(&line).and_then(|()| self.let_next_go()) {
            Ok(()) => Ok(Handed { pid, _line: line }),
            Err(why) => {
                self.end_next();
                self.take_back();
                Err(why)
            }
        }
    }

    /// Ends the process that is being started, or that would be, so that the hand-over fails.
    pub fn give_up(&self) {
        let mut next = self.next();
        next.is_unwanted = true;
        next.kill();
    }

    fn start(&self, stdin: Stdio) -> io::Result<u32> {
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // What a service manager told this process by its number is not for the next one; that it is watched, is.
        let told = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
        let mut command = Command::new(program);
        for name in told {
            command.env_remove(name);
        }
        let child = command.args(arguments).env(VARIABLE, STDIN).stdin(stdin).spawn()?;
        let pid = child.id();
        let mut next = self.next();
        next.child = Some(child);
        if next.is_unwanted {
            next.kill();
        }
        Ok(pid)
    }

    /// From here on it is nobody's child any more; its end is not this process's concern.
    fn let_next_go(&self) -> Result<(), String> {
        let mut next = self.next();
        if next.is_unwanted {
            return Err("this process was asked to end meanwhile".to_owned());
        }
        next.child = None;
        Ok(())
    }

    fn talk(&self, line: &Line) -> Result<(), String> {
        let hear = |what: &str, patience| match line.hear(patience) {
            Ok((word, _)) => Ok(word),
            Err(error) => Err(format!("it did not come to {what}: {error}")),
        };
        match hear("reading its configuration", PATIENCE)? {
            Word::Hello(VERSION) => {}
            other => return Err(format!("it speaks another language: {other:?}")),
        }
        let deaf = |error: io::Error| format!("it hears nothing: {error}");
        for (role, listener) in &self.listeners {
            let label = Given::label(*role, listener);
            line.say(&Word::Socket(label), Some(listener.as_fd())).map_err(deaf)?;
        }
        line.say(&Word::Sockets, None).map_err(deaf)?;
        match hear("having its sockets", PATIENCE)? {
            Word::LetGo => {}
            other => return Err(format!("it said {other:?}")),
        }
        self.let_go()?;
        for keys in holds::held(&self.plane.keys).chunks(KEYS_IN_A_WORD) {
            let keys = keys.iter().map(|(id, units)| (id.0, *units)).collect();
            line.say(&Word::Held(keys), None).map_err(deaf)?;
        }
        line.say(&Word::Gone, None).map_err(deaf)?;
        match hear("serving", PATIENCE_WITH_STORE)? {
            Word::Serving => Ok(()),
            other => Err(format!("it said {other:?}")),
        }
    }

    /// From here on nobody is accepted, and the store is nobody's.
    fn let_go(&self) -> Result<(), String> {
        self.door.announce();
        self.door.pause();
        self.admin_is_open.send_replace(false);
        let _no_change = self.gate.close();
        self.ledger.pause().map_err(|fault| format!("the store does not take what is settled: {fault}"))?;
        self.time_mark.note(&self.plane.clock);
        self.books.store.close();
        self.ledger.release();
        Ok(())
    }

    fn end_next(&self) {
        let Some(mut child) = self.next().child.take() else { return };
        let _may_be_gone = child.kill();
        // Only with its end is the store free, whatever it had of it.
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "the end of the new process cannot be seen");
        }
    }

    /// Everything as it was. Clients first, who need no store.
    fn take_back(&self) {
        self.door.resume();
        for attempt in 1..=TRIES {
            match self.take_store_back() {
                Ok(()) => break,
                Err(why) if attempt == TRIES => {
                    tracing::error!(
                        why,
                        "the store cannot be had back; what is settled stays in the journals: restart"
                    );
                }
                Err(why) => {
                    tracing::error!(why, "the store cannot be had back yet");
                    thread::sleep(REST);
                }
            }
        }
        self.admin_is_open.send_replace(true);
    }

    fn take_store_back(&self) -> Result<(), String> {
        self.ledger.retake().map_err(|fault| fault.to_string())?;
        if self.books.store.is_closed() {
            self.books.reopen().map_err(|fault| fault.to_string())?;
        }
        self.ledger.resume();
        Ok(())
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Next {
    fn kill(&mut self) {
        if let Some(child) = &mut self.child
            && let Err(error) = child.kill()
        {
            tracing::warn!(%error, "the new process cannot be ended");
        }
    }
}
