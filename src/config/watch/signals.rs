//! What the thread that watches waits for: what it is asked, and what the kernel tells, whichever comes first.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::watch::hints::Hints;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Signal {
    /// To look whether anything has changed.
    Touched,
    /// To watch these files.
    Follow(Vec<PathBuf>),
    /// To end.
    Stop,
}

/// Where it is said what is to be done.
#[derive(Debug)]
pub(super) struct Orders {
    signals: Sender<Signal>,
    bell: PipeWriter,
}

/// Where it is heard.
#[derive(Debug)]
pub(super) struct Signals {
    orders: Receiver<Signal>,
    bell: PipeReader,
}

/// Both ends.
///
/// # Errors
/// The process has no more descriptors.
pub(super) fn pair() -> io::Result<(Orders, Signals)> {
    let (signals, orders) = channel();
    let (heard, bell) = io::pipe()?;
    Ok((Orders { signals, bell }, Signals { orders, bell: heard }))
}

impl Orders {
    /// Says it; a thread that is gone does not hear it.
    pub(super) fn send(&self, signal: Signal) {
        if self.signals.send(signal).is_ok() {
            let _ = (&self.bell).write(&[0]);
        }
    }
}

impl Signals {
    /// The next one; nothing after `patience` without any.
    pub(super) fn next(&self, hints: Option<&Hints>, patience: Duration) -> Option<Signal> {
        let patience_left = Timespec::try_from(patience).ok();
        loop {
            match self.orders.try_recv() {
                Ok(signal) => return Some(signal),
                Err(TryRecvError::Disconnected) => return Some(Signal::Stop),
                Err(TryRecvError::Empty) => {}
            }
            let bell = PollFd::new(&self.bell, PollFlags::IN);
            let mut awaited = match hints {
                Some(hints) => vec![bell, PollFd::from_borrowed_fd(hints.as_fd(), PollFlags::IN)],
                None => vec![bell],
            };
            // An interruption is as good as nothing: whoever waits looks, and waits again.
            if !matches!(poll(&mut awaited, patience_left.as_ref()), Ok(1..)) {
                return None;
            }
            if awaited.first().is_some_and(|bell| !bell.revents().is_empty()) {
                // It has rung for something that stands in the queue, or was taken from there without waiting for it.
                let _ = (&self.bell).read(&mut [0; 64]);
            } else if hints.is_some_and(Hints::take) {
                return Some(Signal::Touched);
            }
        }
    }
}
