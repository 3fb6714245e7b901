//! Connections for those who read. Each sees what was committed when it began; none waits for the writer.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use rusqlite::Connection;

use crate::store::StoreFault;
use crate::store::embedded::connect::{self, Options};
use crate::store::embedded::file::{Files, Standing};

/// Connections at most; more readers wait for one.
const MOST: usize = 8;

/// The connections that read, and what all connections share.
#[derive(Debug)]
pub(super) struct Readers {
    files: Files,
    options: Options,
    most_pages: AtomicU32,
    /// Read by those who use a connection, written by whoever needs all of them closed.
    gate: RwLock<()>,
    pool: Mutex<Pool>,
    returned: Condvar,
    /// The mover's connection, while it has one.
    moving: Mutex<Option<Connection>>,
    /// Whether anything was committed since the mover looked.
    is_committed: AtomicBool,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Connection>,
    /// How many are in use.
    lent: usize,
}

impl Readers {
    /// None open yet.
    pub(super) fn new(files: Files, options: Options) -> Self {
        Self {
            files,
            options,
            most_pages: AtomicU32::new(options.max_pages.unwrap_or(0)),
            gate: RwLock::new(()),
            pool: Mutex::default(),
            returned: Condvar::new(),
            moving: Mutex::new(None),
            is_committed: AtomicBool::new(false),
        }
    }

    /// The files.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// How they are used.
    pub(super) fn options(&self) -> Options {
        self.options
    }

    /// Pages the file may have; 0 for any number.
    pub(super) fn most_pages(&self) -> u32 {
        self.most_pages.load(Ordering::Acquire)
    }

    /// Sets it.
    pub(super) fn set_most_pages(&self, pages: u32) {
        self.most_pages.store(pages, Ordering::Release);
    }

    /// Whether a new connection would find the files of the others.
    pub(super) fn is_sound(&self) -> bool {
        self.files.standing() != Standing::LogGone
    }

    /// Lets `read` read one state of the store.
    ///
    /// # Errors
    /// What `read` says, or the store cannot be read.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        self.lent(|connection| read(&*connection.unchecked_transaction()?))
    }

    /// Lets `work` have a connection; whatever it asks for, each time it sees the store of that moment.
    ///
    /// # Errors
    /// What `work` says, or the store cannot be read.
    pub(super) fn lent<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut lent = self.lend()?;
        let result = work(lent.connection()?);
        // One that failed is not used again.
        lent.is_sound = result.as_ref().err().is_none_or(StoreFault::is_conflict);
        result
    }

    /// Waits until nobody reads, closes all connections, and keeps them closed as long as the guard lives.
    pub(super) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        let alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.pool().idle.clear();
        self.moving.lock().unwrap_or_else(PoisonError::into_inner).take();
        alone
    }

    /// Something was committed.
    pub(super) fn note_committed(&self) {
        self.is_committed.store(true, Ordering::Release);
    }

    /// Whether anything was committed since this was asked last.
    pub(super) fn take_committed(&self) -> bool {
        self.is_committed.swap(false, Ordering::AcqRel)
    }

    /// Moves the log into the database, beside whoever reads and writes.
    ///
    /// # Errors
    /// It cannot be moved now.
    pub(super) fn move_log(&self) -> Result<(), StoreFault> {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.files.standing() != Standing::Same {
            return Err(self.files.gone());
        }
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match moving.take() {
            Some(connection) => connection,
            None => connect::mover(&self.files)?,
        };
        connect::move_log(&connection)?;
        // One that failed is not used again.
        *moving = Some(connection);
        Ok(())
    }

    fn lend(&self) -> Result<Lent<'_>, StoreFault> {
        let mut pool = self.pool();
        while pool.lent >= MOST {
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.lent += 1;
        let idle = pool.idle.pop();
        drop(pool);
        let mut lent = Lent { readers: self, connection: idle, is_sound: false };
        if lent.connection.is_none() {
            // It would find other files than those of the open ones.
            if self.files.standing() != Standing::Same {
                return Err(self.files.gone());
            }
            lent.connection = Some(connect::reader(&self.files, self.options)?);
        }
        Ok(lent)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
    /// Whether it goes back.
    is_sound: bool,
}

impl Lent<'_> {
    fn connection(&self) -> Result<&Connection, StoreFault> {
        self.connection.as_ref().ok_or_else(|| StoreFault::Unavailable("no connection".to_owned()))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool();
        pool.lent -= 1;
        pool.idle.extend(self.connection.take().filter(|_| self.is_sound));
        drop(pool);
        self.readers.returned.notify_one();
    }
}
