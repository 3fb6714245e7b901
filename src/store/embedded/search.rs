//! A page of keys that are searched for by more than their owner.
//!
//! Either there is an index that leaves few keys (their owner's, or the one of secrets), and only their blocks are read, or all blocks are, from
//! the last to the first: some milliseconds for a million keys, whatever is asked for. See [`sheet`](super::sheet).

mod picked;

use std::collections::BTreeMap;

use rusqlite::{CachedStatement, Connection, Row, ToSql, params, params_from_iter};

use crate::store::embedded::listing::{self, Conditions};
use crate::store::embedded::row;
use crate::store::embedded::sheet::marks::Marks;
use crate::store::embedded::sheet::texts::Sought;
use crate::store::embedded::sheet::{self, Column};
use crate::store::{KeyFilter, KeyPage, KeyRef, Order, PageFrom, StoreFault};
use crate::units::KeyDigest;
use picked::Picked;

/// Owners of so many keys have them looked up one by one; with more, all blocks are soon read.
const FEW: i64 = 2_000;

/// Whether a filter asks for more than an owner.
pub(super) fn is_for(filter: &KeyFilter) -> bool {
    let KeyFilter { org_id: _, team_id: _, name_contains, name_like, prefix, secret, model, is_sandbox, status } =
        filter;
    let texts = [name_contains, name_like, prefix, model];
    texts.iter().any(|text| text.is_some()) || secret.is_some() || is_sandbox.is_some() || status.is_some()
}

/// A page of those that a filter lets through.
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
    let mut picked = Picked::new(connection, order, from, limit)?;
    let candidates = candidates(connection, filter)?;
    let are_owned = candidates.as_ref().is_some_and(|candidates| candidates.are_owned);
    let search = Search::new(connection, filter, are_owned)?;
    let mut statement = search.statement(candidates.is_some())?;
    let mut total = 0;
    let mut look = |row: &Row<'_>, among: u128| {
        let found = search.find(row, among)?;
        total += u64::from(found.count_ones());
        if found != 0 { picked.add(row.get(0)?, found, (row.get(1)?, row.get(2)?)) } else { Ok(()) }
    };
    match candidates {
        Some(candidates) => {
            for (block, among) in candidates.places.iter().rev() {
                let mut rows = statement.query([block])?;
                while let Some(row) = rows.next()? {
                    look(row, *among)?;
                }
            }
        }
        None => {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                look(row, u128::MAX)?;
            }
        }
    }
    let mut keys = Vec::new();
    for number in picked.into_numbers() {
        keys.push(listing::find(connection, KeyRef::Number(number))?.ok_or_else(sheet::damaged)?);
    }
    Ok(KeyPage { keys, total })
}

/// Where the keys are that may be on a page.
struct Candidates {
    /// By block.
    places: BTreeMap<i64, u128>,
    /// Whether none of another owner is among them.
    are_owned: bool,
}

/// The keys that an index leaves, removed ones too; `None` when there is none that leaves few.
fn candidates(connection: &Connection, filter: &KeyFilter) -> Result<Option<Candidates>, StoreFault> {
    let (sql, value): (_, &dyn ToSql) = match (&filter.secret, &filter.team_id, &filter.org_id) {
        (Some(KeyDigest(digest)), ..) => (
            "SELECT number FROM keys WHERE current = ?1 UNION ALL SELECT key_number FROM old_secrets WHERE digest = ?1 LIMIT ?2",
            digest,
        ),
        (None, Some(team_id), _) => ("SELECT number FROM keys WHERE team_id = ?1 LIMIT ?2", team_id),
        (None, None, Some(org_id)) => ("SELECT number FROM keys WHERE org_id = ?1 LIMIT ?2", org_id),
        (None, None, None) => return Ok(None),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![value, FEW + 1])?;
    let (mut places, mut count) = (BTreeMap::new(), 0);
    while let Some(row) = rows.next()? {
        let (block, place) = sheet::place(row.get(0)?);
        *places.entry(block).or_default() |= 1 << place;
        count += 1;
    }
    let are_owned = filter.secret.is_none() && (filter.org_id.is_none() || filter.team_id.is_none());
    Ok((count <= FEW).then_some(Candidates { places, are_owned }))
}

/// What is looked for in each block.
struct Search<'a> {
    connection: &'a Connection,
    filter: &'a KeyFilter,
    owners: Option<Numbers>,
    lists: Option<Numbers>,
    names: Vec<Sought>,
    prefix: Option<Sought>,
}

/// Where the columns stand in a row, after the block, its ages and its marks.
const COLUMNS: [Column; 4] = [Column::Owners, Column::Lists, Column::Names, Column::Prefixes];
const MARKS: usize = 3;

impl<'a> Search<'a> {
    /// For a filter; `are_owned` when only keys of the right owner are looked at.
    fn new(connection: &'a Connection, filter: &'a KeyFilter, are_owned: bool) -> Result<Self, StoreFault> {
        let by_owner = !are_owned && (filter.org_id.is_some() || filter.team_id.is_some());
        let contains = filter.name_contains.iter().map(|part| Sought::part(&part.to_lowercase()));
        let like = filter.name_like.iter().map(|pattern| Sought::like(&pattern.to_lowercase()));
        Ok(Self {
            connection,
            filter,
            owners: by_owner.then(|| owners(connection, filter)).transpose()?,
            lists: filter.model.as_deref().map(|model| lists(connection, model)).transpose()?,
            names: contains.chain(like).collect(),
            prefix: filter.prefix.as_deref().map(Sought::beginning),
        })
    }

    /// What reads the blocks, the last first, or one of them, with the columns that are needed.
    fn statement(&self, of_one: bool) -> Result<CachedStatement<'a>, StoreFault> {
        let is_needed = [self.owners.is_some(), self.lists.is_some(), !self.names.is_empty(), self.prefix.is_some()];
        let (mut columns, mut joins) = (String::new(), String::new());
        for (column, is_needed) in COLUMNS.into_iter().zip(is_needed) {
            let table = column.table();
            if is_needed {
                columns.push_str(&format!(", {table}.data"));
                joins.push_str(&format!(" CROSS JOIN {table} ON {table}.block = m.block"));
            } else {
                columns.push_str(", NULL");
            }
        }
        let which = if of_one { "WHERE m.block = ?1" } else { "ORDER BY m.block DESC" };
        let sql =
            format!("SELECT m.block, m.oldest_ms, m.newest_ms, m.data{columns} FROM block_marks m{joins} {which}");
        Ok(self.connection.prepare_cached(&sql)?)
    }

    /// Those of a block, among these, that the filter lets through.
    fn find(&self, row: &Row<'_>, among: u128) -> Result<u128, StoreFault> {
        let data = |at: usize| row.get_ref(MARKS + at)?.as_blob().map_err(|_| sheet::damaged());
        let marks = Marks::read(data(0)?).ok_or_else(sheet::damaged)?;
        let mut found = among & marks.live;
        if let Some(is_sandbox) = self.filter.is_sandbox {
            found &= if is_sandbox { marks.sandbox } else { !marks.sandbox };
        }
        if let Some(asked) = self.filter.status {
            found &= marks.of_status(asked);
        }
        for (at, numbers) in [(1, &self.owners), (2, &self.lists)] {
            if let Some(numbers) = numbers.as_ref().filter(|_| found != 0) {
                found &= numbers.which(data(at)?);
            }
        }
        let names = self.names.iter().map(|sought| (3, sought));
        for (at, sought) in names.chain(self.prefix.iter().map(|sought| (4, sought))) {
            if found != 0 {
                found &= sought.which(data(at)?, found);
            }
        }
        Ok(found)
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Numbers(Vec<bool>);

impl Numbers {
    fn insert(&mut self, number: i64) -> Result<(), StoreFault> {
        let at = usize::try_from(number).map_err(|_| sheet::damaged())?;
        if at >= self.0.len() {
            self.0.resize(at + 1, false);
        }
        self.0[at] = true;
        Ok(())
    }

    /// The keys whose numbers are in it.
    fn which(&self, data: &[u8]) -> u128 {
        let mut found = 0;
        for (place, number) in data.as_chunks().0.iter().take(sheet::PLACES as usize).enumerate() {
            let is_in = self.0.get(u32::from_le_bytes(*number) as usize).is_some_and(|is_in| *is_in);
            found |= u128::from(is_in) << place;
        }
        found
    }
}

/// Of the owners asked for.
fn owners(connection: &Connection, filter: &KeyFilter) -> Result<Numbers, StoreFault> {
    let Conditions { sql, values } = Conditions::of_owner(filter);
    let mut statement = connection.prepare_cached(&format!("SELECT number FROM owners WHERE live > 0{sql}"))?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut numbers = Numbers::default();
    while let Some(row) = rows.next()? {
        numbers.insert(row.get(0)?)?;
    }
    Ok(numbers)
}

/// Of the lists that allow a model. A key without a list may ask for any.
fn lists(connection: &Connection, model: &str) -> Result<Numbers, StoreFault> {
    let mut statement = connection.prepare_cached("SELECT number, models FROM model_lists WHERE live > 0")?;
    let mut rows = statement.query([])?;
    let mut numbers = Numbers(vec![true]);
    while let Some(found) = rows.next()? {
        if row::models(Some(found.get_ref(1)?.as_str().map_err(|_| sheet::damaged())?))?.allows(model) {
            numbers.insert(found.get(0)?)?;
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_in_order_and_nothing_is_sorted() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema/1.sql")).unwrap();
        let text = || Some("x".into());
        let filter = KeyFilter { name_contains: text(), prefix: text(), model: text(), ..KeyFilter::default() };
        let search = Search::new(&connection, &filter, false).unwrap();
        let plan = |of_one| {
            let statement = search.statement(of_one).unwrap();
            let sql = format!("EXPLAIN QUERY PLAN {}", statement.expanded_sql().unwrap());
            let mut statement = connection.prepare(&sql).unwrap();
            let steps = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
            steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
        };
        let joined = ["lists", "names", "prefixes"]
            .map(|table| format!("; SEARCH block_{table} USING INTEGER PRIMARY KEY (rowid=?)"));
        assert_eq!(plan(false), format!("SCAN m{}", joined.concat()));
        assert_eq!(plan(true), format!("SEARCH m USING INTEGER PRIMARY KEY (rowid=?){}", joined.concat()));
    }

    #[test]
    fn keys_of_an_owner_are_found_without_looking_at_their_rows() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema/1.sql")).unwrap();
        for owner in ["org", "team"] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT number FROM keys WHERE {owner}_id = 'x' LIMIT 5");
            let plan: String = connection.query_row(&sql, [], |row| row.get(3)).unwrap();
            assert_eq!(plan, format!("SEARCH keys USING COVERING INDEX keys_by_{owner} ({owner}_id=?)"));
        }
    }

    #[test]
    fn a_set_of_numbers_finds_its_own() {
        let mut numbers = Numbers::default();
        numbers.insert(3).unwrap();
        numbers.insert(0).unwrap();
        let data = [3_u32, 2, 0, 4, u32::MAX, 3].map(u32::to_le_bytes).concat();
        assert_eq!(numbers.which(&data), 0b100101);
        assert!(numbers.insert(-1).is_err());
    }
}
