//! From the journals into the store: a thread of its own, which nothing on the data path waits for.

use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::ledger::Counted;
use crate::ledger::Settings;
use crate::ledger::journal::{self, Journal};
use crate::ledger::others::{News, Others};
use crate::ledger::sums::Sums;
use crate::ledger::sync::Round;
use crate::spare::{self, Ebb};
use crate::store::{Entries, Entry, JournalSlice, Store, StoreFault, UsageBatch, Write, Written, frame};
use crate::telemetry::metrics::{LedgerMetrics, Reason};

/// Entries with which a step is large enough to be written; it has up to what is read of one journal at once more. So many that what they add up
/// to, of each key, costs little beside them; so few that a change to a key, which the store makes between two steps, does not wait long.
const BATCH: usize = 4_000;

/// About what an entry takes in a journal.
const ENTRY_BYTES: usize = 128;

/// How often what is old is tidied away, in rounds of the drain.
const ROUNDS_BETWEEN_TIDYING: u32 = 600;

/// Where it is said whether an order worked; there is room for the one answer.
pub(super) type Told = SyncSender<Result<(), StoreFault>>;

/// What the drain is asked.
#[derive(Debug)]
pub(super) enum Order {
    /// Bring everything settled so far into the store, and say whether that worked.
    Flush(Told),
    /// The same, and leave the store alone from then on.
    Pause(Told),
    /// Go on.
    Resume,
    /// A flush, and the end; without the flush while it leaves the store alone.
    End(Told),
}

/// The drain.
pub(super) struct Drain {
    pub(super) store: Arc<dyn Store>,
    pub(super) journals: Arc<Mutex<Vec<Arc<Journal>>>>,
    /// Journals that are not of this process, and who is told what is found in them.
    pub(super) others: Others,
    pub(super) counted: Counted,
    pub(super) folder: PathBuf,
    /// What the folder is known by, device and inode: with it the lock goes that keeps other programs off the store.
    pub(super) held: (u64, u64),
    /// Whether it leaves the store alone.
    pub(super) is_paused: bool,
    /// Told each time everything was drained.
    pub(super) rounds: SyncSender<Round>,
    pub(super) sums: Arc<Sums>,
    pub(super) summed: Summed,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) metrics: LedgerMetrics,
    /// Of what was pending before each round.
    pub(super) ebb: Ebb,
    /// What journals are read into.
    pub(super) rooms: Vec<Vec<u8>>,
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
    /// Drains every `rest` until it is told to end.
    pub(super) fn run(mut self, rest: Duration, orders: &Receiver<Order>) {
        let mut until_tidying = ROUNDS_BETWEEN_TIDYING;
        loop {
            if self.is_paused {
                match orders.recv() {
                    Ok(Order::Resume) => self.is_paused = false,
                    Ok(Order::Flush(told) | Order::Pause(told)) => {
                        let elsewhere = "what is settled is for the next process to write down";
                        tell(vec![told], &Err(StoreFault::Unavailable(elsewhere.to_owned())));
                    }
                    Ok(Order::End(told)) => return tell(vec![told], &self.leave().map_err(unavailable)),
                    Err(_) => return,
                }
                continue;
            }
            let is_fine = match orders.recv_timeout(rest) {
                Ok(first) => {
                    let Sorted { flushes, pauses, ends } = sorted(std::iter::once(first).chain(orders.try_iter()));
                    let drained = self.round();
                    tell(flushes, &drained);
                    if !pauses.is_empty() {
                        let paused = drained.clone().and_then(|()| self.pause());
                        tell(pauses, &paused);
                    }
                    if !ends.is_empty() {
                        tell(ends, &drained.and_then(|()| self.close()));
                        return;
                    }
                    drained.is_ok()
                }
                Err(RecvTimeoutError::Timeout) => self.round().is_ok(),
                // Whoever gives orders is gone, and nobody ended it: what is in the journals is for the next start.
                Err(RecvTimeoutError::Disconnected) => return,
            };
            until_tidying = until_tidying.saturating_sub(1);
            if is_fine && until_tidying == 0 {
                until_tidying = if self.tidy() { 1 } else { ROUNDS_BETWEEN_TIDYING };
            }
        }
    }

    /// Everything appended so far into the store. A bug on the way is a fault like any other: what failed is tried again, and everybody can
    /// see that it is behind.
    fn round(&mut self) -> Result<(), StoreFault> {
        let was_pending = self.pending();
        let drained = catch_unwind(AssertUnwindSafe(|| self.drain_all()));
        let drained = drained.unwrap_or_else(|_| Err(StoreFault::Unavailable("the drain failed".to_owned())));
        let drained = drained.and_then(|()| self.is_still_held());
        if drained.is_ok() {
            // Whoever has not heard of the one before hears of that.
            let _heard = self.rounds.try_send(Round);
        }
        self.metrics.pending_bytes.set(i64::try_from(self.pending()).unwrap_or(i64::MAX));
        if self.ebb.has_come(was_pending / ENTRY_BYTES) {
            self.rooms.clear();
            spare::give_back();
        }
        let was_behind = self.metrics.behind.set(i64::from(drained.is_err())) != 0;
        match &drained {
            Ok(()) if was_behind => tracing::info!("the store takes what is settled again"),
            Ok(()) => {}
            Err(fault) => {
                self.metrics.failures.get_or_create(&Reason { reason: fault.as_str() }).inc();
                if !was_behind {
                    tracing::error!(%fault, "what is settled does not all come into the store; it is kept in the journals meanwhile");
                }
            }
        }
        drained
    }

    fn is_still_held(&self) -> Result<(), StoreFault> {
        match self.folder.metadata() {
            Ok(found) if (found.dev(), found.ino()) == self.held => Ok(()),
            _ => {
                let folder = self.folder.display();
                let why = "was removed or replaced while the program runs: a kill loses what was settled last, and nothing keeps \
                           another program off the store; start it anew";
                Err(StoreFault::Unavailable(format!("{folder} {why}")))
            }
        }
    }

    /// Bytes of the journals that are not in the store yet.
    fn pending(&self) -> usize {
        self.journals().iter().map(|journal| journal.pending()).sum()
    }

    /// A fault of the store ends it: it would be the same for the next. One of a journal's file is that journal's alone.
    fn drain_all(&mut self) -> Result<(), StoreFault> {
        let mut of_files = self.look_at_others();
        of_files = of_files.and(self.drain_others()?);
        let journals = self.journals();
        let journals = journals.iter().map(AsRef::as_ref);
        of_files = of_files.and(drain_journals(&*self.store, journals, &self.metrics, &mut self.rooms)?);
        self.drain_sums()?;
        of_files.map_err(unavailable)
    }

    /// Takes what is new in journals of other processes: it counts from here on.
    fn look_at_others(&mut self) -> io::Result<()> {
        // One that is being made is in the list before anybody can look.
        let journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let own: Vec<Uuid> = journals.iter().map(|journal| journal.id()).collect();
        let (store, counted) = (&self.store, &self.counted);
        let mut drained = || store.drained().map_err(|fault| io::Error::other(fault.to_string()));
        let news = self.others.look(&own, &mut drained, &mut |entry| counted.tell(entry))?;
        drop(journals);
        report(&news, &self.metrics);
        Ok(())
    }

    /// What other processes have settled goes first. A file is removed before the store forgets how far it was drained: the other way round a kill
    /// in between would have it drained twice.
    fn drain_others(&mut self) -> Result<io::Result<()>, StoreFault> {
        let (mut of_files, mut at) = (Ok(()), 0);
        while let Some(other) = self.others.known.get_mut(at) {
            while !other.entries.is_empty() {
                let count = write_some(&*self.store, other.id, &other.entries, &self.metrics)?;
                other.entries.drain(..count);
            }
            if !other.is_left {
                at += 1;
                continue;
            }
            match journal::remove(&other.path) {
                Ok(()) => {
                    forget(&*self.store, other.id)?;
                    self.others.known.swap_remove(at);
                }
                Err(error) => {
                    of_files = Err(io::Error::new(error.kind(), format!("{}: {error}", other.path.display())));
                    at += 1;
                }
            }
        }
        Ok(of_files)
    }

    /// Nothing but what is settled from here on is left for others.
    fn pause(&mut self) -> Result<(), StoreFault> {
        let summed = std::mem::replace(&mut self.summed, Summed::new());
        forget(&*self.store, summed.id)?;
        // Whoever has the store meanwhile may remove some of them.
        self.others.known.clear();
        self.is_paused = true;
        Ok(())
    }

    /// The end of a process whose store is another's: what had no room in a journal goes into one more. The other finds them all.
    fn leave(&mut self) -> io::Result<()> {
        let entries = self.sums.take();
        if entries.is_empty() {
            return Ok(());
        }
        let room: usize = entries.iter().map(|entry| frame::length(&entry.as_text())).sum();
        let journal = Journal::create_for(&self.folder, room, Arc::clone(&self.sums), self.metrics.clone())?;
        entries.iter().for_each(|entry| journal.append(&entry.as_text()));
        journal.sync()
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
            let count = write_some(&*self.store, summed.id, &summed.entries, &self.metrics)?;
            summed.entries.drain(..count);
        }
        Ok(())
    }

    /// The journals are not needed any more, but for those that a worker still has, which was cut: what it settles yet is for the next
    /// start.
    fn close(&mut self) -> Result<(), StoreFault> {
        let journals = std::mem::take(&mut *self.journals.lock().unwrap_or_else(PoisonError::into_inner));
        for journal in journals.into_iter().filter_map(Arc::into_inner) {
            // What its worker settled after the last round.
            drain_journals(&*self.store, [&journal], &self.metrics, &mut self.rooms)?.map_err(unavailable)?;
            journal.remove().map_err(unavailable)?;
            forget(&*self.store, journal.id())?;
        }
        forget(&*self.store, self.summed.id)
    }

    /// Tidies a bounded part of what is old away, and says whether there may be more of it.
    fn tidy(&self) -> bool {
        match self.store.write(old(&self.clock, self.settings.records_kept)) {
            Ok(written) => written != Written::Tidied(0),
            Err(fault) => {
                tracing::warn!(%fault, "what is old could not be tidied away");
                false
            }
        }
    }

    fn journals(&self) -> Vec<Arc<Journal>> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Has the store forget what is old. A clock that was set forward by mistake must not cost what it says is old.
pub(super) fn old(clock: &Clock, records_kept: Duration) -> Write {
    let now_ms = clock.certain().unix_ms;
    let kept_ms = i64::try_from(records_kept.as_millis()).unwrap_or(i64::MAX);
    Write::Tidy { now_ms, records_before_ms: now_ms.saturating_sub(kept_ms) }
}

/// All that was appended to journals before this was called. What is appended meanwhile is for the next round, or a busy worker would keep it
/// here for ever. A fault of a file is its journal's alone.
fn drain_journals<'a>(
    store: &dyn Store,
    journals: impl IntoIterator<Item = &'a Journal>,
    metrics: &LedgerMetrics,
    rooms: &mut Vec<Vec<u8>>,
) -> Result<io::Result<()>, StoreFault> {
    let mut of_files = Ok(());
    let mut step = Step::default();
    for journal in journals {
        let through = journal.last();
        loop {
            let (entries, place) = match journal.oldest(rooms.pop().unwrap_or_default()) {
                Ok(found) => found,
                Err(error) => {
                    of_files = of_files.and(Err(error));
                    break;
                }
            };
            let is_all = entries.last().is_none_or(|last| last >= through);
            step.add(journal, entries, place);
            if !is_all || step.entries >= BATCH {
                std::mem::take(&mut step).write(store, metrics, rooms)?;
            }
            if is_all {
                break;
            }
        }
    }
    step.write(store, metrics, rooms)?;
    Ok(of_files)
}

/// What was read of journals, to be written together.
#[derive(Default)]
struct Step<'a> {
    slices: Vec<JournalSlice>,
    places: Vec<(&'a Journal, Range<usize>, Entries)>,
    entries: usize,
}

impl<'a> Step<'a> {
    fn add(&mut self, journal: &'a Journal, entries: Entries, place: Range<usize>) {
        self.entries += entries.len();
        if !entries.is_empty() {
            self.slices.push(JournalSlice { journal: journal.id(), entries: entries.clone(), is_last: false });
        }
        self.places.push((journal, place, entries));
    }

    /// Once the store has it, the journals need it no more.
    fn write(self, store: &dyn Store, metrics: &LedgerMetrics, rooms: &mut Vec<Vec<u8>>) -> Result<(), StoreFault> {
        if !self.slices.is_empty() {
            write(store, self.slices, metrics)?;
        }
        for (journal, place, entries) in self.places {
            journal.advance(place);
            rooms.extend(entries.into_room());
        }
        Ok(())
    }
}

fn write(store: &dyn Store, slices: Vec<JournalSlice>, metrics: &LedgerMetrics) -> Result<(), StoreFault> {
    if let Written::Usage(new) = store.write(Write::Usage(UsageBatch { slices }))? {
        metrics.stored.inc_by(new as u64);
    }
    Ok(())
}

/// Writes the first of these, as many as make a step, and says how many those are.
fn write_some(
    store: &dyn Store,
    journal: Uuid,
    entries: &[(u64, Entry)],
    metrics: &LedgerMetrics,
) -> Result<usize, StoreFault> {
    let entries = entries.get(..BATCH).unwrap_or(entries);
    let written = Entries::of(entries.iter().map(|(sequence, entry)| (*sequence, entry.as_text())));
    write(store, vec![JournalSlice { journal, entries: written, is_last: false }], metrics)?;
    Ok(entries.len())
}

/// The store need not know any more how far a journal was drained.
fn forget(store: &dyn Store, journal: Uuid) -> Result<(), StoreFault> {
    let slice = JournalSlice { journal, entries: Entries::default(), is_last: true };
    store.write(Write::Usage(UsageBatch { slices: vec![slice] })).map(drop)
}

/// Orders by what they want.
#[derive(Default)]
struct Sorted {
    flushes: Vec<Told>,
    pauses: Vec<Told>,
    ends: Vec<Told>,
}

/// Whoever asks while a round runs is told of the next one together: a store that takes long to say no must not be asked once for each.
fn sorted(orders: impl Iterator<Item = Order>) -> Sorted {
    let mut sorted = Sorted::default();
    for order in orders {
        match order {
            Order::Flush(told) => sorted.flushes.push(told),
            Order::Pause(told) => sorted.pauses.push(told),
            Order::End(told) => sorted.ends.push(told),
            Order::Resume => {}
        }
    }
    sorted
}

/// Says what was found in the journals of others.
pub(super) fn report(news: &News, metrics: &LedgerMetrics) {
    if news.entries > 0 {
        tracing::info!(entries = news.entries, "settled requests of another process are taken up");
    }
    if news.missing > 0 {
        let entries = news.missing;
        tracing::error!(entries, "settled requests of another process cannot be read any more; they are not charged");
        metrics.lost.inc_by(news.missing);
    }
}

fn tell(waiting: Vec<Told>, outcome: &Result<(), StoreFault>) {
    for told in waiting {
        // Whoever asked may have gone.
        let _ = told.send(outcome.clone());
    }
}

fn unavailable(error: io::Error) -> StoreFault {
    StoreFault::Unavailable(error.to_string())
}
