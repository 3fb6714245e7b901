//! The keys of a page, picked from all that were found: no more of them are kept than the page and those before it.

use rusqlite::{CachedStatement, Connection};

use crate::store::embedded::sheet::{self, Column};
use crate::store::{Order, PageFrom, StoreFault};

/// What a key is ordered by: its birth (0 where only the number counts) and its number.
type Rank = (i64, i64);

/// Beyond the page, so many may wait until the last of them are dropped.
const SLACK: usize = 1_024;

/// Those found so far, as far as they may be on the page.
pub(super) struct Picked<'a> {
    /// Reads the births of a block, where they count.
    births: Option<CachedStatement<'a>>,
    /// All on the page come after this.
    after: Option<Rank>,
    skipped: usize,
    /// How many are needed: the page and those before it.
    most: usize,
    found: Vec<Rank>,
    /// Once that many are found: what does not come before this is not on the page.
    floor: Option<Rank>,
}

impl<'a> Picked<'a> {
    /// None yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn new(
        connection: &'a Connection,
        order: Order,
        from: PageFrom,
        limit: usize,
    ) -> Result<Self, StoreFault> {
        let sql = format!("SELECT data FROM {} WHERE block = ?1", Column::Births.table());
        let births = match order {
            Order::NewestFirst => Some(connection.prepare_cached(&sql)?),
            Order::NumberDescending => None,
        };
        let (after, skipped) = match (from, order) {
            (PageFrom::Offset(after), _) => (None, usize::try_from(after).unwrap_or(usize::MAX)),
            (PageFrom::After { created_at_ms, number }, Order::NewestFirst) => (Some((created_at_ms, number)), 0),
            (PageFrom::After { number, .. }, Order::NumberDescending) => (Some((0, number)), 0),
        };
        let most = if limit == 0 { 0 } else { skipped.saturating_add(limit) };
        Ok(Self { births, after, skipped, most, found: Vec::new(), floor: None })
    }

    /// Adds those of a block whose births lie between `ages`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn add(&mut self, block: i64, mut keys: u128, ages: (i64, i64)) -> Result<(), StoreFault> {
        let ages = if self.births.is_some() { ages } else { (0, 0) };
        let (first, last) = (sheet::number(block, 0), sheet::number(block, sheet::PLACES - 1));
        if self.most == 0 || !self.is_open((ages.1, last)) || self.after.is_some_and(|after| (ages.0, first) >= after) {
            return Ok(());
        }
        let births: Option<Vec<u8>> =
            self.births.as_mut().map(|births| births.query_row([block], |row| row.get(0))).transpose()?;
        while keys != 0 {
            let place = u128::BITS - 1 - keys.leading_zeros();
            keys ^= 1 << place;
            let birth = match &births {
                Some(births) => *births.as_chunks().0.get(place as usize).ok_or_else(sheet::damaged)?,
                None => [0; 8],
            };
            let rank = (i64::from_le_bytes(birth), sheet::number(block, place));
            if self.is_open(rank) && self.after.is_none_or(|after| rank < after) {
                self.push(rank);
            }
        }
        Ok(())
    }

    /// Whether there is room for it on the page.
    fn is_open(&self, rank: Rank) -> bool {
        self.floor.is_none_or(|floor| rank > floor)
    }

    fn push(&mut self, rank: Rank) {
        self.found.push(rank);
        let slack = if self.floor.is_some() { self.most.max(SLACK) } else { 0 };
        if self.found.len() >= self.most.saturating_add(slack) {
            let (_, last, _) = self.found.select_nth_unstable_by(self.most - 1, |a, b| b.cmp(a));
            self.floor = Some(*last);
            self.found.truncate(self.most);
        }
    }

    /// The numbers of those on the page, in their order.
    pub(super) fn into_numbers(mut self) -> impl Iterator<Item = i64> {
        self.found.sort_unstable_by(|a, b| b.cmp(a));
        self.found.into_iter().take(self.most).skip(self.skipped).map(|(_, number)| number)
    }
}
