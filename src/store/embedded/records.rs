//! Records on their way into their table: many to a statement, which costs half of what one at a time does.

use rusqlite::{CachedStatement, Connection};

use crate::store::embedded::integer;
use crate::store::{Entry, StoreFault};

/// Rows that one statement writes: as many statements of the most as there are rows for, then of the next.
const SIZES: [usize; 3] = [64, 8, 1];

/// The columns that are numbers.
const NUMBERS: [&str; 21] = [
    "key_number",
    "at_ms",
    "dialect",
    "endpoint",
    "model",
    "outcome",
    "reason",
    "status",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_ms",
    "is_estimated",
    "units",
    "since_day",
    "touched_day",
    "first_byte_us",
    "duration_us",
    "requests",
];

/// One row to be.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// The key's number.
    pub key: i64,
    /// The numbers of the names of dialect, endpoint, model, outcome and reason.
    pub names: [i64; 5],
    /// All else.
    pub entry: &'a Entry,
}

impl Record<'_> {
    /// In the order of [`NUMBERS`].
    fn numbers(&self) -> [i64; NUMBERS.len()] {
        let entry = self.entry;
        let [dialect, endpoint, model, outcome, reason] = self.names;
        [
            self.key,
            entry.at_unix_ms,
            dialect,
            endpoint,
            model,
            outcome,
            reason,
            entry.status.into(),
            integer::kept(entry.usage.input),
            integer::kept(entry.usage.cached_input),
            integer::kept(entry.usage.cache_write),
            integer::kept(entry.usage.output),
            integer::kept(entry.usage.reasoning),
            integer::kept(entry.usage.audio_ms),
            entry.usage.estimated.into(),
            integer::kept(entry.units),
            entry.since_day.into(),
            entry.touched_day.into(),
            integer::kept(entry.first_byte_us),
            integer::kept(entry.duration_us),
            entry.requests.into(),
        ]
    }
}

/// Writes them.
///
/// # Errors
/// The store cannot be written.
pub(super) fn write(connection: &Connection, records: &[Record<'_>]) -> Result<(), StoreFault> {
    let mut rest = records;
    for size in SIZES {
        let (whole, smaller) = rest.split_at(rest.len() - rest.len() % size);
        if !whole.is_empty() {
            let mut insert = Insert::new(connection, size)?;
            whole.chunks_exact(size).try_for_each(|rows| insert.write(rows))?;
        }
        rest = smaller;
    }
    Ok(())
}

/// A statement, and what its parameters stand at.
struct Insert<'a> {
    statement: CachedStatement<'a>,
    numbers: Vec<Option<i64>>,
    secrets: Vec<Option<[u8; 8]>>,
}

impl<'a> Insert<'a> {
    fn new(connection: &'a Connection, rows: usize) -> Result<Self, StoreFault> {
        let row = format!("({}?)", "?, ".repeat(NUMBERS.len() + 1));
        let rows_of_it = vec![row; rows].join(", ");
        let numbers = NUMBERS.join(", ");
        let sql = format!("INSERT INTO records ({numbers}, request_id, previous_secret) VALUES {rows_of_it}");
        let statement = connection.prepare_cached(&sql)?;
        // A parameter that was never set is null.
        Ok(Self { statement, numbers: vec![None; rows * NUMBERS.len()], secrets: vec![None; rows] })
    }

    /// Of most columns a row has what the row in its place had: only what differs is set.
    fn write(&mut self, records: &[Record<'_>]) -> Result<(), StoreFault> {
        let mut parameter = 0;
        let mut places = self.numbers.iter_mut();
        for (record, secret) in records.iter().zip(&mut self.secrets) {
            for (number, bound) in record.numbers().into_iter().zip(places.by_ref()) {
                parameter += 1;
                if *bound != Some(number) {
                    self.statement.raw_bind_parameter(parameter, number)?;
                    *bound = Some(number);
                }
            }
            self.statement.raw_bind_parameter(parameter + 1, &*record.entry.request_id)?;
            parameter += 2;
            if *secret != record.entry.previous_secret {
                self.statement.raw_bind_parameter(parameter, record.entry.previous_secret)?;
                *secret = record.entry.previous_secret;
            }
        }
        self.statement.raw_execute()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Usage;
    use crate::store::contract::made::{entry, id};
    use crate::store::embedded::schema;

    /// An entry whose every number differs from its neighbours', now and then.
    fn made(at: u64) -> Entry {
        let some = |every: u64| if at.is_multiple_of(every) { at } else { 0 };
        Entry {
            request_id: format!("req_{at}").into(),
            at_unix_ms: i64::try_from(at / 3).unwrap(),
            previous_secret: (at / 5).is_multiple_of(2).then(|| (at / 10).to_le_bytes()),
            status: u16::try_from(200 + at / 7).unwrap(),
            usage: Usage {
                input: u64::MAX - at,
                cached_input: some(2),
                cache_write: some(3),
                output: at,
                reasoning: some(11),
                audio_ms: some(13),
                estimated: at.is_multiple_of(4),
            },
            units: at * 1_000,
            since_day: i32::try_from(at / 100).unwrap(),
            touched_day: 7,
            first_byte_us: some(6),
            duration_us: at + 1,
            requests: u32::try_from(1 + some(17)).unwrap(),
            ..entry(id(1))
        }
    }

    #[test]
    fn rows_hold_what_they_were_given_however_many_go_into_a_statement() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        let entries = (0..300).map(made).collect::<Vec<_>>();
        let record = |(at, entry): (i64, _)| Record { key: at % 5, names: [1, 2 + at % 2, at % 3, 9, at % 4], entry };
        let records = (0..).zip(&entries).map(record).collect::<Vec<_>>();
        let mut rest = records.as_slice();
        for count in [1, 7, 8, 9, 64, 73, 138] {
            let (these, later) = rest.split_at(count);
            write(&connection, these).unwrap();
            rest = later;
        }
        assert!(rest.is_empty());
        let sql = format!("SELECT request_id, previous_secret, {} FROM records ORDER BY number", NUMBERS.join(", "));
        let mut statement = connection.prepare(&sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        for record in &records {
            let row = rows.next().unwrap().unwrap();
            assert_eq!(row.get::<_, Box<str>>(0).unwrap(), record.entry.request_id);
            assert_eq!(row.get::<_, Option<[u8; 8]>>(1).unwrap(), record.entry.previous_secret);
            let numbers = (0..NUMBERS.len()).map(|at| row.get::<_, i64>(2 + at).unwrap()).collect::<Vec<_>>();
            assert_eq!(numbers, record.numbers());
        }
        assert!(rows.next().unwrap().is_none());
    }
}
