//! What the program is asked by signals, and the reloads among it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::reload::Reloader;
use crate::app::service_manager;
use crate::config::watch;

/// What ends the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To drain (SIGTERM, SIGINT).
    End,
    /// To hand over to a new process (SIGUSR2).
    HandOver,
}

pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
    /// Taken so that it does not end the program: a file that may not grow (`ulimit -f`, `LimitFSIZE=`) is a fault like a full disk.
    _xfsz: Signal,
    /// That the end was asked for, and nobody has acted upon it.
    is_to_end: bool,
    /// That this process drains without having been asked to end: the first that asks changes nothing.
    is_ending: bool,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr2: signal(SignalKind::user_defined2())?,
            _xfsz: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
            is_to_end: false,
            is_ending: false,
        })
    }

    /// The next time it is asked to end.
    pub(super) async fn next_end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// The same for a process that is going down: its files are read again meanwhile, since a key that is revoked by file is still to be refused.
    pub(super) async fn next_end_reading(&mut self, reloads: &mut Option<Reloads>) {
        // What was asked before is under way.
        self.is_to_end = false;
        loop {
            match self.next(reloads).await {
                Asked::End if std::mem::take(&mut self.is_ending) => {
                    tracing::info!("this process has handed over and drains already; once more cuts what runs");
                }
                Asked::End => return,
                Asked::HandOver => tracing::warn!("this process is going down and hands over to nobody"),
            }
        }
    }

    /// This process ends of itself: to ask it for that once is not to ask twice.
    pub(super) fn ends(&mut self) {
        self.is_ending = true;
    }

    /// The end that was just asked for is told again by the next [`Signals::next`].
    pub(super) fn again(&mut self) {
        self.is_to_end = true;
    }

    /// Reloads when asked or when a file changed, until something else is asked. Whoever stops waiting misses nothing but the end of a reload
    /// that is under way.
    pub(super) async fn next(&mut self, reloads: &mut Option<Reloads>) -> Asked {
        if std::mem::take(&mut self.is_to_end) {
            return Asked::End;
        }
        loop {
            let changed = async {
                match reloads {
                    Some(reloads) => reloads.changes.recv().await,
                    None => std::future::pending().await,
                }
            };
            let why = tokio::select! {
                _ = self.term.recv() => return Asked::End,
                _ = self.int.recv() => return Asked::End,
                _ = self.usr2.recv() => return Asked::HandOver,
                _ = self.hup.recv() => "SIGHUP",
                Some(()) = changed => "file changed",
            };
            if let Some(reloads) = reloads {
                tracing::info!(why, "reloading");
                service_manager::reloading();
                // What holds up the files, as a file system that is gone, is not to hold up the end.
                tokio::select! {
                    () = reloads.reload() => {}
                    _ = self.term.recv() => return Asked::End,
                    _ = self.int.recv() => return Asked::End,
                }
                service_manager::ready();
            }
        }
    }
}

/// The files under watch.
pub(super) struct Reloads {
    reloader: Arc<Reloader>,
    changes: mpsc::UnboundedReceiver<()>,
    watching: watch::WatchGuard,
    files: Vec<PathBuf>,
}

impl Reloads {
    pub(super) fn start(reloader: Arc<Reloader>, seen: watch::Seen) -> std::io::Result<Self> {
        let (changed, changes) = mpsc::unbounded_channel();
        // Once the receiver is gone, the program is ending and nothing is reloaded any more.
        let watching = watch::watch(seen, move || changed.send(()).unwrap_or_default())?;
        let mut reloads = Self { reloader, changes, watching, files: Vec::new() };
        reloads.follow();
        Ok(reloads)
    }

    async fn reload(&mut self) {
        let reloader = Arc::clone(&self.reloader);
        // The faults are logged, kept for /readyz and counted by the reloader itself.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        self.follow();
    }

    /// Watches the files that count now: a configuration may have come to name another key file.
    fn follow(&mut self) {
        let files = self.reloader.files();
        if files != self.files {
            self.watching.follow(files.clone());
            self.files = files;
        }
    }
}
