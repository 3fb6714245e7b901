//! A store that does with a write what a test wants, and lets everything else pass.

use std::ops::ControlFlow;
use std::sync::Arc;

use uuid::Uuid;

use crate::store::embedded::Embedded;
use crate::store::{
    AuditPage, AuditQuery, Books, Entry, KeyFilter, KeyPage, KeyRef, KeyState, Order, PageFrom, RememberedAnswer,
    Store, StoreFault, StoredKey, StoredOperator, UsageQuery, UsageRow, Write, Written,
};
use crate::units::KeyId;

pub(super) struct Unwell<F> {
    pub(super) store: Arc<Embedded>,
    pub(super) before_write: F,
}

impl<F> std::fmt::Debug for Unwell<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

impl<F: Fn() + Send + Sync> Store for Unwell<F> {
    fn write(&self, write: Write) -> Result<Written, StoreFault> {
        (self.before_write)();
        self.store.write(write)
    }

    fn load_keys(&self, each: &mut dyn FnMut(StoredKey)) -> Result<(), StoreFault> {
        self.store.load_keys(each)
    }

    fn load_states(&self, each: &mut dyn FnMut(KeyId, KeyState)) -> Result<(), StoreFault> {
        self.store.load_states(each)
    }

    fn key(&self, key: KeyRef) -> Result<Option<(StoredKey, KeyState)>, StoreFault> {
        self.store.key(key)
    }

    fn keys(&self, filter: &KeyFilter, order: Order, from: PageFrom, limit: usize) -> Result<KeyPage, StoreFault> {
        self.store.keys(filter, order, from, limit)
    }

    fn has_org(&self, org_id: &str) -> Result<bool, StoreFault> {
        self.store.has_org(org_id)
    }

    fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreFault> {
        self.store.usage(query)
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreFault> {
        self.store.audit(query)
    }

    fn remembered(&self, operator: &str, key: &str, now_ms: i64) -> Result<Option<RememberedAnswer>, StoreFault> {
        self.store.remembered(operator, key, now_ms)
    }

    fn operators(&self) -> Result<Vec<StoredOperator>, StoreFault> {
        self.store.operators()
    }

    fn pepper_mark(&self) -> Result<Option<[u8; 32]>, StoreFault> {
        self.store.pepper_mark()
    }

    fn drained(&self) -> Result<Vec<(Uuid, u64)>, StoreFault> {
        self.store.drained()
    }

    fn records(
        &self,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        self.store.records(from_ms, to_ms, each)
    }

    fn books(&self) -> Result<Books, StoreFault> {
        self.store.books()
    }

    fn back_up(&self, to: &std::path::Path) -> Result<(), StoreFault> {
        self.store.back_up(to)
    }
}
