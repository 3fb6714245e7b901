//! The single records of the ledger, read from the store while a program runs on it or not.

use std::ops::ControlFlow;

use crate::app::books::{Books, BooksFault};
use crate::ledger::Entry;
use crate::store::{self, Store};
use crate::units::KeyId;

/// Records of a page, or a few more: those of one millisecond stay together.
const PAGE: usize = 10_000;

/// Which records are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Settled not before, milliseconds since 1970.
    pub from_ms: i64,
    /// Settled before, milliseconds since 1970.
    pub to_ms: i64,
    /// Of this key alone.
    pub key: Option<KeyId>,
}

/// The store, opened to read its records.
#[derive(Debug)]
pub struct Reading {
    books: Books,
    /// Entries that were in journals and not in the store yet: of a running program, or left behind by a killed one.
    pub pending: u64,
}

impl Reading {
    /// Opens the store that the configuration names.
    ///
    /// # Errors
    /// There is no store, or it or its journals cannot be read.
    pub fn open(settings: &store::Settings) -> Result<Self, BooksFault> {
        let books = Books::existing(settings)?;
        // Before any record: what is drained meanwhile is then counted as pending once too often rather than missed.
        let pending = books.pending()?;
        Ok(Self { books, pending })
    }

    /// Gives id and name of every key to `each`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn each_key(&self, each: &mut dyn FnMut(KeyId, &str)) -> Result<(), BooksFault> {
        let mut look = |key: store::StoredKey| each(key.record.policy.id, &key.record.policy.name);
        self.books.store.load_keys(&mut look).map_err(|fault| self.books.fault(fault))
    }

    /// The records asked for, the oldest first. Each page is a reading of its own: whoever takes his time over one does not keep the store's log from
    /// being moved into its file meanwhile.
    pub fn pages(&self, asked: Asked) -> Pages<'_> {
        Pages { books: &self.books, asked }
    }
}

/// Records, page by page; none is empty.
#[derive(Debug)]
pub struct Pages<'a> {
    books: &'a Books,
    /// What is still to be read.
    asked: Asked,
}

impl Iterator for Pages<'_> {
    type Item = Result<Vec<Entry>, BooksFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let Asked { from_ms, to_ms, key } = self.asked;
        let (mut page, mut rest_ms) = (Vec::<Entry>::new(), to_ms);
        let mut take = |entry: Entry| {
            // Of one moment more may be written before the next page is read: a page ends between two.
            if page.len() >= PAGE && page.last().is_some_and(|last| last.at_unix_ms < entry.at_unix_ms) {
                rest_ms = entry.at_unix_ms;
                return ControlFlow::Break(());
            }
            if key.is_none_or(|key| key == entry.key) {
                page.push(entry);
            }
            ControlFlow::Continue(())
        };
        let read = self.books.store.records(from_ms, to_ms, &mut take);
        // After a fault there is nothing more.
        self.asked.from_ms = if read.is_ok() { rest_ms } else { to_ms };
        match read {
            Err(fault) => Some(Err(self.books.fault(fault))),
            Ok(()) => (!page.is_empty()).then_some(Ok(page)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::made::{drain, entry, id, slice};
    use crate::store::{Backend, PepperSource};

    #[test]
    fn pages_hold_every_record_once_in_the_order_of_their_times() {
        let folder = tempfile::tempdir().unwrap();
        let backend = Backend::Sqlite(folder.path().join("keyward.db"));
        let settings = store::Settings { backend, pepper: PepperSource::File(folder.path().join("pepper")) };
        let books = Books::open(&settings).unwrap();
        // More of one moment than a page has, and then one of another key for each that follows.
        let at = |n: u64| i64::try_from(n.saturating_sub(12_000)).unwrap();
        let made =
            |n: u64| Entry { request_id: n.to_string().into(), at_unix_ms: at(n), ..entry(id(1 + u128::from(n) % 2)) };
        for (journal, from) in (0..).zip((0..25_000).step_by(5_000)) {
            drain(&*books.store, vec![slice(journal, 1, &(from..from + 5_000).map(made).collect::<Vec<_>>())]);
        }
        let reading = Reading::open(&settings).unwrap();
        let read = |asked| {
            let pages = reading
                .pages(asked)
                .map(|page| page.unwrap().iter().map(|one| one.request_id.parse().unwrap()).collect());
            pages.collect::<Vec<Vec<u64>>>()
        };
        let everything = Asked { from_ms: i64::MIN, to_ms: i64::MAX, key: None };
        let pages = read(everything);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [12_001, 10_000, 2_999]);
        assert_eq!(pages.concat(), (0..25_000).collect::<Vec<_>>());
        let of_one = read(Asked { key: Some(id(2)), from_ms: 1, ..everything });
        assert_eq!(of_one.concat(), (12_001..25_000).step_by(2).collect::<Vec<_>>());
        assert!(
            read(Asked { key: Some(id(3)), ..everything }).is_empty()
                && read(Asked { to_ms: 0, ..everything }).is_empty()
        );
        assert_eq!(reading.pending, 0);
    }
}
