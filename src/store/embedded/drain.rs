//! Settled requests: each once, as a record of its own and in the sums.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::policy::QuotaRule;
use crate::store::embedded::block::{Names, Record};
use crate::store::embedded::fold::{Fold, Group, MS_PER_HOUR};
use crate::store::embedded::intern::Interned;
use crate::store::embedded::records::Insert;
use crate::store::embedded::{integer, row};
use crate::store::{Entry, JournalSlice, Outcome, StoreFault, UsageBatch};
use crate::units::KeyId;

/// From so many names on, a request that became no record brings no new model's: whoever is only refused could else fill the
/// store with names.
const MOST_NAMES: i64 = 10_000;

/// Where the entries of a key belong.
#[derive(Debug, Clone, Copy)]
struct Place {
    key: i64,
    owner: i64,
    /// Its account in the fold.
    account: usize,
}

/// Writes what of the batch was not drained before, and says how many entries that was.
///
/// # Errors
/// The store cannot be read or written; the caller rolls back.
pub(super) fn drain(connection: &Connection, interned: &mut Interned, batch: &UsageBatch) -> Result<usize, StoreFault> {
    let mut drain = Drain {
        connection,
        interned,
        words: Words::default(),
        places: HashMap::default(),
        fold: Fold::default(),
        records: Insert::new(connection),
    };
    let mut new = 0;
    for slice in &batch.slices {
        new += drain.slice(slice)?;
    }
    drain.records.finish()?;
    drain.fold.write(connection)?;
    Ok(new)
}

/// A batch on its way.
struct Drain<'a> {
    connection: &'a Connection,
    interned: &'a mut Interned,
    words: Words<'a>,
    places: HashMap<KeyId, Place>,
    fold: Fold,
    records: Insert<'a>,
}

/// What a name stands for in an entry.
#[derive(Debug, Clone, Copy)]
enum Role {
    Dialect,
    Endpoint,
    Model,
    Outcome,
    Reason,
}

/// The names of the entry before, by [`Role`]: most entries have the same.
#[derive(Debug, Default)]
struct Words<'a>([Option<(&'a str, i64)>; 5]);

impl<'a> Words<'a> {
    fn known(&self, role: Role, name: &str) -> Option<i64> {
        self.0[role as usize].filter(|(known, _)| *known == name).map(|(_, number)| number)
    }

    fn remember(&mut self, role: Role, name: &'a str, number: i64) {
        self.0[role as usize] = Some((name, number));
    }
}

impl<'a> Drain<'a> {
    fn slice(&mut self, slice: &'a JournalSlice) -> Result<usize, StoreFault> {
        let before = mark(self.connection, slice.journal)?;
        let (mut last, mut new) = (before, 0);
        for (sequence, entry) in &slice.entries {
            if last.is_some_and(|last| *sequence <= last) {
                continue;
            }
            last = Some(*sequence);
            new += 1;
            self.entry(entry)?;
        }
        if slice.is_last {
            forget_mark(self.connection, slice.journal)?;
        } else if let Some(last) = last.filter(|_| last != before) {
            write_mark(self.connection, slice.journal, last)?;
        }
        Ok(new)
    }

    fn entry(&mut self, entry: &'a Entry) -> Result<(), StoreFault> {
        let place = self.place(entry)?;
        let model = self.model(entry)?;
        let endpoint = self.name(Role::Endpoint, entry.endpoint.as_str())?;
        if entry.outcome.is_recorded() {
            let dialect = self.name(Role::Dialect, entry.dialect.as_str())?;
            let outcome = self.name(Role::Outcome, entry.outcome.as_str())?;
            let reason = self.name(Role::Reason, &entry.reason)?;
            let names = Names { dialect, endpoint, model, outcome, reason };
            self.records.add(&Record::new(place.key, names, entry))?;
        }
        let reason = match entry.outcome {
            Outcome::Refused => Some(self.name(Role::Reason, &entry.reason)?),
            _ => None,
        };
        let hour = entry.at_unix_ms.div_euclid(MS_PER_HOUR);
        let group = Group { hour, key: place.key, owner: place.owner, model, endpoint };
        self.fold.add(place.account, group, reason, entry);
        Ok(())
    }

    /// The key's number, and its owner and account now. A key that is not known gets a number all the same: what it used is not lost.
    fn place(&mut self, entry: &Entry) -> Result<Place, StoreFault> {
        if let Some(place) = self.places.get(&entry.key) {
            return Ok(*place);
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
        let place = Place { key, owner, account: self.fold.open(self.connection, key, quota)? };
        self.places.insert(entry.key, place);
        Ok(place)
    }

    fn known_place(&self, key: KeyId) -> Result<Option<(i64, i64, Option<QuotaRule>)>, StoreFault> {
        let sql = "SELECT number, owner, quota_limit, quota_reset FROM keys WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([key.0.as_bytes()])?;
        let Some(found) = rows.next()? else { return Ok(None) };
        Ok(Some((found.get(0)?, found.get(1)?, row::quota(found, 2)?)))
    }

    fn model(&mut self, entry: &'a Entry) -> Result<i64, StoreFault> {
        if entry.outcome.is_recorded() {
            return self.name(Role::Model, &entry.model);
        }
        if let Some(number) = self.interned.known_name(self.connection, &entry.model)? {
            return Ok(number);
        }
        let sql = "SELECT ifnull(max(number), 0) FROM names";
        let names: i64 = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        let name = if names < MOST_NAMES { &*entry.model } else { "" };
        self.interned.name(self.connection, name)
    }

    fn name(&mut self, role: Role, name: &'a str) -> Result<i64, StoreFault> {
        if let Some(number) = self.words.known(role, name) {
            return Ok(number);
        }
        let number = self.interned.name(self.connection, name)?;
        self.words.remember(role, name, number);
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
