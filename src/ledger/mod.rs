//! What was used, on its way from a settled request into the store.
//!
//! A worker appends each settled request to its own [`Journal`], a file in memory, before its client has the last byte of the answer:
//! no system call, and nothing to wait for. A thread drains the journals into the store in groups. What is in a journal when the process
//! is killed is drained at the next start, exactly once, and counted before the first request is decided.
//!
//! | what happens | what is lost |
//! |---|---|
//! | the process is killed | nothing |
//! | the power is cut | what was settled within the window (`[storage] ledger_window`, 200 ms) before it, and the time of one commit |
//! | the store takes nothing | nothing: journals hold it, brought to disk every half of the window |
//! | the same, until a journal is full | nothing but the single records: charges are summed up in memory; these a kill would lose |

mod drain;
mod extent;
mod journal;
mod mapping;
mod others;
mod settings;
mod sums;
mod sync;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;

pub use crate::store::{Entry, Outcome};
pub use journal::Journal;
pub use settings::Settings;

use crate::background;
use crate::clock::Clock;
use crate::spare::Ebb;
use crate::store::{Store, StoreFault, frame};
use crate::telemetry::metrics::LedgerMetrics;
use drain::{Drain, Order, Summed, Told};
use journal::Found;
use others::Others;
use sums::Sums;
use sync::{Round, Syncer};

/// Why there is no ledger, and so no start: what is used must be written down.
#[derive(Debug, Error)]
pub enum LedgerFault {
    /// The folder or a file of it.
    #[error("{path}: {error}; the journals of settled requests are kept there")]
    Folder {
        /// Where.
        path: String,
        /// What happened.
        error: std::io::Error,
    },
    /// Another program's.
    #[error("{path}: another program runs on this store; end it first")]
    Held {
        /// Where.
        path: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// The right to be the one program on a store: to charge its keys, change them, and drain what others left. Ends when it is dropped, and with
/// the process.
#[derive(Debug)]
pub struct Hold {
    folder: PathBuf,
    locked: File,
}

impl Hold {
    /// Takes it, by a lock on the folder of the journals, which is made when missing.
    ///
    /// # Errors
    /// [`LedgerFault::Held`] where another has it; or the folder cannot be made.
    pub fn take(folder: &Path) -> Result<Self, LedgerFault> {
        let path = || folder.display().to_string();
        let fault = |error| LedgerFault::Folder { path: path(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        let opened = File::open(folder).map_err(fault)?;
        match opened.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), locked: opened }),
            Err(TryLockError::WouldBlock) => Err(LedgerFault::Held { path: path() }),
            Err(TryLockError::Error(error)) => Err(fault(error)),
        }
    }

    /// What the folder is known by, device and inode.
    fn identity(&self) -> std::io::Result<(u64, u64)> {
        self.locked.metadata().map(|found| (found.dev(), found.ino()))
    }
}

/// All journals, and the thread that drains them. [`Ledger::close`] ends it in order; when it is dropped otherwise, what is in the journals
/// is for the next start.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    settings: Settings,
    journals: Arc<Mutex<Vec<Arc<Journal>>>>,
    sums: Arc<Sums>,
    metrics: LedgerMetrics,
    /// `None` once it has ended.
    ends: Mutex<Option<Ends>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// `None` while the store is another process's.
    hold: Mutex<Option<Hold>>,
}

/// Who is told of requests that another process on the same store has settled: one that was killed, or one that has handed the store over and
/// still runs. Each is told once, before it is in the store.
#[derive(Clone)]
pub struct Counted(Arc<dyn Fn(&Entry) + Send + Sync>);

impl Counted {
    /// Tells `told`, which must not wait for anything.
    pub fn by(told: impl Fn(&Entry) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    fn tell(&self, entry: &Entry) {
        (self.0)(entry);
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted(..)")
    }
}

/// What a ledger is opened with.
#[derive(Debug)]
pub struct Opening {
    /// The right to the store, and the folder where its journals are.
    pub hold: Hold,
    /// How it works.
    pub settings: Settings,
    /// What it drains into.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Clock,
    /// Counts what becomes of entries.
    pub metrics: LedgerMetrics,
    /// Told of others' entries, from the open on.
    pub counted: Counted,
    /// Whether it leaves the store as it is until [`Ledger::resume`].
    pub is_paused: bool,
}

/// What the threads hear: both end when it is dropped.
#[derive(Debug)]
struct Ends {
    orders: Sender<Order>,
    _rounds: SyncSender<Round>,
}

impl Ledger {
    /// Opens it. What others have settled and the store has not taken yet is told before this returns, so that it counts from the first request on;
    /// it is drained like any other.
    ///
    /// # Errors
    /// The folder or the store cannot be read or written.
    pub fn open(opening: Opening) -> Result<Self, LedgerFault> {
        let Opening { hold, settings, store, clock, metrics, counted, is_paused } = opening;
        let folder = hold.folder.clone();
        let fault = |error| LedgerFault::Folder { path: folder.display().to_string(), error };
        let mut others = Others::in_folder(&folder);
        let drained = store.drained()?;
        let found = others.look(&[], &mut || Ok(drained.clone()), &mut |entry| counted.tell(entry)).map_err(fault)?;
        drain::report(&found, &metrics);
        let journals = Arc::new(Mutex::default());
        let sums = Arc::new(Sums::new(metrics.clone()));
        let syncer = Syncer { journals: Arc::clone(&journals), metrics: metrics.clone() };
        // Room for one: whoever is behind learns no more from several.
        let (rounds, told) = mpsc::sync_channel(1);
        let drain = Drain {
            store,
            journals: Arc::clone(&journals),
            others,
            counted,
            held: hold.identity().map_err(fault)?,
            folder: folder.clone(),
            is_paused,
            rounds: rounds.clone(),
            sums: Arc::clone(&sums),
            summed: Summed::new(),
            settings: settings.clone(),
            clock,
            metrics: metrics.clone(),
            ebb: Ebb::default(),
            rooms: Vec::new(),
        };
        // Half of the window, so that with the time a commit takes the whole is not passed.
        let rest = (settings.window / 2).max(Duration::from_millis(1));
        let (orders, ordered) = mpsc::channel();
        let threads = vec![
            spawn("keyward-sync", move || syncer.run(rest, &told)).map_err(fault)?,
            spawn("keyward-ledger", move || drain.run(rest, &ordered)).map_err(fault)?,
        ];
        Ok(Self {
            folder: folder.clone(),
            settings,
            journals,
            sums,
            metrics,
            ends: Mutex::new(Some(Ends { orders, _rounds: rounds })),
            threads: Mutex::new(threads),
            hold: Mutex::new(Some(hold)),
        })
    }

    /// A journal for one more worker.
    ///
    /// # Errors
    /// No room for it on the disk.
    pub fn journal(&self) -> std::io::Result<Arc<Journal>> {
        let (sums, metrics) = (Arc::clone(&self.sums), self.metrics.clone());
        // In the list before anybody looks into the folder: there it would be somebody else's.
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = Journal::create(&self.folder, self.settings.journal_size, sums, metrics);
        let journal = Arc::new(journal.map_err(|error| {
            let folder = self.folder.display();
            std::io::Error::new(error.kind(), format!("a journal of settled requests in {folder}: {error}"))
        })?);
        journals.push(Arc::clone(&journal));
        Ok(journal)
    }

    /// Brings everything settled so far into the store. Blocks until that is done.
    ///
    /// # Errors
    /// The store does not take it; it stays in the journals.
    pub fn flush(&self) -> Result<(), StoreFault> {
        self.order(Order::Flush)
    }

    /// The same, and leaves store and folder to another process from then on: what is settled meanwhile is in the journals, where that one finds
    /// it. The caller closes the store, then calls [`Ledger::release`].
    ///
    /// # Errors
    /// The store does not take it; nothing has changed then.
    pub fn pause(&self) -> Result<(), StoreFault> {
        self.order(Order::Pause)
    }

    /// Gives up the right to the store, after [`Ledger::pause`].
    pub fn release(&self) {
        drop(self.hold().take());
    }

    /// Takes the right to the store again, if it was given up. The caller opens the store, then calls [`Ledger::resume`].
    ///
    /// # Errors
    /// Another program has it.
    pub fn retake(&self) -> Result<(), LedgerFault> {
        let mut hold = self.hold();
        if hold.is_none() {
            *hold = Some(Hold::take(&self.folder)?);
        }
        Ok(())
    }

    /// Drains again: after an opening that was to wait, or a pause.
    pub fn resume(&self) {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        // A drain that has ended has nothing to go on with.
        let _gone = ends.as_ref().map(|ends| ends.orders.send(Order::Resume));
    }

    fn hold(&self) -> MutexGuard<'_, Option<Hold>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A flush, and the end of the drain. Without a fault no journal is left but those that somebody still has: what is appended to them from
    /// here on is for the next start. After [`Ledger::pause`] they all are left, for the process that has the store now.
    ///
    /// # Errors
    /// The store does not take it; it stays in the journals for the next start.
    pub fn close(&self) -> Result<(), StoreFault> {
        let ended = self.order(Order::End);
        self.end();
        ended
    }

    /// With nobody left to give orders the threads end.
    fn end(&self) {
        drop(self.ends.lock().unwrap_or_else(PoisonError::into_inner).take());
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A panic in it was told when it happened.
            let _ = thread.join();
        }
    }

    fn order(&self, order: impl FnOnce(Told) -> Order) -> Result<(), StoreFault> {
        let gone = || StoreFault::Unavailable("the ledger has ended".to_owned());
        let (told, hear) = mpsc::sync_channel(1);
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = ends.as_ref().map(|ends| ends.orders.clone());
        drop(ends);
        orders.ok_or_else(gone)?.send(order(told)).map_err(|_| gone())?;
        hear.recv().map_err(|_| gone())?
    }
}

/// The identity of a journal and what is written in it, by its file's bytes: ascending sequence numbers, none of them twice. `None` when they
/// are no journal's. Whatever else stands among the entries is passed over.
pub fn read_journal(bytes: &[u8]) -> Option<(uuid::Uuid, Vec<(u64, Entry)>)> {
    match journal::parse(bytes) {
        Found::Journal(id, entries) => Some((id, entries)),
        Found::Blank | Found::Unknown => None,
    }
}

/// The bytes that an entry is written to a journal as: a multiple of 64, and in a journal they begin at one.
pub fn framed(entry: &Entry<&str>, sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0; frame::length(entry)];
    frame::encode(entry, sequence, &mut bytes);
    bytes
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(|| {
        background::give_way(background::BOOKS);
        body();
    })
}

/// How many entries are in the journals of `folder` and not in the store yet, whether or not a process holds them. `drained` says how far the
/// store has taken each that it knows.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn pending(folder: &Path, drained: &[(uuid::Uuid, u64)]) -> Result<u64, LedgerFault> {
    others::pending(folder, drained).map_err(|error| LedgerFault::Folder { path: folder.display().to_string(), error })
}

#[cfg(test)]
mod tests;
