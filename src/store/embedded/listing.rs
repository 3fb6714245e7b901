//! Keys, read one at a time, all of them, or a page of those that a filter lets through.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use uuid::Uuid;

use crate::limits::quota::period;
use crate::policy::{KeyStatus, QuotaReset};
use crate::store::embedded::row::{self, COLUMNS, Reader};
use crate::store::{
    KeyFilter, KeyPage, KeyRef, KeyState, Order, PageFrom, SecretUse, StatusFilter, StoreFault, StoredKey,
};
use crate::units::{KeyDigest, KeyId};

const FROM: &str = "FROM keys k LEFT JOIN states s ON s.key_number = k.number WHERE k.removed_at_ms IS NULL";

/// The same in the order of the rows: without it SQLite likes to go by an index and to look each row up, which takes ten times
/// as long where most rows are looked at.
const FROM_ALL: &str =
    "FROM keys k NOT INDEXED LEFT JOIN states s ON s.key_number = k.number WHERE k.removed_at_ms IS NULL";

/// Up to so many keys are found first and ordered then; of more, a page is found soon by going through all in order.
const FEW: u64 = 10_000;

/// A shorter prefix is common to too many keys for its index to help: all of ours begin with the same six characters.
const TELLING_PREFIX: usize = 8;

/// No longer pattern can be asked for: SQLite refuses some, and no name is that long.
const LONGEST_PATTERN: usize = 4_096;

/// Every key.
///
/// # Errors
/// The store cannot be read.
pub(super) fn load(connection: &Connection, each: &mut dyn FnMut(StoredKey)) -> Result<(), StoreFault> {
    let reader = Reader::new(connection);
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} {FROM}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(reader.key(row)?.0);
    }
    Ok(())
}

/// What is counted of every key.
///
/// # Errors
/// The store cannot be read.
pub(super) fn load_states(connection: &Connection, each: &mut dyn FnMut(KeyId, KeyState)) -> Result<(), StoreFault> {
    let mut statement = connection.prepare(
        "SELECT k.id, s.used, s.since_day, s.touched_day, s.last_used_ms, k.number, k.old_secrets \
        FROM states s JOIN keys k ON k.number = s.key_number",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut state = row::state(row, 1)?;
        if row.get::<_, i64>(6)? > 0 {
            state.old_secrets = old_secrets(connection, row.get(5)?)?;
        }
        each(KeyId(Uuid::from_bytes(row.get(0)?)), state);
    }
    Ok(())
}

fn old_secrets(connection: &Connection, number: i64) -> Result<Vec<SecretUse>, StoreFault> {
    let sql = "SELECT digest, uses, last_used_ms FROM old_secrets WHERE key_number = ?1 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([number])?;
    let mut uses = Vec::new();
    while let Some(row) = rows.next()? {
        uses.push(row::secret_use(row)?);
    }
    Ok(uses)
}

/// One key.
///
/// # Errors
/// The store cannot be read.
pub(super) fn find(connection: &Connection, key: KeyRef) -> Result<Option<(StoredKey, KeyState)>, StoreFault> {
    let (condition, value) = match key {
        KeyRef::Id(id) => ("k.id", Value::Blob(id.0.as_bytes().to_vec())),
        KeyRef::Number(number) => ("k.number", Value::Integer(number)),
    };
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} {FROM} AND {condition} = ?1"))?;
    let mut rows = statement.query([value])?;
    rows.next()?.map(|row| Reader::new(connection).key(row)).transpose()
}

/// Whether any key has this organisation, removed ones included.
///
/// # Errors
/// The store cannot be read.
pub(super) fn has_org(connection: &Connection, org_id: &str) -> Result<bool, StoreFault> {
    Ok(connection.prepare_cached("SELECT 1 FROM keys WHERE org_id = ?1 LIMIT 1")?.exists([org_id])?)
}

/// A page of keys.
///
/// # Errors
/// The store cannot be read.
pub(super) fn page(
    connection: &Connection,
    filter: &KeyFilter,
    order: Order,
    from: PageFrom,
    limit: usize,
) -> Result<KeyPage, StoreFault> {
    let total = total(connection, filter)?;
    let search = Search::of(filter);
    let (source, mut conditions) = match search {
        Search::All if total <= FEW => (FROM_ALL, Conditions::of(filter, false)),
        Search::Names if total <= FEW => (FROM, Conditions::by_name(filter)),
        Search::Prefix if total <= FEW => (FROM, Conditions::of(filter, false)),
        _ => (FROM, Conditions::of(filter, true)),
    };
    let order_by = match order {
        Order::NewestFirst => "k.created_at_ms DESC, k.number DESC",
        Order::NumberDescending => "k.number DESC",
    };
    let mut offset = 0;
    match (from, order) {
        (PageFrom::Offset(after), _) => offset = i64::try_from(after).unwrap_or(i64::MAX),
        (PageFrom::After { created_at_ms, number }, Order::NewestFirst) => {
            let (created, number) = (conditions.bind(created_at_ms), conditions.bind(number));
            conditions.push(format!("(k.created_at_ms, k.number) < ({created}, {number})"));
        }
        (PageFrom::After { number, .. }, Order::NumberDescending) => {
            let number = conditions.bind(number);
            conditions.push(format!("k.number < {number}"));
        }
    }
    let limit = conditions.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let offset = conditions.bind(offset);
    let (conditions, values) = (conditions.sql, conditions.values);
    let sql = format!("SELECT {COLUMNS} {source}{conditions} ORDER BY {order_by} LIMIT {limit} OFFSET {offset}");
    let reader = Reader::new(connection);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(reader.key(row)?);
    }
    Ok(KeyPage { keys, total })
}

/// How many keys the filter lets through.
fn total(connection: &Connection, filter: &KeyFilter) -> Result<u64, StoreFault> {
    let (sql, values) = count(filter);
    let total: i64 = connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(u64::try_from(total).unwrap_or(0))
}

/// How they are counted. Those of an owner are counted already.
fn count(filter: &KeyFilter) -> (String, Vec<Value>) {
    let search = Search::of(filter);
    if search == Search::Owner {
        let sql = "SELECT ifnull(sum(live), 0) FROM owners WHERE (?1 IS NULL OR org_id = ?1) AND (?2 IS NULL OR team_id = ?2)";
        let text =
            |wanted: &Option<Box<str>>| wanted.as_deref().map_or(Value::Null, |text| Value::Text(text.to_owned()));
        return (sql.to_owned(), vec![text(&filter.org_id), text(&filter.team_id)]);
    }
    let Conditions { sql, values } = Conditions::of(filter, false);
    let source = match search {
        Search::All => FROM_ALL,
        // Without the states, which SQLite would look up for each key, asked for or not.
        _ if filter.status.is_none() => "FROM keys k WHERE k.removed_at_ms IS NULL",
        _ => FROM,
    };
    (format!("SELECT count(*) {source}{sql}"), values)
}

/// How the keys of a filter are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Every key, or every one of an owner.
    Owner,
    /// By an index that leaves few.
    Index,
    /// By the index of prefixes, which may leave many.
    Prefix,
    /// Among the names, which stand in an index of their own.
    Names,
    /// Among all rows.
    All,
}

impl Search {
    fn of(filter: &KeyFilter) -> Self {
        let has_name = filter.name_contains.is_some() || filter.name_like.is_some();
        let has_more = filter.model.is_some() || filter.is_sandbox.is_some() || filter.status.is_some();
        let is_owned = filter.org_id.is_some() || filter.team_id.is_some();
        match (&filter.prefix, has_name, has_more) {
            _ if filter.secret.is_some() => Self::Index,
            (None, false, false) => Self::Owner,
            _ if is_owned => Self::Index,
            (Some(_), ..) => Self::Prefix,
            (None, true, false) => Self::Names,
            _ => Self::All,
        }
    }
}

/// Conditions in SQL, each with its values bound.
#[derive(Debug, Default)]
struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// Those of a filter; `is_ordered` when rows are wanted in an order of their own.
    fn of(filter: &KeyFilter, is_ordered: bool) -> Self {
        let mut all = Self::default();
        let exact = [("k.org_id", &filter.org_id), ("k.team_id", &filter.team_id)];
        for (column, wanted) in exact.into_iter().filter_map(|(column, wanted)| Some((column, wanted.as_ref()?))) {
            let value = all.bind(wanted.to_string());
            all.push(format!("{column} = {value}"));
        }
        if let Some(part) = &filter.name_contains {
            let value = all.bind(part.to_lowercase());
            all.push(format!("instr(k.name_folded, {value}) > 0"));
        }
        if let Some(pattern) = &filter.name_like {
            all.name_like(pattern);
        }
        if let Some(prefix) = &filter.prefix {
            all.prefix(prefix, is_ordered);
        }
        if let Some(KeyDigest(digest)) = filter.secret {
            let value = all.bind(digest.to_vec());
            let holders = format!(
                "SELECT number FROM keys WHERE current = {value} UNION ALL SELECT key_number FROM old_secrets WHERE digest = {value}"
            );
            all.push(format!("k.number IN ({holders})"));
        }
        if let Some(model) = &filter.model {
            let value = all.bind(model.to_string());
            all.push(format!("(k.models IS NULL OR allows_model(k.models, {value}))"));
        }
        if let Some(is_sandbox) = filter.is_sandbox {
            let value = all.bind(i64::from(is_sandbox));
            all.push(format!("k.is_sandbox = {value}"));
        }
        if let Some(status) = filter.status {
            all.status(status);
        }
        all
    }

    /// Those of a filter by name alone, the names found in their index first.
    fn by_name(filter: &KeyFilter) -> Self {
        let Self { sql, values } = Self::of(filter, false);
        let found = format!("SELECT k.number FROM keys k WHERE k.removed_at_ms IS NULL{sql}");
        Self { sql: format!(" AND k.number IN ({found})"), values }
    }

    fn push(&mut self, condition: String) {
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition);
    }

    /// The name of the parameter that has this value.
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    /// Only `%` is special; what SQL reads as more is taken as it is.
    fn name_like(&mut self, pattern: &str) {
        if pattern.len() > LONGEST_PATTERN {
            return self.push("0".to_owned());
        }
        let literal = pattern.to_lowercase().replace('\\', "\\\\").replace('_', "\\_");
        let value = self.bind(literal);
        self.push(format!("k.name_folded LIKE {value} ESCAPE '\\'"));
    }

    fn prefix(&mut self, prefix: &str, is_ordered: bool) {
        let value = self.bind(prefix.to_owned());
        let length = self.bind(i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX));
        self.push(format!("substr(k.key_prefix, 1, {length}) = {value}"));
        if !is_ordered || prefix.len() >= TELLING_PREFIX {
            self.push(format!("k.key_prefix >= {value}"));
            // The last character there is, so that every text that begins so is smaller.
            let end = self.bind(format!("{prefix}\u{10ffff}"));
            self.push(format!("k.key_prefix <= {end}"));
        }
    }

    /// As [`KeyStatus::of`] says.
    fn status(&mut self, StatusFilter { status, at_ms }: StatusFilter) {
        if status == KeyStatus::Disabled {
            return self.push("k.is_disabled".to_owned());
        }
        self.push("NOT k.is_disabled".to_owned());
        let at = self.bind(at_ms);
        let is_expired = format!("ifnull({at} >= k.expires_at_ms, 0)");
        if status == KeyStatus::Expired {
            return self.push(is_expired);
        }
        self.push(format!("NOT {is_expired}"));
        let is_spent = self.is_spent(at_ms);
        self.push(if status == KeyStatus::Exhausted { is_spent } else { format!("NOT {is_spent}") });
    }

    /// Whether the quota is spent; a period that is over counts as unused.
    fn is_spent(&mut self, at_ms: i64) -> String {
        let today = period::day_of(at_ms);
        let mut starts = String::new();
        for reset in QuotaReset::ALL {
            if let Some(start) = period::start_of(today, reset) {
                let start = self.bind(i64::from(start));
                starts.push_str(&format!(" WHEN '{}' THEN {start}", reset.as_str()));
            }
        }
        let is_over = format!("ifnull(CASE k.quota_reset{starts} END > ifnull(s.touched_day, -2147483648), 0)");
        let used = format!("CASE WHEN {is_over} THEN 0 ELSE ifnull(s.used, 0) END");
        // Numbers without a sign: one that seems negative is larger than all that do not.
        format!(
            "(CASE WHEN k.quota_limit IS NULL THEN 0 WHEN ({used} < 0) = (k.quota_limit < 0) THEN {used} >= k.quota_limit \
            ELSE {used} < 0 END)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(filter: &KeyFilter) -> String {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema/1.sql")).unwrap();
        let (sql, values) = count(filter);
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    }

    #[test]
    fn keys_are_counted_without_looking_at_their_rows() {
        let part = |text: &str| Some(text.into());
        let by_name = KeyFilter { name_contains: part("x"), name_like: part("%x%"), ..KeyFilter::default() };
        assert_eq!(plan(&by_name), "SCAN k USING COVERING INDEX keys_by_name");
        let by_prefix = KeyFilter { prefix: part("sk-"), ..KeyFilter::default() };
        assert_eq!(plan(&by_prefix), "SEARCH k USING COVERING INDEX keys_by_prefix (key_prefix>? AND key_prefix<?)");
        let of_all = KeyFilter { is_sandbox: Some(true), ..KeyFilter::default() };
        assert!(plan(&of_all).starts_with("SCAN k;") || plan(&of_all) == "SCAN k", "{}", plan(&of_all));
        assert_eq!(plan(&KeyFilter::default()), "SCAN owners");
    }
}
