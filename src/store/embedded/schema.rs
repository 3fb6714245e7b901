//! The tables, and how an older file comes to have them.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreFault;

/// Marks a SQLite file as one of ours: "KeyW".
const APPLICATION: i64 = 0x4b65_7957;

/// Each leads from the version before it to the next; the first makes version 1 of an empty file. Never changed once released.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];

/// The version this program writes.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the file up to the version known here, each step whole or not at all.
///
/// # Errors
/// The file is newer, is not ours, or cannot be written.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreFault> {
    check(connection)?;
    while version(connection)? < known() {
        // Another program may be doing the same: what is to be done is looked up once the file is held.
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = version(&step)?;
        let Some(migration) = usize::try_from(found).ok().and_then(|at| MIGRATIONS.get(at)) else { break };
        step.execute_batch(migration)?;
        step.pragma_update(None, "application_id", APPLICATION)?;
        step.pragma_update(None, "user_version", found + 1)?;
        step.commit()?;
    }
    check(connection)
}

/// Whether the file is ours, or empty, and not newer than this program.
///
/// # Errors
/// It is not, or cannot be read.
pub(super) fn check(connection: &Connection) -> Result<(), StoreFault> {
    let found = version(connection)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && tables > 0 {
        return Err(StoreFault::Damaged("the file is a database of another program".to_owned()));
    }
    if found > known() {
        return Err(StoreFault::Newer { found, known: known() });
    }
    Ok(())
}

/// Whether the file holds a store already: [`check`] lets an empty one pass, which is to become one.
///
/// # Errors
/// It does not, or cannot be read.
pub(super) fn check_filled(connection: &Connection) -> Result<(), StoreFault> {
    check(connection)?;
    if version(connection)? == 0 {
        let said = "the file holds no store; one that was copied by other means may lack its write-ahead log";
        return Err(StoreFault::Damaged(said.to_owned()));
    }
    Ok(())
}

/// Whether the file has just the tables that this program writes.
///
/// # Errors
/// It cannot be read.
pub(super) fn is_current(connection: &Connection) -> Result<bool, StoreFault> {
    Ok(version(connection)? == known())
}

fn version(connection: &Connection) -> Result<i64, StoreFault> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
