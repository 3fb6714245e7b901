//! What makes changes to one key come one after another, and keeps them apart from a reload of the key file.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedRwLockReadGuard, RwLock, RwLockWriteGuard};

/// Open for any number of API changes, or closed by one reload. Clones are one gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<RwLock<()>>);

impl Gate {
    /// Waits until the gate is open, and keeps it from being closed while the guard lives.
    pub async fn pass(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.0).read_owned().await
    }

    /// Waits until nobody is in the gate and closes it while the guard lives. Blocks: to be called from a thread that may wait, never
    /// from an async task.
    pub fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.blocking_write()
    }
}

/// Locks by name, a fixed number of them: names that share one wait for each other, which is only slower.
pub(super) struct Locks {
    hasher: RandomState,
    locks: Box<[Arc<Mutex<()>>]>,
}

/// Enough that unrelated changes seldom meet.
const LOCKS: usize = 64;

impl Locks {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), locks: (0..LOCKS).map(|_| Arc::default()).collect() }
    }

    pub(super) async fn lock(&self, name: impl Hash) -> OwnedMutexGuard<()> {
        let at = usize::try_from(self.hasher.hash_one(name) % LOCKS as u64).unwrap_or(0);
        // `LOCKS` is the length of the slice.
        Arc::clone(&self.locks[at]).lock_owned().await
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locks(..)")
    }
}
