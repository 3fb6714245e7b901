//! What keys are searched by, packed: 128 keys to a row, in the order of their numbers, each of the columns in a table of its own.
//!
//! A search reads those columns it needs of all keys in some milliseconds, whatever is asked for and however many keys it leaves. A change
//! of a key writes its block where it differs; most changes do not touch what is searched by.

pub(super) mod marks;
pub(super) mod texts;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::limits::QuotaCount;
use crate::policy::KeyPolicy;
use crate::store::StoreFault;
use crate::store::embedded::row;
use marks::{Marks, spent_until};

/// Keys of a block.
pub(super) const PLACES: u32 = u128::BITS;

/// A key's block, and its place in it.
pub(super) fn place(number: i64) -> (i64, u32) {
    let places = i64::from(PLACES);
    (number.div_euclid(places), number.rem_euclid(places).unsigned_abs() as u32)
}

/// The number of the key at a place.
pub(super) fn number(block: i64, place: u32) -> i64 {
    block * i64::from(PLACES) + i64::from(place)
}

/// A column of which a row holds the values of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// When they were made, milliseconds since 1970; 8 bytes each.
    Births,
    /// Numbers of owners; 4 bytes each.
    Owners,
    /// Numbers of lists of models, 0 for none; 4 bytes each.
    Lists,
    /// Names in lower case.
    Names,
    /// What is shown of the secret's beginning.
    Prefixes,
}

impl Column {
    /// Its table.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Births => "block_births",
            Self::Owners => "block_owners",
            Self::Lists => "block_lists",
            Self::Names => "block_names",
            Self::Prefixes => "block_prefixes",
        }
    }
}

/// What a key is searched by.
#[derive(Debug)]
pub(super) struct Facts {
    is_disabled: bool,
    is_sandbox: bool,
    expires_at_ms: Option<i64>,
    spent_until: Option<i32>,
    created_at_ms: i64,
    owner: i64,
    models: Option<String>,
    name: String,
    prefix: Box<str>,
}

impl Facts {
    /// Of a key and what is counted of it.
    pub(super) fn new(policy: &KeyPolicy, created_at_ms: i64, owner: i64, counted: QuotaCount) -> Self {
        Self {
            is_disabled: policy.is_disabled,
            is_sandbox: policy.is_sandbox,
            expires_at_ms: policy.expires_at_ms,
            spent_until: spent_until(policy.quota, counted),
            created_at_ms,
            owner,
            models: row::list(policy.models.patterns()),
            name: policy.name.to_lowercase(),
            prefix: policy.key_prefix.clone(),
        }
    }
}

/// What becomes of a key.
#[derive(Debug)]
pub(super) enum Edit {
    /// It is made or changed.
    Put(Facts),
    /// It is removed.
    Remove,
    /// Its quota counts as spent until this day, or not.
    Spend(Option<i32>),
}

/// What becomes of several, by block and in its order.
#[derive(Debug, Default)]
pub(super) struct Edits(BTreeMap<i64, Vec<(u32, Edit)>>);

impl Edits {
    /// Adds what becomes of one.
    pub(super) fn add(&mut self, key: i64, edit: Edit) {
        let (block, place) = place(key);
        self.0.entry(block).or_default().push((place, edit));
    }

    /// Writes it all.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), StoreFault> {
        for (block, edits) in &self.0 {
            Block { connection, number: *block, edits }.write()?;
        }
        Ok(())
    }
}

/// A block that is changed.
struct Block<'a> {
    connection: &'a Connection,
    number: i64,
    edits: &'a [(u32, Edit)],
}

impl Block<'_> {
    fn write(&self) -> Result<(), StoreFault> {
        let sql = "SELECT oldest_ms, newest_ms, data FROM block_marks WHERE block = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?));
        let before = self.connection.prepare_cached(sql)?.query_row([self.number], read).optional()?;
        let mut marks = match &before {
            Some((_, _, data)) => Marks::read(data).ok_or_else(damaged)?,
            None => Marks::default(),
        };
        self.mark(&mut marks);
        let mut ages: (i64, i64) = before.as_ref().map(|(oldest, newest, _)| (*oldest, *newest)).unwrap_or_default();
        if self.facts().next().is_some() {
            let births =
                self.numbers(Column::Births, self.facts().map(|(at, facts)| (at, facts.created_at_ms.to_le_bytes())))?;
            ages = bounds(&births, marks.live);
            let owners = self.facts().map(|(at, facts)| Ok((at, small(facts.owner)?.to_le_bytes())));
            self.numbers(Column::Owners, owners.collect::<Result<Vec<_>, StoreFault>>()?.into_iter())?;
            self.texts(Column::Names, |facts| &facts.name)?;
            self.texts(Column::Prefixes, |facts| &facts.prefix)?;
        }
        self.lists()?;
        let after = (ages.0, ages.1, marks.to_bytes());
        if before.as_ref() != Some(&after) {
            let sql = "REPLACE INTO block_marks (block, oldest_ms, newest_ms, data) VALUES (?1, ?2, ?3, ?4)";
            self.connection.prepare_cached(sql)?.execute(params![self.number, after.0, after.1, after.2])?;
        }
        Ok(())
    }

    fn facts(&self) -> impl Iterator<Item = (u32, &Facts)> {
        self.edits.iter().filter_map(|(place, edit)| match edit {
            Edit::Put(facts) => Some((*place, facts)),
            _ => None,
        })
    }

    fn mark(&self, marks: &mut Marks) {
        for (place, edit) in self.edits {
            match edit {
                Edit::Put(facts) => {
                    Marks::set(&mut marks.live, *place, true);
                    Marks::set(&mut marks.disabled, *place, facts.is_disabled);
                    Marks::set(&mut marks.sandbox, *place, facts.is_sandbox);
                    marks.ends.set(*place, facts.expires_at_ms);
                    marks.spent_until.set(*place, facts.spent_until);
                }
                Edit::Remove => Marks::set(&mut marks.live, *place, false),
                Edit::Spend(until) => marks.spent_until.set(*place, *until),
            }
        }
    }

    /// Sets numbers of one size, and gives those of the whole block.
    fn numbers<const SIZE: usize>(
        &self,
        column: Column,
        values: impl Iterator<Item = (u32, [u8; SIZE])>,
    ) -> Result<Vec<u8>, StoreFault> {
        let before = self.column(column)?;
        let mut after = before.clone();
        after.resize(PLACES as usize * SIZE, 0);
        for (place, value) in values {
            after.as_chunks_mut().0[place as usize] = value;
        }
        self.put(column, &before, &after)?;
        Ok(after)
    }

    fn texts(&self, column: Column, text: impl Fn(&Facts) -> &str) -> Result<(), StoreFault> {
        let before = self.column(column)?;
        let after = texts::replaced(&before, self.facts().map(|(place, facts)| (place, text(facts))));
        self.put(column, &before, &after)
    }

    /// Sets the numbers of lists, and counts for each how many keys have it.
    fn lists(&self) -> Result<(), StoreFault> {
        if self.edits.iter().all(|(_, edit)| matches!(edit, Edit::Spend(_))) {
            return Ok(());
        }
        let before = self.column(Column::Lists)?;
        let mut after = before.clone();
        after.resize(PLACES as usize * size_of::<u32>(), 0);
        let kept = after.as_chunks_mut().0;
        for (place, edit) in self.edits {
            let list = match edit {
                Edit::Put(Facts { models: Some(models), .. }) => list(self.connection, models)?,
                Edit::Put(_) | Edit::Remove => 0,
                Edit::Spend(_) => continue,
            };
            let kept = &mut kept[*place as usize];
            let replaced = u32::from_le_bytes(*kept);
            if replaced != list {
                count_live(self.connection, list, 1)?;
                count_live(self.connection, replaced, -1)?;
                *kept = list.to_le_bytes();
            }
        }
        self.put(Column::Lists, &before, &after)
    }

    /// A column as it is; empty when it is new.
    fn column(&self, column: Column) -> Result<Vec<u8>, StoreFault> {
        let sql = format!("SELECT data FROM {} WHERE block = ?1", column.table());
        let found = self.connection.prepare_cached(&sql)?.query_row([self.number], |row| row.get(0)).optional()?;
        Ok(found.unwrap_or_default())
    }

    fn put(&self, column: Column, before: &[u8], after: &[u8]) -> Result<(), StoreFault> {
        if before != after {
            let sql = format!("REPLACE INTO {} (block, data) VALUES (?1, ?2)", column.table());
            self.connection.prepare_cached(&sql)?.execute(params![self.number, after])?;
        }
        Ok(())
    }
}

/// The first and the last birth of those that live.
fn bounds(births: &[u8], live: u128) -> (i64, i64) {
    let births = births.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
    let living = (0_u32..).zip(births).filter(|(place, _)| live >> place & 1 == 1).map(|(_, birth)| birth);
    let (mut oldest, mut newest) = (i64::MAX, i64::MIN);
    for birth in living {
        (oldest, newest) = (oldest.min(birth), newest.max(birth));
    }
    (oldest, newest)
}

/// The number of a list of models; a new one is written.
fn list(connection: &Connection, models: &str) -> Result<u32, StoreFault> {
    let sql = "SELECT number FROM model_lists WHERE models = ?1";
    let found = connection.prepare_cached(sql)?.query_row([models], |row| row.get(0)).optional()?;
    let number = match found {
        Some(number) => number,
        None => {
            let sql = "REPLACE INTO model_lists (number, models, live) \
                VALUES ((SELECT number FROM model_lists WHERE live = 0 LIMIT 1), ?1, 0) RETURNING number";
            connection.prepare_cached(sql)?.query_row([models], |row| row.get(0))?
        }
    };
    small(number)
}

/// 0 is no list.
fn count_live(connection: &Connection, list: u32, by: i64) -> Result<(), StoreFault> {
    if list != 0 {
        let sql = "UPDATE model_lists SET live = live + ?2 WHERE number = ?1";
        connection.prepare_cached(sql)?.execute(params![list, by])?;
    }
    Ok(())
}

/// Owners and lists are numbered from 1 on, without large gaps.
fn small(number: i64) -> Result<u32, StoreFault> {
    u32::try_from(number).map_err(|_| StoreFault::Unavailable("four billion owners or lists of models".to_owned()))
}

/// What is said of a block that no program of ours writes.
pub(super) fn damaged() -> StoreFault {
    StoreFault::Damaged("a block of keys holds what none should".to_owned())
}
