//! A store whose calls fail when they are told to: the nth of them, before or after it took effect.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use keyward::store::{
    AuditPage, AuditQuery, Books, Entry, KeyFilter, KeyPage, KeyRef, KeyState, Order, PageFrom, RememberedAnswer,
    Store, StoreFault, StoredKey, StoredOperator, UsageQuery, UsageRow, Write, Written,
};
use keyward::units::KeyId;

/// Whether a call that fails has done what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has not.
    Before,
    /// It has, and whoever asked is not told: what a store at the other end of a cut line does. One in a file never does.
    After,
}

/// What is to go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    /// Calls numbered from here...
    from: u64,
    /// ... to here fail; the end is not among them.
    to: u64,
    moment: Moment,
    fault: StoreFault,
}

/// A store that fails as it is told, and is the inner one otherwise.
#[derive(Debug)]
pub struct FailingStore<S> {
    inner: S,
    calls: AtomicU64,
    plan: Mutex<Option<Plan>>,
}

impl<S: Store> FailingStore<S> {
    /// One that does not fail yet.
    pub fn new(inner: S) -> Self {
        Self { inner, calls: AtomicU64::new(0), plan: Mutex::new(None) }
    }

    /// The store that is asked.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Calls so far, those that failed among them.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Lets the `nth` call from now on fail (1 is the next), and no other.
    pub fn fail_nth(&self, nth: u64, moment: Moment, fault: StoreFault) {
        let from = self.calls() + nth;
        self.set(Some(Plan { from, to: from + 1, moment, fault }));
    }

    /// Lets every call fail until [`FailingStore::recover`].
    pub fn fail_all(&self, fault: StoreFault) {
        self.set(Some(Plan { from: 0, to: u64::MAX, moment: Moment::Before, fault }));
    }

    /// Nothing fails any more.
    pub fn recover(&self) {
        self.set(None);
    }

    fn set(&self, plan: Option<Plan>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    fn call<T>(&self, ask: impl FnOnce(&S) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match plan.filter(|plan| (plan.from..plan.to).contains(&number)) {
            None => ask(&self.inner),
            Some(Plan { moment: Moment::Before, fault, .. }) => Err(fault),
            Some(Plan { moment: Moment::After, fault, .. }) => ask(&self.inner).and(Err(fault)),
        }
    }
}

impl<S: Store> Store for FailingStore<S> {
    fn load_keys(&self, each: &mut dyn FnMut(StoredKey)) -> Result<(), StoreFault> {
        self.call(|inner| inner.load_keys(each))
    }

    fn load_states(&self, each: &mut dyn FnMut(KeyId, KeyState)) -> Result<(), StoreFault> {
        self.call(|inner| inner.load_states(each))
    }

    fn write(&self, write: Write) -> Result<Written, StoreFault> {
        self.call(|inner| inner.write(write))
    }

    fn key(&self, key: KeyRef) -> Result<Option<(StoredKey, KeyState)>, StoreFault> {
        self.call(|inner| inner.key(key))
    }

    fn keys(&self, filter: &KeyFilter, order: Order, from: PageFrom, limit: usize) -> Result<KeyPage, StoreFault> {
        self.call(|inner| inner.keys(filter, order, from, limit))
    }

    fn has_org(&self, org_id: &str) -> Result<bool, StoreFault> {
        self.call(|inner| inner.has_org(org_id))
    }

    fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreFault> {
        self.call(|inner| inner.usage(query))
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreFault> {
        self.call(|inner| inner.audit(query))
    }

    fn remembered(&self, operator: &str, key: &str, now_ms: i64) -> Result<Option<RememberedAnswer>, StoreFault> {
        self.call(|inner| inner.remembered(operator, key, now_ms))
    }

    fn pepper_mark(&self) -> Result<Option<[u8; 32]>, StoreFault> {
        self.call(S::pepper_mark)
    }

    fn operators(&self) -> Result<Vec<StoredOperator>, StoreFault> {
        self.call(S::operators)
    }

    fn drained(&self) -> Result<Vec<(uuid::Uuid, u64)>, StoreFault> {
        self.call(S::drained)
    }

    fn records(
        &self,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        self.call(|store| store.records(from_ms, to_ms, each))
    }

    fn books(&self) -> Result<Books, StoreFault> {
        self.call(S::books)
    }

    fn back_up(&self, to: &Path) -> Result<(), StoreFault> {
        self.call(|inner| inner.back_up(to))
    }
}
