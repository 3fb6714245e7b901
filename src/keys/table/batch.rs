//! How changes are checked and made. Everything here runs under the table's writer lock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::Entry;

use crate::keys::change::{ChangeRefused, KeyChange, KeyRecord};
use crate::keys::table::{ByDigest, ById, KeyEntry, KeyTable, SecretSlot, cold};
use crate::limits::KeyLimits;
use crate::units::{KeyDigest, KeyId};

/// What only whoever makes changes needs.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The secrets before the current one, of keys that have any.
    pub(super) previous: HashMap<KeyId, Vec<Arc<SecretSlot>>>,
    /// The limits of keys that were used and are gone: a key that comes back finds them, or its quota would begin anew.
    pub(super) retired: HashMap<KeyId, Arc<KeyLimits>>,
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

/// Makes or replaces a key. A digest that is another key's goes over to it in one step, so that no request meets it without a
/// key. The secrets that the record no longer lists are added to `ended`: they work until the whole batch is made.
pub(super) fn put(table: &KeyTable, writer: &mut Writer, record: KeyRecord, ended: &mut Vec<Arc<SecretSlot>>) {
    let id = record.policy.id;
    let secrets: Vec<_> = record.secrets().collect();
    let known = table.get(id);
    let entry = match &known {
        Some(entry) => {
            let listed: HashSet<KeyDigest> = secrets.iter().map(|(digest, _)| *digest).collect();
            ended.extend(slots_of(entry, writer).filter(|slot| !listed.contains(&slot.digest)));
            entry.replace(record.policy, |policy| writer.rules.fold(policy));
            Arc::clone(entry)
        }
        None => {
            let (folded, limits) = (writer.rules.fold(record.policy), writer.retired.remove(&id));
            KeyEntry::asleep(id, record.source, folded, limits)
        }
    };
    let mut slots = secrets.into_iter().map(|(digest, until)| place(table, &entry, digest, until));
    if let Some(current) = slots.next() {
        entry.cold().current = Arc::downgrade(&current);
    }
    let before: Vec<_> = slots.collect();
    if before.is_empty() {
        writer.previous.remove(&id);
    } else {
        writer.previous.insert(id, before);
    }
    if known.is_none() {
        table.keys.insert(ById(entry), ());
    }
}

/// Ends a key, and adds its secrets to `ended`.
pub(super) fn remove(table: &KeyTable, writer: &mut Writer, id: KeyId, ended: &mut Vec<Arc<SecretSlot>>) {
    let Some(entry) = table.get(id) else { return };
    ended.extend(slots_of(&entry, writer));
    entry.is_removed.store(true, Ordering::Release);
    table.keys.remove(&id);
    writer.previous.remove(&id);
    if let Some(limits) = entry.limits_if_used() {
        writer.retired.insert(id, Arc::clone(limits));
    }
}

/// Takes secrets that no key lists any more out of the table. One that has gone over to another key meanwhile stays there.
pub(super) fn withdraw(table: &KeyTable, ended: Vec<Arc<SecretSlot>>) {
    for slot in ended {
        table.secrets.remove_if(&slot.digest, |found, ()| {
            let is_own = Arc::ptr_eq(&found.0, &slot);
            if is_own {
                slot.withdraw();
            }
            is_own
        });
    }
}

/// The secrets of a key as the table knows them, the current one first.
fn slots_of(entry: &KeyEntry, writer: &Writer) -> impl Iterator<Item = Arc<SecretSlot>> + use<> {
    let before = writer.previous.get(&entry.id).cloned().unwrap_or_default();
    entry.current().into_iter().chain(before)
}

/// The slot of a digest of `entry`, found or made, with this end.
fn place(table: &KeyTable, entry: &Arc<KeyEntry>, digest: KeyDigest, until: i64) -> Arc<SecretSlot> {
    if let Some(slot) = table.find(&digest).filter(|slot| Arc::ptr_eq(&slot.entry, entry)) {
        slot.set_until(until);
        return slot;
    }
    let slot = SecretSlot::new(digest, Arc::clone(entry), until);
    match table.secrets.entry(ByDigest(Arc::clone(&slot))) {
        Entry::Vacant(free) => drop(free.insert(())),
        Entry::Occupied(held) => {
            let (ByDigest(before), ()) = held.replace_entry(());
            before.hand_over(&slot);
        }
    }
    slot
}
