//! Children that do not outlive the bench, however it ends.
//!
//! A child is started as this program once more, which asks the kernel to be killed with its parent and then becomes the program
//! wanted. Both survive `exec`, and the process id stays.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::moment::Moment;

/// The hidden argument; the parent's process id, the program and its arguments follow.
pub const MODE: &str = "--guarded";

/// A child that is killed when this is dropped, and when the bench is gone.
#[derive(Debug)]
pub struct Guarded(pub Child);

impl Guarded {
    /// Starts `program`. To be called on the main thread only: the kernel takes the end of the calling thread for the parent's.
    pub fn spawn<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
        set: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("the bench's own path")?);
        command.arg(MODE).arg(std::process::id().to_string()).arg(program).args(arguments);
        set(&mut command);
        Ok(Self(command.spawn().context("starting a child")?))
    }

    /// Starts this program in another of its modes.
    pub fn spawn_mode(mode: &str, arguments: &[String], set: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("the bench's own path")?;
        Self::spawn(own, std::iter::once(mode).chain(arguments.iter().map(String::as_str)), set)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends it SIGHUP.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a process id")?;
        rustix::process::kill_process(pid, Signal::HUP).context("SIGHUP")
    }

    /// Sends it SIGTERM and waits for its end.
    pub fn end(mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a process id")?;
        rustix::process::kill_process(pid, Signal::TERM).context("SIGTERM")?;
        let began = Moment::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            ensure!(began.elapsed() < patience, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("ended with {status}")),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other side of [`Guarded::spawn`]; returns only when it fails.
pub fn become_program(words: &[String]) -> anyhow::Result<Infallible> {
    let [parent, program, arguments @ ..] = words else { bail!("wants a process id and a program") };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent_now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent_now.as_ref() != Some(parent) {
        bail!("the bench is gone already");
    }
    raise_descriptor_limit()?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("becoming {program}"))
}

/// As many descriptors as may be had without asking anybody.
pub fn raise_descriptor_limit() -> anyhow::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// How many descriptors a process of ours may have.
pub fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(limit.min(1 << 20)).unwrap_or(1024)
}
