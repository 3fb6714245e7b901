//! Journals to disk while the store does not take what is in them: a power cut must not lose more than the window, however long the store
//! takes to say no. So this waits for neither store nor drain.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ledger::journal::Journal;
use crate::telemetry::metrics::LedgerMetrics;

/// All journals were drained.
#[derive(Debug)]
pub(super) struct Round;

/// What looks after the journals.
pub(super) struct Syncer {
    pub(super) journals: Arc<Mutex<Vec<Arc<Journal>>>>,
    pub(super) metrics: LedgerMetrics,
}

impl Syncer {
    /// Goes on until nobody can tell of `rounds` any more. The drain makes one every `rest`, and what was settled before it is on disk with the store.
    pub(super) fn run(&self, rest: Duration, rounds: &Receiver<Round>) {
        each_time_one_is_late(rest, rounds, || self.sync());
    }

    fn sync(&self) {
        let journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for journal in journals.iter().filter(|journal| journal.pending() > 0) {
            match journal.sync() {
                Ok(()) => drop(self.metrics.synced.inc()),
                Err(error) => {
                    tracing::error!(%error, "a journal cannot be brought to disk; a power cut would lose what it holds");
                }
            }
        }
    }
}

/// Calls `sync` when a round is late, by half of the time between two, which a commit may take; and then as often as rounds would be. As long as they
/// come in time it never does: a page that goes to disk may hold up the worker that writes to it next.
fn each_time_one_is_late(rest: Duration, rounds: &Receiver<Round>, mut sync: impl FnMut()) {
    let in_time = rest + rest / 2;
    let mut patience = in_time;
    loop {
        patience = match rounds.recv_timeout(patience) {
            Ok(Round) => in_time,
            Err(RecvTimeoutError::Timeout) => {
                sync();
                rest
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn rounds_in_time_leave_the_disk_alone_and_late_ones_do_not() {
        let (tell, rounds) = mpsc::sync_channel(1);
        let (synced, syncs) = mpsc::channel();
        // So long that no round which is told of without a pause comes late.
        let looks = thread::spawn(move || {
            each_time_one_is_late(Duration::from_secs(60), &rounds, || synced.send(()).unwrap());
        });
        (0..1_000).for_each(|_| tell.send(Round).unwrap());
        drop(tell);
        looks.join().unwrap();
        assert_eq!(syncs.try_iter().count(), 0);

        let (tell, rounds) = mpsc::sync_channel(1);
        let (synced, syncs) = mpsc::channel();
        let looks = thread::spawn(move || {
            each_time_one_is_late(Duration::from_millis(1), &rounds, || {
                let _gone = synced.send(());
            });
        });
        (0..3).for_each(|_| syncs.recv().unwrap());
        drop(tell);
        looks.join().unwrap();
    }
}
