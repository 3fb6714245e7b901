//! The store in a SQLite file: one thread writes, any thread reads.
//!
//! A write is on disk before it is acknowledged: the write-ahead log is synced at each commit, and whatever waits at the same
//! time shares one. Readers see what was last committed and never wait for the writer.

mod audit;
mod backup;
mod block;
mod books;
mod change;
mod connect;
mod desk;
mod drain;
mod fault;
mod file;
mod fold;
mod glance;
mod histogram;
mod integer;
mod intern;
mod listing;
mod mover;
mod readers;
mod records;
mod remembered;
mod report;
mod row;
mod schema;
mod search;
mod sheet;
mod tidy;
mod varint;
mod writer;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

pub use connect::Options;
pub use glance::Glance;

use crate::store::audit::{AuditPage, AuditQuery};
use crate::store::{
    Books, Entry, KeyFilter, KeyPage, KeyRef, KeyState, Order, PageFrom, RememberedAnswer, Store, StoreFault,
    StoredKey, StoredOperator, UsageQuery, UsageRow, Write, Written,
};
use crate::units::KeyId;
use desk::Desk;
use file::Files;
use mover::Mover;
use readers::Readers;
use writer::{Job, Writer};

/// The store in a file. Dropped, it ends once what it was asked to write is written.
#[derive(Debug)]
pub struct Embedded {
    mover: Mover,
    writer: Writer,
    readers: Arc<Readers>,
}

impl Embedded {
    /// Opens the file, or makes it and its folder; both for their owner alone.
    ///
    /// # Errors
    /// [`StoreFault::Newer`] when a newer program made it, [`StoreFault::Damaged`] when it is not ours; or it cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreFault> {
        Self::open_with(path, Options::default())
    }

    /// The same of a file that holds a store already, as a backup does: an empty one is not made into one.
    ///
    /// # Errors
    /// As [`Embedded::open`]; [`StoreFault::Damaged`] also when it is empty.
    pub fn open_filled(path: &Path) -> Result<Self, StoreFault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        schema::check_filled(&Connection::open_with_flags(path, flags)?)?;
        Self::open(path)
    }

    /// The same with limits of its own.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_with(path: &Path, options: Options) -> Result<Self, StoreFault> {
        let files = Files::prepare(path)?;
        let connection = connect::writer(&files, options)?;
        files.remember();
        let readers = Arc::new(Readers::new(files, options));
        let writer = Writer::start(Desk::new(Arc::clone(&readers), connection))?;
        let mover = Mover::start(Arc::clone(&readers))?;
        Ok(Self { mover, writer, readers })
    }

    /// Moves what is in the log of the store at `path` into its file, so that this alone is the store. Changes nothing else, whatever
    /// version it has; others may have it open.
    ///
    /// # Errors
    /// It is no store, or is being read or written for longer than a moment.
    pub fn gather(path: &Path) -> Result<(), StoreFault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Options::default().busy_timeout)?;
        schema::check_filled(&connection)?;
        connect::empty_log(&connection)
    }

    /// Changes [`Options::max_pages`] from the next write on. A file that has more already keeps them.
    pub fn set_max_pages(&self, max_pages: Option<u32>) {
        self.readers.set_most_pages(max_pages.unwrap_or(0));
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        self.look_after()?;
        self.readers.read(read)
    }

    /// Before a connection may be opened: it would find other files than those of the open ones.
    fn look_after(&self) -> Result<(), StoreFault> {
        if self.readers.is_sound() { Ok(()) } else { self.writer.ask(Job::Mend).map(|_| ()) }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.mover.end();
        // The writer's connection is to be the last: it moves the log into the database, which those that only read cannot.
        drop(self.readers.close());
    }
}

impl Store for Embedded {
    fn load_keys(&self, each: &mut dyn FnMut(StoredKey)) -> Result<(), StoreFault> {
        self.read(|connection| listing::load(connection, each))
    }

    fn load_states(&self, each: &mut dyn FnMut(KeyId, KeyState)) -> Result<(), StoreFault> {
        self.read(|connection| listing::load_states(connection, each))
    }

    fn write(&self, write: Write) -> Result<Written, StoreFault> {
        self.writer.ask(Job::Write(write))
    }

    fn key(&self, key: KeyRef) -> Result<Option<(StoredKey, KeyState)>, StoreFault> {
        self.read(|connection| listing::find(connection, key))
    }

    fn keys(&self, filter: &KeyFilter, order: Order, from: PageFrom, limit: usize) -> Result<KeyPage, StoreFault> {
        self.read(|connection| listing::page(connection, filter, order, from, limit))
    }

    fn has_org(&self, org_id: &str) -> Result<bool, StoreFault> {
        self.read(|connection| listing::has_org(connection, org_id))
    }

    fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreFault> {
        self.read(|connection| report::report(connection, query))
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreFault> {
        self.read(|connection| audit::page(connection, query))
    }

    fn remembered(&self, operator: &str, key: &str, now_ms: i64) -> Result<Option<RememberedAnswer>, StoreFault> {
        self.read(|connection| remembered::find(connection, operator, key, now_ms))
    }

    fn operators(&self) -> Result<Vec<StoredOperator>, StoreFault> {
        self.read(remembered::operators)
    }

    fn pepper_mark(&self) -> Result<Option<[u8; 32]>, StoreFault> {
        self.read(remembered::pepper_mark)
    }

    fn drained(&self) -> Result<Vec<(uuid::Uuid, u64)>, StoreFault> {
        self.read(drain::drained)
    }

    fn records(
        &self,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        self.read(|connection| records::load(connection, (from_ms, to_ms), each))
    }

    fn books(&self) -> Result<Books, StoreFault> {
        self.read(books::recompute)
    }

    fn back_up(&self, to: &Path) -> Result<(), StoreFault> {
        backup::make(to, |beside| {
            self.look_after()?;
            self.readers.lent(|connection| {
                connection.execute("VACUUM INTO ?1", [beside])?;
                Ok(())
            })
        })
    }
}

#[cfg(test)]
mod tests;
