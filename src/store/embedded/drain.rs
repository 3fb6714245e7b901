//! Settled requests: each once, as a record of its own and in the sums.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::policy::{DialectName, Endpoint, QuotaRule};
use crate::store::embedded::block::{Names, Record};
use crate::store::embedded::desk::Known;
use crate::store::embedded::fold::{Fold, Holder};
use crate::store::embedded::intern::Interned;
use crate::store::embedded::records::Insert;
use crate::store::embedded::{integer, row};
use crate::store::{Entry, JournalSlice, Outcome, StoreFault, UsageBatch};
use crate::units::KeyId;

/// From so many names on, a request that became no record brings no new model's: whoever is only refused could else fill the
/// store with names.
const MOST_NAMES: i64 = 10_000;

/// Writes what of the batch was not drained before, and says how many entries that was.
///
/// # Errors
/// The store cannot be read or written; the caller rolls back, and `known` is not to be used again before it was emptied.
pub(super) fn drain(connection: &Connection, known: &mut Known, batch: &UsageBatch) -> Result<usize, StoreFault> {
    let Known { interned, fold } = known;
    fold.begin(connection)?;
    let numbers = Numbers::default();
    let mut drain = Drain { connection, interned, numbers, fold, records: Insert::new(connection) };
    let mut new = 0;
    for slice in &batch.slices {
        new += drain.slice(slice)?;
    }
    drain.records.finish()?;
    fold.write(connection)?;
    Ok(new)
}

/// A batch on its way.
struct Drain<'a> {
    connection: &'a Connection,
    interned: &'a mut Interned,
    numbers: Numbers<'a>,
    fold: &'a mut Fold,
    records: Insert<'a>,
}

/// Numbers of names that this batch has had.
#[derive(Debug, Default)]
struct Numbers<'a> {
    dialects: [Option<i64>; DialectName::ALL.len()],
    endpoints: [Option<i64>; Endpoint::ALL.len()],
    outcomes: [Option<i64>; Outcome::ALL.len()],
    /// Of the entry before: most have the same.
    model: Option<(&'a str, i64)>,
    reason: Option<(&'a str, i64)>,
}

/// The number that is `kept` for a name; if there is none, it is looked up.
fn number(
    kept: Option<&mut Option<i64>>,
    look_up: impl FnOnce() -> Result<i64, StoreFault>,
) -> Result<i64, StoreFault> {
    match kept {
        Some(Some(number)) => Ok(*number),
        Some(none) => Ok(*none.insert(look_up()?)),
        None => look_up(),
    }
}

impl<'a> Drain<'a> {
    fn slice(&mut self, slice: &'a JournalSlice) -> Result<usize, StoreFault> {
        let before = mark(self.connection, slice.journal)?;
        let (mut last, mut new) = (before, 0);
        slice.entries.try_each(|sequence, entry| {
            if last.is_some_and(|last| sequence <= last) {
                return Ok(());
            }
            last = Some(sequence);
            new += 1;
            self.entry(entry)
        })?;
        if slice.is_last {
            forget_mark(self.connection, slice.journal)?;
        } else if let Some(last) = last.filter(|_| last != before) {
            write_mark(self.connection, slice.journal, last)?;
        }
        Ok(new)
    }

    fn entry(&mut self, entry: &Entry<&'a str>) -> Result<(), StoreFault> {
        let account = self.account(entry)?;
        let model = self.model(entry)?;
        let (interned, connection, numbers) = (&mut *self.interned, self.connection, &mut self.numbers);
        let mut name = |name| interned.name(connection, name);
        let endpoint = number(numbers.endpoints.get_mut(entry.endpoint as usize), || name(entry.endpoint.as_str()))?;
        let is_refused = entry.outcome == Outcome::Refused;
        let reason = match numbers.reason.filter(|(known, _)| *known == entry.reason) {
            Some((_, number)) => number,
            None if entry.outcome.is_recorded() || is_refused => {
                numbers.reason.insert((entry.reason, name(entry.reason)?)).1
            }
            None => 0,
        };
        let (key, at) = self.fold.add(self.connection, account, (model, endpoint), entry)?;
        if is_refused {
            self.fold.refuse(at, reason, entry.requests);
        }
        if entry.outcome.is_recorded() {
            let dialect = number(numbers.dialects.get_mut(entry.dialect as usize), || name(entry.dialect.as_str()))?;
            let outcome = number(numbers.outcomes.get_mut(entry.outcome as usize), || name(entry.outcome.as_str()))?;
            let names = Names { dialect, endpoint, model, outcome, reason };
            self.records.add(&Record::new(key, names, entry))?;
        }
        Ok(())
    }

    /// The account of the key. A key that is not known gets a number all the same: what it used is not lost.
    fn account(&mut self, entry: &Entry<&str>) -> Result<usize, StoreFault> {
        if let Some(account) = self.fold.account(entry.key) {
            return Ok(account);
        }
        let (key, owner, quota) = match self.known_place(entry.key)? {
            Some(known) => known,
            None => {
                let owner = self.interned.owner(self.connection, None, None)?;
                let sql = "INSERT INTO keys (id, owner, removed_at_ms) VALUES (?1, ?2, ?3)";
                self.connection.prepare_cached(sql)?.execute(params![
                    entry.key.0.as_bytes(),
                    owner,
                    entry.at_unix_ms
                ])?;
                (self.connection.last_insert_rowid(), owner, None)
            }
        };
        self.fold.open(self.connection, entry.key, Holder { key, owner }, quota)
    }

    fn known_place(&self, key: KeyId) -> Result<Option<(i64, i64, Option<QuotaRule>)>, StoreFault> {
        let sql = "SELECT number, owner, quota_limit, quota_reset FROM keys WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([key.0.as_bytes()])?;
        let Some(found) = rows.next()? else { return Ok(None) };
        Ok(Some((found.get(0)?, found.get(1)?, row::quota(found, 2)?)))
    }

    fn model(&mut self, entry: &Entry<&'a str>) -> Result<i64, StoreFault> {
        if let Some((_, number)) = self.numbers.model.filter(|(known, _)| *known == entry.model) {
            return Ok(number);
        }
        let known = self.interned.known_name(self.connection, entry.model)?;
        let number = match known {
            Some(number) => number,
            None if entry.outcome.is_recorded() => self.interned.name(self.connection, entry.model)?,
            None => {
                let sql = "SELECT ifnull(max(number), 0) FROM names";
                let names: i64 = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
                if names >= MOST_NAMES {
                    return self.interned.name(self.connection, "");
                }
                self.interned.name(self.connection, entry.model)?
            }
        };
        self.numbers.model = Some((entry.model, number));
        Ok(number)
    }
}

/// How far a journal is drained; nothing where nothing was drained of it yet.
fn mark(connection: &Connection, journal: Uuid) -> Result<Option<u64>, StoreFault> {
    let sql = "SELECT drained FROM journals WHERE id = ?1";
    let found = connection.prepare_cached(sql)?.query_row([journal.as_bytes()], |row| row.get(0)).optional()?;
    Ok(found.map(integer::read))
}

fn write_mark(connection: &Connection, journal: Uuid, sequence: u64) -> Result<(), StoreFault> {
    let sql = "INSERT INTO journals (id, drained) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET drained = ?2";
    connection.prepare_cached(sql)?.execute(params![journal.as_bytes(), integer::kept(sequence)])?;
    Ok(())
}

fn forget_mark(connection: &Connection, journal: Uuid) -> Result<(), StoreFault> {
    connection.prepare_cached("DELETE FROM journals WHERE id = ?1")?.execute([journal.as_bytes()])?;
    Ok(())
}

/// How far each journal is drained.
///
/// # Errors
/// The store cannot be read.
pub(super) fn drained(connection: &Connection) -> Result<Vec<(Uuid, u64)>, StoreFault> {
    let mut statement = connection.prepare_cached("SELECT id, drained FROM journals")?;
    let rows = statement.query_map([], |row| Ok((Uuid::from_bytes(row.get(0)?), integer::read(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
