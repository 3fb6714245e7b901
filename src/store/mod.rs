//! What outlives the process: keys, what they used, who changed them. The data plane never waits for it.
//!
//! [`Store`] is the contract; [`embedded`] keeps it in a SQLite file. A second implementation is held to the same test-suite.

pub mod audit;
pub mod embedded;
pub mod entries;
pub mod fault;
pub(crate) mod frame;
pub mod key;
pub mod operator;
pub mod remembered;
pub mod settings;
pub mod switch;
pub mod usage;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

pub use audit::{AuditEntry, AuditPage, AuditQuery};
pub use entries::Entries;
pub use fault::StoreFault;
pub use key::{
    KeyDetails, KeyFilter, KeyPage, KeyRef, KeyState, Mask, NewApiFields, OldSecret, Order, PageFrom, SecretUse,
    StatusFilter, StoredChange, StoredKey,
};
pub use operator::StoredOperator;
pub use remembered::{Remembered, RememberedAnswer};
pub use settings::{Backend, PepperSource, Settings};
pub use switch::Switch;
pub use usage::{Books, Entry, GroupBy, JournalSlice, Mismatch, Outcome, UsageBatch, UsageQuery, UsageRow};

use crate::units::KeyId;

/// The contract of a store. Calls block until they are done, so they are made from threads that may wait; what a write
/// acknowledges is on disk (SECURITY 5: after the fsync, never before). Calls may come from any thread at once.
pub trait Store: Send + Sync + fmt::Debug {
    /// Gives every key that is not removed to `each`, in no order. What the start reads. `each` must not call the store.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load_keys(&self, each: &mut dyn FnMut(StoredKey)) -> Result<(), StoreFault>;

    /// Gives what is counted of every key that was ever used to `each`, removed ones included. `each` must not call the store.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load_states(&self, each: &mut dyn FnMut(KeyId, KeyState)) -> Result<(), StoreFault>;

    /// Makes all of `write` durable, or none of it. Writes that wait at the same time share one commit.
    ///
    /// # Errors
    /// Why nothing was written.
    fn write(&self, write: Write) -> Result<Written, StoreFault>;

    /// One key with what is counted of it; `None` when there is none or it is removed.
    ///
    /// # Errors
    /// The store cannot be read.
    fn key(&self, key: KeyRef) -> Result<Option<(StoredKey, KeyState)>, StoreFault>;

    /// A page of the keys that `filter` lets through, and how many those are.
    ///
    /// # Errors
    /// The store cannot be read.
    fn keys(&self, filter: &KeyFilter, order: Order, from: PageFrom, limit: usize) -> Result<KeyPage, StoreFault>;

    /// Whether any key, removed or not, has this `org_id`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn has_org(&self, org_id: &str) -> Result<bool, StoreFault>;

    /// What was used, summed up as `query` asks; the rows in the order of their group, days and hours ascending.
    ///
    /// # Errors
    /// The store cannot be read.
    fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreFault>;

    /// Who changed what, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreFault>;

    /// The answer given earlier to the same call, unless it is forgotten by `now_ms`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn remembered(&self, operator: &str, key: &str, now_ms: i64) -> Result<Option<RememberedAnswer>, StoreFault>;

    /// The operators whose tokens the program made itself.
    ///
    /// # Errors
    /// The store cannot be read.
    fn operators(&self) -> Result<Vec<StoredOperator>, StoreFault>;

    /// The mark of the pepper that the keys are kept under; `None` before the first was kept.
    ///
    /// # Errors
    /// The store cannot be read.
    fn pepper_mark(&self) -> Result<Option<[u8; 32]>, StoreFault>;

    /// The last sequence number drained of each journal that is known.
    ///
    /// # Errors
    /// The store cannot be read.
    fn drained(&self) -> Result<Vec<(uuid::Uuid, u64)>, StoreFault>;

    /// Gives the entry of every record settled from `from_ms` on and before `to_ms` to `each`, the oldest first, until it breaks off. `each`
    /// must not call the store.
    ///
    /// # Errors
    /// The store cannot be read.
    fn records(
        &self,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreFault>;

    /// Recomputes the books: for each key, what is counted as used in its period against the sum of its records, and the hourly
    /// sums against the records they were made from.
    ///
    /// # Errors
    /// The store cannot be read.
    fn books(&self) -> Result<Books, StoreFault>;

    /// Writes a copy, whole and consistent, to a new file, while the store is in use.
    ///
    /// # Errors
    /// The file is there already or cannot be written.
    fn back_up(&self, to: &Path) -> Result<(), StoreFault>;
}

/// Something to be made durable.
#[derive(Debug, Clone)]
pub enum Write {
    /// Changes to keys, with their entries in the audit and the answer to be remembered for them.
    Keys {
        /// All or none.
        changes: Vec<StoredChange>,
        /// Appended.
        audit: Vec<AuditEntry>,
        /// For a call that may be made again. One remembered earlier whose time is over by then gives up its place.
        remember: Option<Box<Remembered>>,
    },
    /// Settled requests.
    Usage(UsageBatch),
    /// An operator made by the program; one of the same name is replaced.
    Operator(StoredOperator),
    /// The mark of the pepper; the first is kept, and no other takes its place.
    PepperMark([u8; 32]),
    /// Forgets answers whose time is over by `now_ms`, and folds records older than `records_before_ms` away; at most some
    /// thousands of each in one call.
    Tidy {
        /// Now.
        now_ms: i64,
        /// Records settled before this are folded into their sums.
        records_before_ms: i64,
    },
}

/// What a write came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The changed keys' numbers, in the order of the changes; those of removed keys too.
    Keys(Vec<i64>),
    /// Entries that were new, not drained before.
    Usage(usize),
    /// Nothing more to say.
    Done,
    /// How much was tidied away; nonzero means that there may be more.
    Tidied(usize),
}

#[cfg(test)]
pub(crate) mod contract;
