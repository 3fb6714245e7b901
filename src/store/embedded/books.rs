//! The books, recomputed from the records: what is counted must be what was recorded.

use std::collections::BTreeMap;

use rusqlite::Connection;
use uuid::Uuid;

use crate::limits::QuotaCount;
use crate::store::embedded::tidy::{TOTALS, Total};
use crate::store::embedded::{records, row};
use crate::store::{Books, Mismatch, StoreFault};
use crate::units::KeyId;

/// What is known of one key from three sides.
#[derive(Debug, Default)]
struct Page {
    /// What its records and those folded away come to.
    recorded: Total,
    /// Units of its records and those folded away, of the count that its state stands at.
    of_count: u64,
    /// What its hours come to; their count is not known.
    hourly: Total,
    state: Option<QuotaCount>,
}

impl Page {
    /// Adds what was recorded.
    fn record(&mut self, total: &Total) {
        if self.state.is_some_and(|state| state.since_day == total.counted.since_day) {
            self.of_count = self.of_count.saturating_add(total.counted.used);
        }
        self.recorded.add(total);
    }
}

/// Recomputes them.
///
/// # Errors
/// The store cannot be read.
pub(super) fn recompute(connection: &Connection) -> Result<Books, StoreFault> {
    let mut pages = BTreeMap::<i64, Page>::new();
    read_states(connection, &mut pages)?;
    let mut records =
        sum(connection, &mut pages, &format!("SELECT key_number, {TOTALS}, units, since_day FROM records"))?;
    records::each_packed(connection, |record| {
        records += 1;
        pages.entry(record.key()).or_default().record(&Total::of(record));
    })?;
    sum(connection, &mut pages, &format!("SELECT key_number, {TOTALS}, used, since_day FROM carried"))?;
    let sql = "SELECT key_number, recorded, input_tokens, cached_input_tokens, output_tokens, units, 0, -2147483648 FROM hourly";
    each(connection, sql, |key, total| pages.entry(key).or_default().hourly.add(&total))?;
    let mut books = Books { records, ..Books::default() };
    for (number, page) in pages {
        let id: [u8; 16] = connection
            .prepare_cached("SELECT id FROM keys WHERE number = ?1")?
            .query_row([number], |row| row.get(0))?;
        balance(&mut books, KeyId(Uuid::from_bytes(id)), &page);
    }
    Ok(books)
}

fn balance(books: &mut Books, key: KeyId, page: &Page) {
    let state = page.state.unwrap_or_default();
    if page.state.is_some() {
        books.keys += 1;
        books.counts.push((key, state));
    }
    books.requests = books.requests.saturating_add(page.recorded.requests);
    books.units = books.units.saturating_add(page.recorded.units);
    let since = |count: &QuotaCount| u64::try_from(i64::from(count.since_day) - i64::from(i32::MIN)).unwrap_or(0);
    let (recorded, hourly) = (&page.recorded, &page.hourly);
    let latest = since(&recorded.counted).max(since(&state));
    let compared = [
        ("quota_used against the sum of its records", state.used, page.of_count),
        ("the beginning of the count against the latest of its records", since(&state), latest),
        ("requests by the hour against the sum of its records", hourly.requests, recorded.requests),
        ("units by the hour against the sum of its records", hourly.units, recorded.units),
        ("input tokens by the hour against the sum of its records", hourly.input_tokens, recorded.input_tokens),
        (
            "cached input tokens by the hour against the sum of its records",
            hourly.cached_input_tokens,
            recorded.cached_input_tokens,
        ),
        ("output tokens by the hour against the sum of its records", hourly.output_tokens, recorded.output_tokens),
    ];
    for (what, counted, summed) in compared.into_iter().filter(|(_, counted, summed)| counted != summed) {
        books.mismatches.push(Mismatch { key: Some(key), what, counted, summed });
    }
}

fn read_states(connection: &Connection, pages: &mut BTreeMap<i64, Page>) -> Result<(), StoreFault> {
    let mut statement =
        connection.prepare("SELECT key_number, used, since_day, touched_day, last_used_ms FROM states")?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        pages.entry(found.get(0)?).or_default().state = Some(row::state(found, 1)?.counted);
    }
    Ok(())
}

/// Adds rows up by key, those of the count that is in force apart, and says how many there were.
fn sum(connection: &Connection, pages: &mut BTreeMap<i64, Page>, sql: &str) -> Result<u64, StoreFault> {
    each(connection, sql, |key, total| pages.entry(key).or_default().record(&total))
}

fn each(connection: &Connection, sql: &str, mut add: impl FnMut(i64, Total)) -> Result<u64, StoreFault> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        add(row.get(0)?, Total::read(row, 1)?);
        count += 1;
    }
    Ok(count)
}
