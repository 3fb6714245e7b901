//! Settled requests: each once, as a record of its own and in the sums.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::policy::QuotaRule;
use crate::store::embedded::fold::{Fold, Group, MS_PER_HOUR};
use crate::store::embedded::intern::Interned;
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
    quota: Option<QuotaRule>,
}

/// Writes what of the batch was not drained before, and says how many entries that was.
///
/// # Errors
/// The store cannot be read or written; the caller rolls back.
pub(super) fn drain(connection: &Connection, interned: &mut Interned, batch: &UsageBatch) -> Result<usize, StoreFault> {
    let mut drain = Drain { connection, interned, places: HashMap::new(), fold: Fold::default() };
    let mut new = 0;
    for slice in &batch.slices {
        new += drain.slice(slice)?;
    }
    drain.fold.write(connection)?;
    Ok(new)
}

/// A batch on its way.
struct Drain<'a> {
    connection: &'a Connection,
    interned: &'a mut Interned,
    places: HashMap<KeyId, Place>,
    fold: Fold,
}

impl Drain<'_> {
    fn slice(&mut self, slice: &JournalSlice) -> Result<usize, StoreFault> {
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

    fn entry(&mut self, entry: &Entry) -> Result<(), StoreFault> {
        let place = self.place(entry)?;
        let model = self.model(entry)?;
        let endpoint = self.interned.name(self.connection, entry.endpoint.as_str())?;
        if entry.outcome.is_recorded() {
            self.record(entry, place.key, model, endpoint)?;
        }
        let reason = match entry.outcome {
            Outcome::Refused => Some(self.interned.name(self.connection, &entry.reason)?),
            _ => None,
        };
        let hour = entry.at_unix_ms.div_euclid(MS_PER_HOUR);
        let group = Group { hour, key: place.key, owner: place.owner, model, endpoint };
        self.fold.add(self.connection, group, place.quota, reason, entry)
    }

    /// The key's number, and its owner and quota now. A key that is not known gets a number all the same: what it used is not lost.
    fn place(&mut self, entry: &Entry) -> Result<Place, StoreFault> {
        if let Some(place) = self.places.get(&entry.key) {
            return Ok(*place);
        }
        let place = match self.known_place(entry.key)? {
            Some(place) => place,
            None => {
                let owner = self.interned.owner(self.connection, None, None)?;
                let sql = "INSERT INTO keys (id, owner, removed_at_ms) VALUES (?1, ?2, ?3)";
                self.connection.prepare_cached(sql)?.execute(params![
                    entry.key.0.as_bytes(),
                    owner,
                    entry.at_unix_ms
                ])?;
                Place { key: self.connection.last_insert_rowid(), owner, quota: None }
            }
        };
        self.places.insert(entry.key, place);
        Ok(place)
    }

    fn known_place(&self, key: KeyId) -> Result<Option<Place>, StoreFault> {
        let sql = "SELECT number, owner, quota_limit, quota_reset FROM keys WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([key.0.as_bytes()])?;
        let Some(found) = rows.next()? else { return Ok(None) };
        Ok(Some(Place { key: found.get(0)?, owner: found.get(1)?, quota: row::quota(found, 2)? }))
    }

    fn model(&mut self, entry: &Entry) -> Result<i64, StoreFault> {
        if entry.outcome.is_recorded() {
            return self.interned.name(self.connection, &entry.model);
        }
        if let Some(number) = self.interned.known_name(self.connection, &entry.model)? {
            return Ok(number);
        }
        let sql = "SELECT ifnull(max(number), 0) FROM names";
        let names: i64 = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        let name = if names < MOST_NAMES { &*entry.model } else { "" };
        self.interned.name(self.connection, name)
    }

    fn record(&mut self, entry: &Entry, key: i64, model: i64, endpoint: i64) -> Result<(), StoreFault> {
        let sql = "INSERT INTO records (key_number, at_ms, request_id, dialect, endpoint, model, outcome, reason, status, \
            input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_ms, is_estimated, \
            units, since_day, touched_day, first_byte_us, duration_us, requests, previous_secret) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
        let dialect = self.interned.name(self.connection, entry.dialect.as_str())?;
        let outcome = self.interned.name(self.connection, entry.outcome.as_str())?;
        let reason = self.interned.name(self.connection, &entry.reason)?;
        let usage = entry.usage;
        self.connection.prepare_cached(sql)?.execute(params![
            key,
            entry.at_unix_ms,
            entry.request_id,
            dialect,
            endpoint,
            model,
            outcome,
            reason,
            entry.status,
            integer::kept(usage.input),
            integer::kept(usage.cached_input),
            integer::kept(usage.cache_write),
            integer::kept(usage.output),
            integer::kept(usage.reasoning),
            integer::kept(usage.audio_ms),
            usage.estimated,
            integer::kept(entry.units),
            entry.since_day,
            entry.touched_day,
            integer::kept(entry.first_byte_us),
            integer::kept(entry.duration_us),
            entry.requests,
            entry.previous_secret,
        ])?;
        Ok(())
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
