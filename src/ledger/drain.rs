//! From the journals into the store: a thread of its own, which nothing on the data path waits for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::ledger::Settings;
use crate::ledger::journal::{self, Journal};
use crate::ledger::left::Left;
use crate::ledger::sums::Sums;
use crate::store::{Entry, JournalSlice, Store, StoreFault, UsageBatch, Write, Written};
use crate::telemetry::metrics::{LedgerMetrics, Reason};

/// Entries written in one step: few enough that a change to a key, which the store makes between two steps, does not wait long.
const BATCH: usize = 2_000;

/// How often what is old is tidied away, in rounds of the drain.
const ROUNDS_BETWEEN_TIDYING: u32 = 600;

/// What the drain is asked.
#[derive(Debug)]
pub(super) enum Order {
    /// Bring everything settled so far into the store, and say whether that worked.
    Flush(SyncSender<Result<(), StoreFault>>),
    /// The same, and end.
    End(SyncSender<Result<(), StoreFault>>),
}

/// The drain.
pub(super) struct Drain {
    pub(super) store: Arc<dyn Store>,
    pub(super) journals: Arc<Mutex<Vec<Arc<Journal>>>>,
    pub(super) left: Vec<Left>,
    pub(super) sums: Arc<Sums>,
    pub(super) summed: Summed,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) metrics: LedgerMetrics,
}

/// Sums that were taken out and are not in the store yet, as a journal of their own, so that none is written twice.
#[derive(Debug)]
pub(super) struct Summed {
    id: Uuid,
    next: u64,
    entries: Vec<(u64, Entry)>,
}

impl Summed {
    pub(super) fn new() -> Self {
        Self { id: Uuid::now_v7(), next: 1, entries: Vec::new() }
    }
}

impl Drain {
    /// Drains every half of the window until it is told to end.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        // Half of it, so that with the time a commit takes the whole is not passed.
        let rest = (self.settings.window / 2).max(Duration::from_millis(1));
        let mut until_tidying = ROUNDS_BETWEEN_TIDYING;
        loop {
            match orders.recv_timeout(rest) {
                Ok(Order::Flush(told)) => {
                    let _ = told.send(self.round());
                }
                Ok(Order::End(told)) => {
                    let _ = told.send(self.round().and_then(|()| self.close()));
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let is_fine = self.round().is_ok();
                    until_tidying = until_tidying.saturating_sub(1);
                    if is_fine && until_tidying == 0 {
                        until_tidying = ROUNDS_BETWEEN_TIDYING;
                        self.tidy();
                    }
                }
                // Whoever gives orders is gone, and nobody ended it: what is in the journals is for the next start.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Everything appended so far into the store; where that fails, at least to disk.
    fn round(&mut self) -> Result<(), StoreFault> {
        let drained = self.drain_all();
        let pending: usize = self.journals().iter().map(|journal| journal.pending()).sum();
        self.metrics.pending_bytes.set(i64::try_from(pending).unwrap_or(i64::MAX));
        let was_behind = self.metrics.behind.set(i64::from(drained.is_err())) != 0;
        match &drained {
            Ok(()) if was_behind => tracing::info!("the store takes what is settled again"),
            Ok(()) => {}
            Err(fault) => {
                self.metrics.failures.get_or_create(&Reason { reason: fault.as_str() }).inc();
                if !was_behind {
                    tracing::error!(%fault, "the store does not take what is settled; it is kept in the journals meanwhile");
                }
                self.sync();
            }
        }
        drained
    }

    fn drain_all(&mut self) -> Result<(), StoreFault> {
        self.drain_left()?;
        for journal in self.journals() {
            drain_journal(&*self.store, &journal, &self.metrics)?;
        }
        self.drain_sums()
    }

    /// What a killed process left behind goes first. A file is removed before the store forgets how far it was drained: the other way
    /// round a kill in between would have it drained twice.
    fn drain_left(&mut self) -> Result<(), StoreFault> {
        while let Some(left) = self.left.last_mut() {
            while !left.entries.is_empty() {
                let batch = left.entries.iter().take(BATCH).cloned().collect::<Vec<_>>();
                let count = batch.len();
                write(&*self.store, left.id, batch, &self.metrics)?;
                left.entries.drain(..count);
            }
            journal::remove(&left.path).map_err(unavailable)?;
            forget(&*self.store, left.id)?;
            self.left.pop();
        }
        Ok(())
    }

    fn drain_sums(&mut self) -> Result<(), StoreFault> {
        let summed = &mut self.summed;
        if summed.entries.is_empty() && !self.sums.is_empty() {
            for entry in self.sums.take() {
                summed.entries.push((summed.next, entry));
                summed.next += 1;
            }
        }
        while !summed.entries.is_empty() {
            let batch = summed.entries.iter().take(BATCH).cloned().collect::<Vec<_>>();
            let count = batch.len();
            write(&*self.store, summed.id, batch, &self.metrics)?;
            summed.entries.drain(..count);
        }
        Ok(())
    }

    /// Nothing is pending: the journals are not needed any more.
    fn close(&mut self) -> Result<(), StoreFault> {
        for journal in self.journals() {
            journal.remove().map_err(unavailable)?;
            forget(&*self.store, journal.id())?;
        }
        forget(&*self.store, self.summed.id)
    }

    fn sync(&self) {
        for journal in self.journals().iter().filter(|journal| journal.pending() > 0) {
            if let Err(error) = journal.sync() {
                tracing::error!(%error, "a journal cannot be brought to disk; a power cut would lose what it holds");
            }
        }
    }

    fn tidy(&self) {
        let now_ms = self.clock.now().unix_ms;
        let kept_ms = i64::try_from(self.settings.records_kept.as_millis()).unwrap_or(i64::MAX);
        let records_before_ms = now_ms.saturating_sub(kept_ms);
        // A bounded part of it at a time; the rest is for the next.
        for _ in 0..10 {
            match self.store.write(Write::Tidy { now_ms, records_before_ms }) {
                Ok(Written::Tidied(0)) => break,
                Ok(_) => {}
                Err(fault) => {
                    tracing::warn!(%fault, "what is old could not be tidied away");
                    break;
                }
            }
        }
    }

    fn journals(&self) -> Vec<Arc<Journal>> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All that was appended to a journal before this was called. What is appended meanwhile is for the next round, or a busy worker would
/// keep it here for ever.
fn drain_journal(store: &dyn Store, journal: &Journal, metrics: &LedgerMetrics) -> Result<(), StoreFault> {
    let through = journal.last();
    loop {
        let (mut entries, to) = journal.oldest().map_err(unavailable)?;
        let is_all = entries.last().is_none_or(|(last, _)| *last >= through);
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(BATCH));
            write(store, journal.id(), std::mem::replace(&mut entries, rest), metrics)?;
        }
        journal.advance(to);
        if is_all {
            return Ok(());
        }
    }
}

fn write(
    store: &dyn Store,
    journal: Uuid,
    entries: Vec<(u64, Entry)>,
    metrics: &LedgerMetrics,
) -> Result<(), StoreFault> {
    let slice = JournalSlice { journal, entries, is_last: false };
    if let Written::Usage(new) = store.write(Write::Usage(UsageBatch { slices: vec![slice] }))? {
        metrics.stored.inc_by(new as u64);
    }
    Ok(())
}

/// The store need not know any more how far a journal was drained.
fn forget(store: &dyn Store, journal: Uuid) -> Result<(), StoreFault> {
    let slice = JournalSlice { journal, entries: Vec::new(), is_last: true };
    store.write(Write::Usage(UsageBatch { slices: vec![slice] })).map(drop)
}

fn unavailable(error: std::io::Error) -> StoreFault {
    StoreFault::Unavailable(error.to_string())
}
