//! Remembered answers, the operators that the program made, and the mark of the pepper.

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::{Remembered, RememberedAnswer, StoreFault, StoredOperator};

/// Remembers an answer.
///
/// # Errors
/// [`StoreFault::Repeated`] when one is remembered for the same call already.
pub(super) fn write(connection: &Connection, remember: &Remembered) -> Result<(), StoreFault> {
    let sql = "INSERT INTO remembered (operator, key, call, body, seed, etag, until_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
        ON CONFLICT (operator, key) DO UPDATE SET call = ?3, body = ?4, seed = ?5, etag = ?6, until_ms = ?7 WHERE until_ms <= ?8";
    let answer = &remember.answer;
    let written = connection.prepare_cached(sql)?.execute(params![
        remember.operator,
        remember.key,
        answer.call,
        answer.body,
        answer.seed,
        answer.etag,
        remember.until_ms,
        remember.at_ms,
    ])?;
    if written == 0 { Err(StoreFault::Repeated) } else { Ok(()) }
}

/// The answer to a call, unless it is over by `now_ms`.
///
/// # Errors
/// The store cannot be read.
pub(super) fn find(
    connection: &Connection,
    operator: &str,
    key: &str,
    now_ms: i64,
) -> Result<Option<RememberedAnswer>, StoreFault> {
    let sql = "SELECT call, body, seed, etag FROM remembered WHERE operator = ?1 AND key = ?2 AND until_ms > ?3";
    let found = connection.prepare_cached(sql)?.query_row(params![operator, key, now_ms], |row| {
        let etag = row.get(3)?;
        Ok(RememberedAnswer { call: row.get(0)?, body: row.get(1)?, seed: row.get(2)?, etag })
    });
    Ok(found.optional()?)
}

/// Writes an operator; one of the same name is replaced.
///
/// # Errors
/// The store cannot be written.
pub(super) fn write_operator(connection: &Connection, operator: &StoredOperator) -> Result<(), StoreFault> {
    let sql = "INSERT INTO operators (name, token_sha256, role, created_at_ms) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (name) DO UPDATE SET token_sha256 = ?2, role = ?3, created_at_ms = ?4";
    connection.prepare_cached(sql)?.execute(params![
        operator.name,
        operator.token_sha256,
        operator.role,
        operator.created_at_ms
    ])?;
    Ok(())
}

/// The operators, by name.
///
/// # Errors
/// The store cannot be read.
pub(super) fn operators(connection: &Connection) -> Result<Vec<StoredOperator>, StoreFault> {
    let sql = "SELECT name, token_sha256, role, created_at_ms FROM operators ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let created_at_ms = row.get(3)?;
        Ok(StoredOperator { name: row.get(0)?, token_sha256: row.get(1)?, role: row.get(2)?, created_at_ms })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps the mark of the pepper, if there is none yet.
///
/// # Errors
/// The store cannot be written.
pub(super) fn write_pepper_mark(connection: &Connection, mark: &[u8; 32]) -> Result<(), StoreFault> {
    let sql = "INSERT INTO pepper (number, mark) VALUES (1, ?1) ON CONFLICT (number) DO NOTHING";
    connection.prepare_cached(sql)?.execute([mark])?;
    Ok(())
}

/// The mark of the pepper.
///
/// # Errors
/// The store cannot be read.
pub(super) fn pepper_mark(connection: &Connection) -> Result<Option<[u8; 32]>, StoreFault> {
    Ok(connection.prepare_cached("SELECT mark FROM pepper")?.query_row([], |row| row.get(0)).optional()?)
}
