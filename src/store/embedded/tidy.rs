//! What is old goes: answers that are forgotten, records whose sums are enough.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, params};

use crate::limits::QuotaCount;
use crate::store::StoreFault;
use crate::store::embedded::block::Record;
use crate::store::embedded::{integer, records};

/// Of each kind at most in one go: some tens of milliseconds.
const MOST: u32 = 5_000;

/// What records of one key come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// Requests they stand for.
    pub requests: u64,
    /// Tokens.
    pub input_tokens: u64,
    /// Tokens of those.
    pub cached_input_tokens: u64,
    /// Tokens.
    pub output_tokens: u64,
    /// Units.
    pub units: u64,
    /// Units of the latest count among them.
    pub counted: QuotaCount,
}

/// The columns of [`Total`], the count's apart.
pub(super) const TOTALS: &str = "requests, input_tokens, cached_input_tokens, output_tokens, units";

impl Total {
    /// Adds what another comes to.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.units = self.units.saturating_add(other.units);
        self.counted.add(other.counted);
    }

    /// Of one record.
    pub(super) fn of(record: &Record<'_>) -> Self {
        let [_, _, _, _, units, output, input, _, cached_input, .., since_day, _, requests] = record.numbers;
        // What does not fit is of no day that there is, and of no count.
        let since_day = i32::try_from(since_day).unwrap_or(QuotaCount::NEVER);
        let units = integer::read(units);
        Self {
            requests: integer::read(requests),
            input_tokens: integer::read(input),
            cached_input_tokens: integer::read(cached_input),
            output_tokens: integer::read(output),
            units,
            counted: QuotaCount { used: units, since_day, touched_day: QuotaCount::NEVER },
        }
    }

    /// From a row: [`TOTALS`] from `from` on, then the count's units and day.
    ///
    /// # Errors
    /// A column holds what it should not.
    pub(super) fn read(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Self> {
        let number = |at: usize| row.get(from + at).map(integer::read);
        Ok(Self {
            requests: number(0)?,
            input_tokens: number(1)?,
            cached_input_tokens: number(2)?,
            output_tokens: number(3)?,
            units: number(4)?,
            counted: QuotaCount { used: number(5)?, since_day: row.get(from + 6)?, touched_day: QuotaCount::NEVER },
        })
    }
}

/// Tidies a bounded part of it away, and says how much that was.
///
/// # Errors
/// The store cannot be read or written.
pub(super) fn tidy(connection: &Connection, now_ms: i64, records_before_ms: i64) -> Result<usize, StoreFault> {
    let forgotten = connection
        .prepare_cached(
            "DELETE FROM remembered WHERE (operator, key) IN \
            (SELECT operator, key FROM remembered WHERE until_ms <= ?1 LIMIT ?2)",
        )?
        .execute(params![now_ms, MOST])?;
    Ok(forgotten + carry(connection, records_before_ms)?)
}

/// Folds the oldest records into their keys' sums, those that have a row of their own first: they are from before all others.
fn carry(connection: &Connection, before_ms: i64) -> Result<usize, StoreFault> {
    let mut totals = HashMap::<i64, Total>::default();
    let mut carried = take_rows(connection, before_ms, &mut totals)?;
    carried += records::take_packed(connection, before_ms, MOST as usize - carried, |record| {
        totals.entry(record.key()).or_default().add(&Total::of(record));
    })?;
    for (key, total) in totals {
        write(connection, key, total)?;
    }
    Ok(carried)
}

/// The same of those that version 1 wrote.
fn take_rows(connection: &Connection, before_ms: i64, totals: &mut HashMap<i64, Total>) -> Result<usize, StoreFault> {
    let sql = format!(
        "DELETE FROM records WHERE number IN (SELECT number FROM records WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2) \
        RETURNING key_number, {TOTALS}, units, since_day"
    );
    let mut carried = 0;
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![before_ms, MOST])?;
    while let Some(row) = rows.next()? {
        totals.entry(row.get(0)?).or_default().add(&Total::read(row, 1)?);
        carried += 1;
    }
    Ok(carried)
}

fn write(connection: &Connection, key: i64, mut total: Total) -> Result<(), StoreFault> {
    let sql = format!("SELECT {TOTALS}, used, since_day FROM carried WHERE key_number = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([key], |row| Total::read(row, 0)).optional()?;
    if let Some(found) = found {
        total.add(&found);
    }
    let sql =
        format!("REPLACE INTO carried (key_number, {TOTALS}, used, since_day) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    connection.prepare_cached(&sql)?.execute(params![
        key,
        integer::kept(total.requests),
        integer::kept(total.input_tokens),
        integer::kept(total.cached_input_tokens),
        integer::kept(total.output_tokens),
        integer::kept(total.units),
        integer::kept(total.counted.used),
        total.counted.since_day,
    ])?;
    Ok(())
}
