//! Journals to disk while the store does not take what is in them: a power cut must not lose more than the window, however long the store
//! takes to say no. So this waits for neither store nor drain.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ledger::journal::Journal;
use crate::telemetry::metrics::LedgerMetrics;

/// What looks after the journals.
pub(super) struct Syncer {
    pub(super) journals: Arc<Mutex<Vec<Arc<Journal>>>>,
    /// How often all of them were drained.
    pub(super) rounds: Arc<AtomicU64>,
    pub(super) metrics: LedgerMetrics,
}

/// Looks in the time between two rounds of the drain.
const LOOKS: u32 = 4;

/// Looks without a round, after which one is late: the time between two and half of that, which a commit may take.
const LATE: u32 = LOOKS + LOOKS / 2;

/// Whether it is time to bring journals to disk.
#[derive(Debug, Default)]
struct Lateness {
    seen: u64,
    looks: u32,
}

impl Lateness {
    /// One look: there have been so many rounds. As long as they come in time it is never due: a page that goes to disk may hold up the worker
    /// that writes to it next.
    fn is_due(&mut self, rounds: u64) -> bool {
        if rounds != self.seen {
            *self = Self { seen: rounds, looks: 0 };
            return false;
        }
        self.looks += 1;
        let is_late = self.looks >= LATE;
        if is_late {
            self.looks -= LOOKS;
        }
        is_late
    }
}

impl Syncer {
    /// Looks until `ended` is over, where the drain makes a round every `rest`: what was settled before one is on disk with the store.
    pub(super) fn run(&self, rest: Duration, ended: &Receiver<Infallible>) {
        let mut lateness = Lateness::default();
        while matches!(ended.recv_timeout(rest / LOOKS), Err(RecvTimeoutError::Timeout)) {
            if lateness.is_due(self.rounds.load(Ordering::Acquire)) {
                self.sync();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_in_time_leave_the_disk_alone_and_late_ones_do_not() {
        let mut lateness = Lateness::default();
        assert!((1..1_000).all(|look| !lateness.is_due(look / 5)));
        let due = (1..=12).filter(|_| lateness.is_due(199)).count();
        assert_eq!(due, 3, "at once when late, and then as often as rounds would be");
        assert!(!lateness.is_due(200));
    }
}
