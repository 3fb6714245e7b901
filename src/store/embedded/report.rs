//! Usage, summed up from the sums of hours.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use uuid::Uuid;

use crate::store::embedded::fold::{MS_PER_HOUR, SUMS, Sums};
use crate::store::embedded::histogram::Histogram;
use crate::store::embedded::integer;
use crate::store::{GroupBy, StoreFault, UsageQuery, UsageRow};

const SECONDS_PER_HOUR: i64 = 3_600;

/// The sums asked for.
///
/// # Errors
/// The store cannot be read.
pub(super) fn report(connection: &Connection, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreFault> {
    let mut sheet = Sheet { connection, group_by: query.group_by, groups: HashMap::new(), sums: BTreeMap::new() };
    if query.group_by == GroupBy::Total {
        // A total of nothing is a row too.
        sheet.sum(0)?;
    }
    let (condition, values) = condition(query);
    let group = column(query.group_by);
    let sql = format!("SELECT {group}, {SUMS} FROM hourly h WHERE {condition}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&values))?;
    while let Some(row) = rows.next()? {
        sheet.sum(row.get(0)?)?.sums.add_row(row, 1)?;
    }
    let sql = format!(
        "SELECT {group}, n.name, r.requests FROM hourly h JOIN refusals r ON r.hourly = h.number \
        JOIN names n ON n.number = r.reason WHERE {condition}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&values))?;
    while let Some(row) = rows.next()? {
        let refused = sheet.sum(row.get(0)?)?.refusals.entry(row.get(1)?).or_default();
        *refused = refused.saturating_add(integer::read(row.get(2)?));
    }
    Ok(sheet.sums.into_iter().map(|(group, sum)| sum.into_row(group)).collect())
}

/// The rows so far.
struct Sheet<'a> {
    connection: &'a Connection,
    group_by: GroupBy,
    /// The name of a group's number. Several numbers may have one name: an owner is an organisation and a team.
    groups: HashMap<i64, String>,
    sums: BTreeMap<String, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    name: Option<String>,
    sums: Sums,
    refusals: BTreeMap<String, u64>,
}

impl Sheet<'_> {
    fn sum(&mut self, number: i64) -> Result<&mut Sum, StoreFault> {
        if let Some(group) = self.groups.get(&number) {
            return Ok(self.sums.entry(group.clone()).or_default());
        }
        let (group, name) = self.name(number)?;
        self.groups.insert(number, group.clone());
        Ok(self.sums.entry(group).or_insert_with(|| Sum { name, ..Sum::default() }))
    }

    /// What a group is called, and the name beside it.
    fn name(&self, number: i64) -> Result<(String, Option<String>), StoreFault> {
        let text = |sql: &str| -> Result<String, StoreFault> {
            let found = self.connection.prepare_cached(sql)?.query_row([number], |row| row.get::<_, Option<String>>(0));
            Ok(found.optional()?.flatten().unwrap_or_default())
        };
        Ok(match self.group_by {
            GroupBy::Key => {
                let sql = "SELECT id, name FROM keys WHERE number = ?1";
                let read = |row: &rusqlite::Row<'_>| Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?));
                let (id, name) = self.connection.prepare_cached(sql)?.query_row([number], read)?;
                (id.to_string(), Some(name))
            }
            GroupBy::Model | GroupBy::Endpoint => (text("SELECT name FROM names WHERE number = ?1")?, None),
            GroupBy::Team => (text("SELECT team_id FROM owners WHERE number = ?1")?, None),
            GroupBy::Org => (text("SELECT org_id FROM owners WHERE number = ?1")?, None),
            GroupBy::Day => (moment(number.saturating_mul(24)).strftime("%Y-%m-%d").to_string(), None),
            GroupBy::Hour => (moment(number).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), None),
            GroupBy::Total => (String::new(), None),
        })
    }
}

impl Sum {
    fn into_row(self, group: String) -> UsageRow {
        let mut sums = self.sums;
        let ms = |histogram: &mut Histogram, percent| histogram.quantile(percent).map(|us| us / 1_000.0);
        UsageRow {
            group,
            name: self.name,
            requests: sums.requests,
            refusals: self.refusals.into_iter().collect(),
            errors: sums.errors,
            estimated: sums.estimated,
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            output_tokens: sums.output_tokens,
            units: sums.units,
            first_byte_p50_ms: ms(&mut sums.first_byte, 50),
            first_byte_p99_ms: ms(&mut sums.first_byte, 99),
            duration_p50_ms: ms(&mut sums.duration, 50),
            duration_p99_ms: ms(&mut sums.duration, 99),
        }
    }
}

/// The beginning of an hour; one beyond all calendars is the first or last moment they have.
fn moment(hour: i64) -> Timestamp {
    let end = if hour < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(hour.saturating_mul(SECONDS_PER_HOUR)).unwrap_or(end)
}

/// What tells one group from another: a number in each row of `hourly h`.
fn column(group_by: GroupBy) -> &'static str {
    match group_by {
        GroupBy::Key => "h.key_number",
        GroupBy::Model => "h.model",
        GroupBy::Team | GroupBy::Org => "h.owner",
        // Of integers, a quotient is rounded to zero, and hours before 1970 are below it.
        GroupBy::Day => "(h.hour - ((h.hour % 24) + 24) % 24) / 24",
        GroupBy::Hour => "h.hour",
        GroupBy::Endpoint => "h.endpoint",
        GroupBy::Total => "0",
    }
}

/// Which rows of `hourly h` are asked for.
fn condition(query: &UsageQuery) -> (String, Vec<Value>) {
    let until = query.to_ms.div_euclid(MS_PER_HOUR) + i64::from(query.to_ms.rem_euclid(MS_PER_HOUR) > 0);
    let mut values = vec![Value::Integer(query.from_ms.div_euclid(MS_PER_HOUR)), Value::Integer(until)];
    let mut sql = "h.hour >= ?1 AND h.hour < ?2".to_owned();
    let mut add = |condition: &str, value| {
        values.push(value);
        sql.push_str(&format!(" AND {condition}", condition = condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(key) = query.key {
        add("h.key_number = (SELECT number FROM keys WHERE id = ?)", Value::Blob(key.0.as_bytes().to_vec()));
    }
    if let Some(team_id) = &query.team_id {
        add("h.owner IN (SELECT number FROM owners WHERE team_id = ?)", Value::Text(team_id.to_string()));
    }
    if let Some(org_id) = &query.org_id {
        add("h.owner IN (SELECT number FROM owners WHERE org_id = ?)", Value::Text(org_id.to_string()));
    }
    (sql, values)
}
