//! Keys, read one at a time, all of them, or a page of those that a filter lets through.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use uuid::Uuid;

use crate::store::embedded::row::{self, COLUMNS, Reader};
use crate::store::embedded::search;
use crate::store::{KeyFilter, KeyPage, KeyRef, KeyState, Order, PageFrom, SecretUse, StoreFault, StoredKey};
use crate::units::KeyId;

const FROM: &str = "FROM keys k LEFT JOIN states s ON s.key_number = k.number WHERE k.removed_at_ms IS NULL";

/// To pass over more keys than this row by row takes longer than to read all blocks.
const FAR: u64 = 10_000;

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
    let is_far = matches!(from, PageFrom::Offset(after) if after > FAR);
    let find = if is_far || search::is_for(filter) { search::page } else { owned };
    find(connection, filter, order, from, limit)
}

/// A page of all keys, or of those of an owner: both are counted already, and stand in their order.
fn owned(
    connection: &Connection,
    filter: &KeyFilter,
    order: Order,
    from: PageFrom,
    limit: usize,
) -> Result<KeyPage, StoreFault> {
    let mut conditions = Conditions::of_owner(filter);
    let order_by = match order {
        Order::NewestFirst => "k.created_at_ms DESC, k.number DESC",
        Order::NumberDescending => "k.number DESC",
    };
    let mut offset = 0;
    match (from, order) {
        (PageFrom::Offset(after), _) => offset = i64::try_from(after).unwrap_or(i64::MAX),
        (PageFrom::After { created_at_ms, number }, Order::NewestFirst) => {
            let (created, number) = (conditions.bind(created_at_ms), conditions.bind(number));
            conditions.push(&format!("(k.created_at_ms, k.number) < ({created}, {number})"));
        }
        (PageFrom::After { number, .. }, Order::NumberDescending) => {
            let number = conditions.bind(number);
            conditions.push(&format!("k.number < {number}"));
        }
    }
    let limit = conditions.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let offset = conditions.bind(offset);
    let Conditions { sql, values } = conditions;
    let sql = format!("SELECT {COLUMNS} {FROM}{sql} ORDER BY {order_by} LIMIT {limit} OFFSET {offset}");
    let reader = Reader::new(connection);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(reader.key(row)?);
    }
    Ok(KeyPage { keys, total: count_owned(connection, filter)? })
}

/// How many keys the owners of a filter have.
fn count_owned(connection: &Connection, filter: &KeyFilter) -> Result<u64, StoreFault> {
    let sql =
        "SELECT ifnull(sum(live), 0) FROM owners WHERE (?1 IS NULL OR org_id = ?1) AND (?2 IS NULL OR team_id = ?2)";
    let total: i64 = connection
        .prepare_cached(sql)?
        .query_row([filter.org_id.as_deref(), filter.team_id.as_deref()], |row| row.get(0))?;
    Ok(u64::try_from(total).unwrap_or(0))
}

/// Conditions in SQL, each with its values bound.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// Each begins with AND.
    pub sql: String,
    /// Of its parameters.
    pub values: Vec<Value>,
}

impl Conditions {
    /// Those of a filter that say whose the keys are; in `keys` and in `owners` the columns have the same names.
    pub(super) fn of_owner(filter: &KeyFilter) -> Self {
        let mut all = Self::default();
        let exact = [("org_id", &filter.org_id), ("team_id", &filter.team_id)];
        for (column, wanted) in exact.into_iter().filter_map(|(column, wanted)| Some((column, wanted.as_ref()?))) {
            let value = all.bind(wanted.to_string());
            all.push(&format!("{column} = {value}"));
        }
        all
    }

    /// Adds one.
    fn push(&mut self, condition: &str) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
    }

    /// The name of the parameter that has this value.
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }
}
