//! Where records are kept: blocks of them, each a row; and rows of their own, which version 1 wrote.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::policy::{DialectName, Endpoint, Usage};
use crate::store::embedded::block::{self, Block, Id, NUMBERS, Record, Records};
use crate::store::{Entry, Outcome, StoreFault};
use crate::units::KeyId;

/// Records on their way into their table.
#[derive(Debug)]
pub(super) struct Insert<'a> {
    connection: &'a Connection,
    block: Block,
}

impl<'a> Insert<'a> {
    /// Of none yet.
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, block: Block::default() }
    }

    /// Adds one; it is written with others.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) fn add(&mut self, record: &Record<'_>) -> Result<(), StoreFault> {
        self.block.add(record);
        if self.block.records == block::MOST { self.write() } else { Ok(()) }
    }

    /// Writes those that are not yet written.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) fn finish(mut self) -> Result<(), StoreFault> {
        if self.block.records > 0 { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreFault> {
        let sql = "INSERT INTO record_blocks (oldest_ms, newest_ms, data) VALUES (?1, ?2, ?3)";
        let block = &self.block;
        self.connection.prepare_cached(sql)?.execute(params![block.oldest_ms, block.newest_ms, block.as_bytes()])?;
        self.block.clear();
        Ok(())
    }
}

/// Gives the records of all blocks to `each`.
///
/// # Errors
/// The store cannot be read.
pub(super) fn each_packed(connection: &Connection, mut each: impl FnMut(&Record<'_>)) -> Result<(), StoreFault> {
    let mut statement = connection.prepare_cached("SELECT data FROM record_blocks")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut records = Records::of(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
        while let Some(record) = records.next()? {
            each(&record);
        }
    }
    Ok(())
}

/// Gives up to `most` of the oldest packed records from before `before_ms` to `each`, takes them out, and says how many they were. A block that
/// cannot be read stays, and holds nothing up.
///
/// # Errors
/// The store cannot be read or written.
pub(super) fn take_packed(
    connection: &Connection,
    before_ms: i64,
    most: usize,
    mut each: impl FnMut(&Record<'_>),
) -> Result<usize, StoreFault> {
    let sql = "SELECT number, data FROM record_blocks WHERE oldest_ms < ?1 ORDER BY oldest_ms";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([before_ms])?;
    let (mut taken, mut blocks) = (0, Vec::new());
    while let Some(row) = if taken < most { rows.next()? } else { None } {
        let (number, data) = (row.get::<_, i64>(0)?, row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
        // Whole or not at all: what was given of it could not be taken back.
        if let Err(error) = Records::of(data).and_then(Records::check) {
            tracing::error!(block = number, %error, "records of the ledger cannot be read, and are left as they are");
            continue;
        }
        let mut records = Records::of(data)?;
        let mut left = Block::default();
        while let Some(record) = records.next()? {
            if record.at_ms() < before_ms && taken < most {
                each(&record);
                taken += 1;
            } else {
                left.add(&record);
            }
        }
        blocks.push((number, left));
    }
    drop(rows);
    for (number, left) in blocks {
        if left.records == 0 {
            connection.prepare_cached("DELETE FROM record_blocks WHERE number = ?1")?.execute([number])?;
        } else {
            let sql = "UPDATE record_blocks SET oldest_ms = ?2, newest_ms = ?3, data = ?4 WHERE number = ?1";
            let (oldest_ms, newest_ms) = (left.oldest_ms, left.newest_ms);
            connection.prepare_cached(sql)?.execute(params![number, oldest_ms, newest_ms, left.as_bytes()])?;
        }
    }
    Ok(taken)
}

/// Rows and blocks with records of a time. Their indexes say which they are; the blocks of all other times are left alone.
const OF_A_TIME: &str = "SELECT at_ms, number, FALSE FROM records WHERE at_ms >= ?1 AND at_ms < ?2 \
    UNION ALL SELECT oldest_ms, number, TRUE FROM record_blocks WHERE oldest_ms < ?2 AND newest_ms >= ?1 ORDER BY 1";

/// Gives the entry of every record settled from `from_ms` on and before `to_ms` to `each`, the oldest first, until it breaks off. In memory at
/// once are those of the blocks whose times overlap.
///
/// # Errors
/// The store cannot be read.
pub(super) fn load(
    connection: &Connection,
    (from_ms, to_ms): (i64, i64),
    each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<(), StoreFault> {
    let mut reader = Reader { connection, names: HashMap::new(), keys: HashMap::new() };
    // In the order of their times, and of one time in the order they were read.
    let (mut waiting, mut read) = (BTreeMap::<(i64, u64), Entry>::new(), 0);
    let mut statement = connection.prepare_cached(OF_A_TIME)?;
    let mut rows = statement.query([from_ms, to_ms])?;
    while let Some(row) = rows.next()? {
        let (oldest_ms, number) = (row.get::<_, i64>(0)?, row.get(1)?);
        // Whatever is still to be read is from then or later.
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 < oldest_ms) {
            if each(first.remove()).is_break() {
                return Ok(());
            }
        }
        let mut keep = |record: &Record<'_>| {
            if (from_ms..to_ms).contains(&record.at_ms()) {
                waiting.insert((record.at_ms(), read), reader.entry(record)?);
                read += 1;
            }
            Ok(())
        };
        if row.get(2)? { unpack(connection, number, &mut keep)? } else { single(connection, number, &mut keep)? }
    }
    // Whoever breaks off here has had enough as well.
    let _enough = waiting.into_values().try_for_each(each);
    Ok(())
}

/// Gives the records of a block to `keep`.
fn unpack(
    connection: &Connection,
    block: i64,
    keep: &mut dyn FnMut(&Record<'_>) -> Result<(), StoreFault>,
) -> Result<(), StoreFault> {
    let mut statement = connection.prepare_cached("SELECT data FROM record_blocks WHERE number = ?1")?;
    let mut rows = statement.query([block])?;
    let row = rows.next()?.ok_or_else(block::damaged)?;
    let mut records = Records::of(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
    while let Some(record) = records.next()? {
        keep(&record)?;
    }
    Ok(())
}

/// Gives the record of a row of version 1 to `keep`.
fn single(
    connection: &Connection,
    number: i64,
    keep: &mut dyn FnMut(&Record<'_>) -> Result<(), StoreFault>,
) -> Result<(), StoreFault> {
    let sql = format!("SELECT {}, request_id, previous_secret FROM records WHERE number = ?1", NUMBERS.join(", "));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([number])?;
    let row = rows.next()?.ok_or_else(block::damaged)?;
    let mut record = Record::default();
    for (at, number) in record.numbers.iter_mut().enumerate() {
        *number = row.get(at)?;
    }
    record.request_id = Id::new(row.get_ref(NUMBERS.len())?.as_str().map_err(rusqlite::Error::from)?);
    record.previous_secret = row.get(NUMBERS.len() + 1)?;
    keep(&record)
}

/// Finds what the numbers of records stand for.
struct Reader<'a> {
    connection: &'a Connection,
    names: HashMap<i64, Box<str>>,
    keys: HashMap<i64, KeyId>,
}

impl Reader<'_> {
    fn entry(&mut self, record: &Record<'_>) -> Result<Entry, StoreFault> {
        let [
            at_unix_ms,
            key,
            duration,
            first_byte,
            units,
            output,
            input,
            model,
            cached_input,
            reasoning,
            estimated,
            status,
            outcome,
            reason,
            endpoint,
            dialect,
            cache_write,
            audio_ms,
            since_day,
            touched_day,
            requests,
        ] = record.numbers;
        let read = i64::cast_unsigned;
        Ok(Entry {
            request_id: record.request_id.to_text(),
            at_unix_ms,
            key: self.key(key)?,
            previous_secret: record.previous_secret,
            dialect: one_of(&DialectName::ALL, DialectName::as_str, self.name(dialect)?)?,
            endpoint: one_of(&Endpoint::ALL, Endpoint::as_str, self.name(endpoint)?)?,
            model: self.name(model)?.into(),
            outcome: one_of(&Outcome::ALL, Outcome::as_str, self.name(outcome)?)?,
            reason: self.name(reason)?.into(),
            status: small(status)?,
            usage: Usage {
                input: read(input),
                cached_input: read(cached_input),
                cache_write: read(cache_write),
                output: read(output),
                reasoning: read(reasoning),
                audio_ms: read(audio_ms),
                estimated: estimated != 0,
            },
            units: read(units),
            since_day: small(since_day)?,
            touched_day: small(touched_day)?,
            first_byte_us: read(first_byte),
            duration_us: read(duration),
            requests: small(requests)?,
        })
    }

    fn name(&mut self, number: i64) -> Result<&str, StoreFault> {
        if !self.names.contains_key(&number) {
            let sql = "SELECT name FROM names WHERE number = ?1";
            let name = self.connection.prepare_cached(sql)?.query_row([number], |row| row.get(0))?;
            self.names.insert(number, name);
        }
        self.names.get(&number).map(|name| &**name).ok_or_else(block::damaged)
    }

    fn key(&mut self, number: i64) -> Result<KeyId, StoreFault> {
        if let Some(key) = self.keys.get(&number) {
            return Ok(*key);
        }
        let sql = "SELECT id FROM keys WHERE number = ?1";
        let id = self.connection.prepare_cached(sql)?.query_row([number], |row| row.get(0))?;
        let key = KeyId(Uuid::from_bytes(id));
        self.keys.insert(number, key);
        Ok(key)
    }
}

/// The value with this name.
fn one_of<T: Copy>(all: &[T], named: fn(T) -> &'static str, name: &str) -> Result<T, StoreFault> {
    all.iter().copied().find(|one| named(*one) == name).ok_or_else(block::damaged)
}

/// A number that has to fit.
fn small<T: TryFrom<i64>>(number: i64) -> Result<T, StoreFault> {
    T::try_from(number).map_err(|_| block::damaged())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;

    #[test]
    fn what_is_of_a_time_is_found_by_the_indexes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        drop(Embedded::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {OF_A_TIME}")).unwrap();
        let steps = statement.query_map([1, 9], |row| row.get::<_, String>("detail")).unwrap();
        let plan = steps.collect::<Result<Vec<_>, _>>().unwrap().join("\n");
        assert!(!plan.contains("B-TREE") && plan.matches("COVERING INDEX").count() == 2, "{plan}");
    }
}
