//! A store that can be closed and opened again while others hold on to it: it is handed to another process and, if that fails, taken back.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::store::{
    AuditPage, AuditQuery, Books, Entry, KeyFilter, KeyPage, KeyRef, KeyState, Order, PageFrom, RememberedAnswer,
    Store, StoreFault, StoredKey, StoredOperator, UsageQuery, UsageRow, Write, Written,
};
use crate::units::KeyId;

/// The store behind it, or none for the time being.
#[derive(Debug)]
pub struct Switch(RwLock<Option<Arc<dyn Store>>>);

impl Switch {
    /// Over a store that is open.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(RwLock::new(Some(store)))
    }

    /// Waits for the calls under way and closes the store. Until it is opened again every call fails with [`StoreFault::Unavailable`].
    pub fn close(&self) {
        let store = self.0.write().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of the lock: it ends its threads.
        drop(store);
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Puts a store in its place.
    pub fn open(&self, store: Arc<dyn Store>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }

    fn ask<T>(&self, call: impl FnOnce(&dyn Store) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => call(&**store),
            None => Err(StoreFault::Unavailable("it has been handed to the next process".to_owned())),
        }
    }
}

impl Store for Switch {
    fn load_keys(&self, each: &mut dyn FnMut(StoredKey)) -> Result<(), StoreFault> {
        self.ask(|store| store.load_keys(each))
    }

    fn load_states(&self, each: &mut dyn FnMut(KeyId, KeyState)) -> Result<(), StoreFault> {
        self.ask(|store| store.load_states(each))
    }

    fn write(&self, write: Write) -> Result<Written, StoreFault> {
        self.ask(|store| store.write(write))
    }

    fn key(&self, key: KeyRef) -> Result<Option<(StoredKey, KeyState)>, StoreFault> {
        self.ask(|store| store.key(key))
    }

    fn keys(&self, filter: &KeyFilter, order: Order, from: PageFrom, limit: usize) -> Result<KeyPage, StoreFault> {
        self.ask(|store| store.keys(filter, order, from, limit))
    }

    fn has_org(&self, org_id: &str) -> Result<bool, StoreFault> {
        self.ask(|store| store.has_org(org_id))
    }

    fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreFault> {
        self.ask(|store| store.usage(query))
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreFault> {
        self.ask(|store| store.audit(query))
    }

    fn remembered(&self, operator: &str, key: &str, now_ms: i64) -> Result<Option<RememberedAnswer>, StoreFault> {
        self.ask(|store| store.remembered(operator, key, now_ms))
    }

    fn operators(&self) -> Result<Vec<StoredOperator>, StoreFault> {
        self.ask(|store| store.operators())
    }

    fn pepper_mark(&self) -> Result<Option<[u8; 32]>, StoreFault> {
        self.ask(|store| store.pepper_mark())
    }

    fn drained(&self) -> Result<Vec<(uuid::Uuid, u64)>, StoreFault> {
        self.ask(|store| store.drained())
    }

    fn records(
        &self,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        self.ask(|store| store.records(from_ms, to_ms, each))
    }

    fn books(&self) -> Result<Books, StoreFault> {
        self.ask(|store| store.books())
    }

    fn back_up(&self, to: &Path) -> Result<(), StoreFault> {
        self.ask(|store| store.back_up(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;

    #[test]
    fn a_closed_store_is_not_to_be_had_until_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || -> Arc<dyn Store> { Arc::new(Embedded::open(&folder.path().join("keyward.db")).unwrap()) };
        let switch = Switch::new(open());
        switch.write(Write::PepperMark([7; 32])).unwrap();
        switch.close();
        assert!(matches!(switch.pepper_mark(), Err(StoreFault::Unavailable(_))));
        switch.open(open());
        assert_eq!(switch.pepper_mark().unwrap(), Some([7; 32]));
    }
}
