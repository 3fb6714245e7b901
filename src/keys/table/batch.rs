//! How changes are checked and made. Everything here runs under the table's writer lock.

use std::collections::{HashMap, HashSet};

use super::*;

/// What only whoever makes changes needs.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The secrets before the current one, of keys that have any.
    pub(super) previous: HashMap<KeyId, Vec<Arc<SecretSlot>>>,
    rules: cold::RuleBook,
}

/// Leaves of several changes to one key the last, where it stands.
pub(super) fn last_of_each(changes: Vec<KeyChange>) -> Vec<KeyChange> {
    if changes.len() < 2 {
        return changes;
    }
    let last: HashMap<KeyId, usize> = changes.iter().enumerate().map(|(at, change)| (change.id(), at)).collect();
    let counts = |(at, change): (usize, KeyChange)| (last.get(&change.id()) == Some(&at)).then_some(change);
    changes.into_iter().enumerate().filter_map(counts).collect()
}

/// Refuses what would give a secret two keys or a key two sources. `changes` name each key once.
pub(super) fn check(table: &KeyTable, changes: &[KeyChange]) -> Result<(), ChangeRefused> {
    let changed: HashSet<KeyId> = changes.iter().map(KeyChange::id).collect();
    let mut claimed: HashMap<KeyDigest, KeyId> = HashMap::new();
    for change in changes {
        let KeyChange::Put(record) = change else { continue };
        let id = record.policy.id;
        if let Some(known) = table.get(id).filter(|known| known.source != record.source) {
            return Err(ChangeRefused::SourceConflict { id, source_of: known.source });
        }
        for (digest, _) in record.secrets() {
            if let Some(holder) = claimed.insert(digest, id) {
                return Err(ChangeRefused::DigestTaken { id, holder });
            }
            // A holder that is itself being changed keeps only what it claims here.
            let holder = table.secrets.get(&digest).map(|found| found.key().0.entry.id);
            if let Some(holder) = holder.filter(|holder| !changed.contains(holder)) {
                return Err(ChangeRefused::DigestTaken { id, holder });
            }
        }
    }
    Ok(())
}

/// Makes room: ends what is removed, and the secrets that a record no longer lists. A secret listed again, in whatever place,
/// is not touched, so that a rotation leaves no moment at which it is unknown.
pub(super) fn release(table: &KeyTable, writer: &mut Writer, change: &KeyChange) {
    let id = change.id();
    let Some(entry) = table.get(id) else { return };
    let listed: HashSet<KeyDigest> = match change {
        KeyChange::Put(record) => record.secrets().map(|(digest, _)| digest).collect(),
        KeyChange::Remove(_) => {
            entry.is_removed.store(true, Ordering::Release);
            table.keys.remove(&id);
            HashSet::new()
        }
    };
    let current = entry.current();
    for slot in current.into_iter().chain(writer.previous.get(&id).into_iter().flatten().cloned()) {
        if !listed.contains(&slot.digest) {
            slot.until_unix_ms.store(WITHDRAWN, Ordering::Release);
            table.secrets.remove(&slot.digest);
        }
    }
    writer.previous.remove(&id);
}

/// Makes or replaces a key whose digests are free or its own.
pub(super) fn put(table: &KeyTable, writer: &mut Writer, record: KeyRecord) {
    let id = record.policy.id;
    let secrets: Vec<_> = record.secrets().collect();
    let known = table.get(id);
    let entry = match &known {
        Some(entry) => {
            replace(entry, writer, record.policy);
            Arc::clone(entry)
        }
        None => Arc::new(KeyEntry {
            id,
            policy: ArcSwapOption::empty(),
            limits: OnceLock::new(),
            cold: Mutex::new(Cold { current: Weak::new(), folded: Some(Box::new(writer.rules.fold(record.policy))) }),
            is_removed: AtomicBool::new(false),
            source: record.source,
        }),
    };
    let mut slots = secrets.into_iter().map(|(digest, until)| place(table, &entry, digest, until));
    if let Some(current) = slots.next() {
        entry.cold().current = Arc::downgrade(&current);
    }
    let before: Vec<_> = slots.collect();
    if !before.is_empty() {
        writer.previous.insert(id, before);
    }
    if known.is_none() {
        table.keys.insert(ById(entry), ());
    }
}

/// Gives a key another policy. One that sleeps sleeps on.
fn replace(entry: &KeyEntry, writer: &mut Writer, policy: KeyPolicy) {
    if let Some(limits) = entry.limits.get() {
        limits.adopt(&policy);
    }
    let mut cold = entry.cold();
    if cold.folded.is_some() {
        cold.folded = Some(Box::new(writer.rules.fold(policy)));
    } else {
        entry.policy.store(Some(Arc::new(policy)));
    }
}

/// The slot of a digest of `entry`, found or made, with this end.
fn place(table: &KeyTable, entry: &Arc<KeyEntry>, digest: KeyDigest, until: i64) -> Arc<SecretSlot> {
    match table.find(&digest).filter(|slot| Arc::ptr_eq(&slot.entry, entry)) {
        Some(slot) => {
            slot.until_unix_ms.store(until, Ordering::Release);
            slot
        }
        None => {
            let slot = SecretSlot::new(digest, Arc::clone(entry), until);
            table.secrets.insert(ByDigest(Arc::clone(&slot)), ());
            slot
        }
    }
}
