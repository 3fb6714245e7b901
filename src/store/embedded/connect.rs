//! Connections, and how each is set up.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::store::StoreFault;
use crate::store::embedded::file::Files;
use crate::store::embedded::schema;

/// How the file is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Pages of 4 KiB the file may have at most; [`StoreFault::Full`] beyond. `None` leaves it to the disk.
    pub max_pages: Option<u32>,
    /// How long another program's lock is waited for before [`StoreFault::Locked`].
    pub busy_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_pages: None, busy_timeout: Duration::from_secs(2) }
    }
}

/// A log of so many pages of 4 KiB is moved into the database by the writer itself.
const LARGE_LOG_PAGES: i64 = 16_384;

/// As many pages as SQLite can have.
const ANY_PAGES: u32 = 0xffff_fffe;

/// The connection that writes. What it commits is on disk: FULL syncs the log at each commit.
///
/// # Errors
/// The file cannot be opened or is not ours.
pub(super) fn writer(files: &Files, options: Options) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(files.database(), flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    keep_statements(&connection)?;
    // Before it is made a log's: a file of somebody else's stays as it is.
    schema::check(&connection)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreFault::Unavailable("the file system keeps no write-ahead log".to_owned()));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768; \
        PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 67108864;",
    )?;
    // Only where the mover does not come to it: commits are not to wait for that.
    connection.pragma_update(None, "wal_autocheckpoint", LARGE_LOG_PAGES)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Statements are kept for the next time. SQLite would make the plan of many anew each time, in case another suits the new values better:
/// ten times the work of looking a key up.
fn keep_statements(connection: &Connection) -> Result<(), StoreFault> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// A connection that moves the log into the database.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn mover(files: &Files) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(files.database(), flags)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}

/// A connection that only reads, and sees what was last committed.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn reader(files: &Files, options: Options) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(files.database(), flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    keep_statements(&connection)?;
    connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}

/// Caps the file.
///
/// # Errors
/// The store cannot be read.
pub(super) fn limit_pages(connection: &Connection, pages: u32) -> Result<(), StoreFault> {
    let most = if pages == 0 { ANY_PAGES } else { pages };
    Ok(connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(()))?)
}

/// Moves what can be moved from the log into the database without keeping anybody waiting.
///
/// # Errors
/// The disk does not take it.
pub(super) fn move_log(connection: &Connection) -> Result<(), StoreFault> {
    // Somebody else may be at it: then there is nothing to do.
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}

/// Moves everything in the log into the database.
///
/// # Errors
/// It cannot be moved now.
pub(super) fn empty_log(connection: &Connection) -> Result<(), StoreFault> {
    let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy {
        return Err(StoreFault::Locked("the log is being read".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn a_statement_that_is_kept_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::prepare(&folder.path().join("store.db")).unwrap();
        let connections = [writer(&files, Options::default()).unwrap(), reader(&files, Options::default()).unwrap()];
        for connection in connections {
            let sql = "SELECT k.name, s.used FROM keys k LEFT JOIN states s ON s.key_number = k.number \
                WHERE k.removed_at_ms IS NULL AND k.number = ?1";
            for number in 1..4 {
                let mut statement = connection.prepare_cached(sql).unwrap();
                assert!(!statement.exists([number]).unwrap());
                assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
            }
        }
    }
}
