//! The merge rules, and what a reader may see of a change.

use std::thread;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::clock::Now;
use crate::keys::table::slot::NO_END;
use crate::limits::QuotaCount;
use crate::policy::{CutReason, KeyPolicy, QuotaReset, QuotaRule};

const NOW: Now = Now { monotonic_ns: 0, unix_ms: 1_000_000 };

fn id(n: u64) -> KeyId {
    KeyId(Uuid::from_u128(u128::from(n)))
}

fn digest(n: u64) -> KeyDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    KeyDigest(bytes)
}

fn record(key: u64, secret: u64) -> KeyRecord {
    KeyRecord {
        policy: KeyPolicy::unlimited(id(key), "k", "p"),
        current: digest(secret),
        previous: Vec::new(),
        source: Source::Api,
    }
}

fn put(record: KeyRecord) -> KeyChange {
    KeyChange::Put(Box::new(record))
}

fn before(secret: u64, until_unix_ms: i64) -> PreviousSecret {
    PreviousSecret { digest: digest(secret), until_unix_ms }
}

fn table(records: impl IntoIterator<Item = KeyRecord>) -> KeyTable {
    let table = KeyTable::new();
    table.apply_all(records.into_iter().map(put).collect()).unwrap();
    table
}

#[test]
fn a_key_is_found_by_its_secret_and_by_its_id() {
    let table = table([record(1, 10), record(2, 20)]);
    assert_eq!(table.find(&digest(20)).map(|slot| slot.entry().id()), Some(id(2)));
    assert!(table.find(&digest(1)).is_none());
    assert_eq!(table.get(id(1)).map(|entry| entry.id()), Some(id(1)));
    assert_eq!((table.len(), table.ids(Source::Api).len(), table.ids(Source::File).len()), (2, 2, 0));
}

#[test]
fn a_rotation_keeps_the_key_its_limits_and_the_running_streams() {
    let table = table([record(1, 10)]);
    let (entry, old) = (table.get(id(1)).unwrap(), table.find(&digest(10)).unwrap());
    assert!(entry.limits().standing(&entry.policy(), NOW).quota.is_none());
    let state = Arc::clone(entry.limits());
    let rotated = KeyRecord { previous: vec![before(10, NOW.unix_ms + 5)], ..record(1, 11) };
    table.apply(put(rotated)).unwrap();
    let new = table.find(&digest(11)).unwrap();
    assert!(Arc::ptr_eq(new.entry(), &entry) && Arc::ptr_eq(new.entry().limits(), &state));
    assert!(!new.is_previous() && old.is_previous());
    assert!(Arc::ptr_eq(&table.find(&digest(10)).unwrap(), &old), "the slot a stream holds is the one in the table");
    assert_eq!(old.may_continue(NOW), Ok(()));
    assert_eq!(old.may_continue(NOW.plus_ns(5_000_000)), Err(CutReason::GraceEnded));
    assert_eq!(new.may_continue(NOW.plus_ns(5_000_000)), Ok(()));
    let secrets: Vec<_> = table.secrets_of(id(1)).iter().map(|slot| slot.digest()).collect();
    assert_eq!(secrets, [digest(11), digest(10)]);
}

#[test]
fn a_secret_past_its_grace_is_found_until_the_record_drops_it() {
    let ended = KeyRecord { previous: vec![before(10, NOW.unix_ms - 5)], ..record(1, 11) };
    let table = table([ended]);
    let old = table.find(&digest(10)).unwrap();
    assert!(old.grace_ended(NOW));
    assert_eq!(old.until_unix_ms(), Some(NOW.unix_ms - 5));
    table.apply(put(record(1, 11))).unwrap();
    assert!(table.find(&digest(10)).is_none());
    assert!(table.find(&digest(11)).is_some());
}

#[test]
fn a_secret_no_longer_listed_is_gone_and_cuts_what_runs_on_it() {
    let table = table([record(1, 10)]);
    let old = table.find(&digest(10)).unwrap();
    table.apply(put(record(1, 11))).unwrap();
    assert!(table.find(&digest(10)).is_none());
    assert_eq!(old.may_continue(NOW), Err(CutReason::GraceEnded));
    table.apply(put(KeyRecord { previous: vec![before(11, i64::MAX - 1)], ..record(1, 10) })).unwrap();
    assert!(!table.find(&digest(10)).unwrap().is_previous(), "brought back as the current one");
}

#[test]
fn disabling_expiring_and_removing_reach_what_runs() {
    let table = table([record(1, 10)]);
    let slot = table.find(&digest(10)).unwrap();
    let mut changed = record(1, 10);
    changed.policy.expires_at_ms = Some(NOW.unix_ms);
    table.apply(put(changed.clone())).unwrap();
    assert_eq!(slot.may_continue(NOW), Err(CutReason::Expired), "the end is exclusive");
    changed.policy.is_disabled = true;
    table.apply(put(changed)).unwrap();
    assert_eq!(slot.may_continue(NOW), Err(CutReason::Disabled));
    table.apply(KeyChange::Remove(id(1))).unwrap();
    assert_eq!(slot.may_continue(NOW), Err(CutReason::Deleted));
    assert!(table.find(&digest(10)).is_none() && table.get(id(1)).is_none() && table.is_empty());
    table.apply(KeyChange::Remove(id(1))).unwrap();
    table.apply(put(record(1, 10))).unwrap();
    assert_eq!(slot.may_continue(NOW), Err(CutReason::Deleted), "a key made again is another key");
}

#[test]
fn a_secret_has_one_key_and_a_key_one_source() {
    let table = table([record(1, 10), KeyRecord { previous: vec![before(21, 5)], ..record(2, 20) }]);
    let taken = |id, holder| Err(ChangeRefused::DigestTaken { id, holder });
    assert_eq!(table.apply(put(record(1, 20))), taken(id(1), id(2)));
    assert_eq!(table.apply(put(record(3, 21))), taken(id(3), id(2)), "a previous secret is one too");
    assert_eq!(table.apply(put(KeyRecord { previous: vec![before(30, 5)], ..record(3, 30) })), taken(id(3), id(3)));
    let file = KeyRecord { source: Source::File, ..record(1, 10) };
    let conflict = ChangeRefused::SourceConflict { id: id(1), source_of: Source::Api };
    assert_eq!(table.apply(put(file)), Err(conflict));
    assert_eq!((table.len(), table.find(&digest(10)).is_some()), (2, true));
}

#[test]
fn a_reload_is_made_whole_or_not_at_all() {
    let table = table([record(1, 10), record(2, 20), record(3, 30)]);
    let refused = table.apply_all(vec![KeyChange::Remove(id(3)), put(record(1, 11)), put(record(4, 20))]);
    assert_eq!(refused, Err(ChangeRefused::DigestTaken { id: id(4), holder: id(2) }));
    assert!(table.get(id(3)).is_some() && table.find(&digest(10)).is_some());
    // Two keys swap their secrets, a third hands its own on.
    let changes = vec![KeyChange::Remove(id(3)), put(record(1, 20)), put(record(2, 10)), put(record(4, 30))];
    let state = Arc::clone(table.get(id(1)).unwrap().limits());
    table.apply_all(changes).unwrap();
    let holder = |secret| table.find(&digest(secret)).map(|slot| slot.entry().id());
    assert_eq!([holder(20), holder(10), holder(30)], [Some(id(1)), Some(id(2)), Some(id(4))]);
    assert!(Arc::ptr_eq(table.get(id(1)).unwrap().limits(), &state));
}

#[test]
fn of_several_changes_to_a_key_in_one_go_the_last_counts() {
    let table = table([record(1, 10)]);
    table
        .apply_all(vec![put(record(1, 11)), KeyChange::Remove(id(1)), put(record(2, 11)), put(record(1, 12))])
        .unwrap();
    let holder = |secret| table.find(&digest(secret)).map(|slot| slot.entry().id());
    assert_eq!([holder(10), holder(11), holder(12)], [None, Some(id(2)), Some(id(1))]);
    assert_eq!((table.len(), table.secrets.len()), (2, 2));
}

#[test]
fn uses_of_a_previous_secret_are_counted_from_the_rotation_on() {
    let table = table([record(1, 10)]);
    let slot = table.find(&digest(10)).unwrap();
    assert_eq!(slot.last_used_unix_ms(), None);
    slot.note_use(NOW);
    assert_eq!((slot.uses(), slot.last_used_unix_ms()), (0, Some(NOW.unix_ms)));
    table.apply(put(KeyRecord { previous: vec![before(10, i64::MAX - 1)], ..record(1, 11) })).unwrap();
    slot.note_use(NOW.plus_ns(999_000_000));
    slot.note_use(NOW.plus_ns(1_000_000_000));
    slot.note_use(NOW);
    assert_eq!((slot.uses(), slot.last_used_unix_ms()), (3, Some(NOW.unix_ms + 1_000)));
}

#[test]
fn a_policy_change_is_told_to_the_limits() {
    let daily = |reset| {
        let mut record = record(1, 10);
        record.policy.quota = Some(QuotaRule { limit: 10, reset });
        record
    };
    let table = table([daily(QuotaReset::Daily)]);
    let entry = table.get(id(1)).unwrap();
    let today = crate::limits::quota::period::day_of(NOW.unix_ms);
    entry.limits().restore_quota(QuotaCount { used: 7, since_day: today, touched_day: today });
    assert_eq!(entry.limits().standing(&entry.policy(), NOW).quota.unwrap().used, 7);
    table.apply(put(daily(QuotaReset::None))).unwrap();
    let next_week = Now { unix_ms: NOW.unix_ms + 7 * 86_400_000, ..NOW };
    assert_eq!(entry.limits().standing(&entry.policy(), next_week).quota.unwrap().used, 7);
}

#[test]
fn a_first_use_and_a_change_at_once_never_bring_an_old_policy_back() {
    for round in 0..200 {
        let table = table([record(1, 10)]);
        let entry = table.get(id(1)).unwrap();
        let mut changed = record(1, 10);
        changed.policy.is_disabled = true;
        thread::scope(|scope| {
            let user = scope.spawn(|| entry.policy());
            table.apply(put(changed.clone())).unwrap();
            assert!(entry.policy().is_disabled, "round {round}");
            user.join().unwrap();
        });
        assert!(entry.policy().is_disabled && entry.cold().folded.is_none());
    }
}

#[test]
fn a_rotating_key_is_never_unknown_to_a_reader() {
    let table = table([record(1, 0), record(2, 1_000_000)]);
    thread::scope(|scope| {
        let rotating = scope.spawn(|| {
            for n in 1..3_000 {
                let rotated = KeyRecord { previous: vec![before(n - 1, i64::MAX - 1)], ..record(1, n) };
                table.apply(put(rotated)).unwrap();
                let other = KeyRecord { previous: vec![before(1_000_001 - n % 2, 7)], ..record(2, 1_000_000 + n % 2) };
                table.apply(put(other)).unwrap();
            }
        });
        let mut looks = 0_u64;
        while !rotating.is_finished() || looks == 0 {
            assert!(table.get(id(1)).is_some());
            assert!(table.find(&digest(1_000_000)).is_some(), "current or previous, it is listed all the time");
            looks += 1;
        }
    });
    assert_eq!(table.secrets_of(id(1)).len(), 2);
    assert_eq!(table.secrets.len(), 4);
}

#[test]
fn a_secret_that_changes_hands_is_never_without_a_key() {
    let table = table([record(1, 1), record(2, 2), record(3, 3)]);
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for n in 0..3_000 {
                // Two keys swap; the third is made anew under another id, its secret the same.
                let (a, b) = if n % 2 == 0 { (2, 1) } else { (1, 2) };
                let changes =
                    vec![KeyChange::Remove(id(3 + n)), put(record(1, a)), put(record(2, b)), put(record(4 + n, 3))];
                table.apply_all(changes).unwrap();
            }
        });
        let mut looks = 0_u64;
        while !changing.is_finished() || looks == 0 {
            for secret in 1..4 {
                assert!(table.find(&digest(secret)).is_some(), "secret {secret}");
            }
            looks += 1;
        }
    });
    assert_eq!((table.len(), table.secrets.len()), (3, 3));
}

#[test]
fn what_runs_on_a_secret_that_changed_hands_goes_on_as_its_new_key_may() {
    let table =
        table([record(1, 1), record(2, 2), KeyRecord { previous: vec![before(31, i64::MAX - 1)], ..record(3, 3) }]);
    let held: Vec<_> = [1, 2, 3, 31].map(|n| table.find(&digest(n)).unwrap()).into();
    table.apply_all(vec![put(record(1, 2)), put(record(2, 1)), KeyChange::Remove(id(3)), put(record(4, 31))]).unwrap();
    let ends: Vec<_> = held.iter().map(|slot| slot.may_continue(NOW)).collect();
    assert_eq!(ends, [Ok(()), Ok(()), Err(CutReason::Deleted), Ok(())]);
    for (secret, key) in [(1, 2), (2, 1), (31, 4)] {
        let slot = table.find(&digest(secret)).unwrap();
        assert_eq!((slot.entry().id(), slot.may_continue(NOW)), (id(key), Ok(())));
    }
    assert!(table.find(&digest(3)).is_none());
    table
        .apply(put(KeyRecord { policy: KeyPolicy { is_disabled: true, ..record(2, 1).policy }, ..record(2, 1) }))
        .unwrap();
    assert_eq!(held[0].may_continue(NOW), Err(CutReason::Disabled), "the new key's operator can end it");
}

#[test]
fn a_reload_asks_for_what_changed_and_nothing_else() {
    let table = table([record(1, 1), record(2, 2), record(3, 3), KeyRecord { source: Source::File, ..record(9, 9) }]);
    let changes = table.changes_to(Source::Api, [record(4, 4), record(3, 9), record(2, 2)]);
    assert_eq!(changes, [KeyChange::Remove(id(1)), put(record(4, 4)), put(record(3, 9))]);
    let all = [record(3, 3), record(2, 2), record(1, 1)];
    assert_eq!(table.changes_to(Source::Api, all.clone()), []);
    let _awake = table.get(id(1)).unwrap().policy();
    let mut disabled = record(1, 1);
    disabled.policy.is_disabled = true;
    let rotated = KeyRecord { previous: vec![before(7, 5)], ..record(2, 2) };
    let changed = [record(3, 3), rotated.clone(), disabled.clone()];
    assert_eq!(table.changes_to(Source::Api, changed), [put(rotated), put(disabled)], "every part of a record counts");
}

fn records() -> impl Strategy<Value = Vec<KeyRecord>> {
    // Secrets are drawn so that keys often hand them to each other; duplicates are dropped.
    let one = (0_u64..12, 0_u64..24, prop::collection::vec((0_u64..24, any::<i64>()), 0..3), any::<bool>());
    prop::collection::vec(one, 0..12).prop_map(|rows| {
        let (mut ids, mut digests) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        let mut records = Vec::new();
        for (key, secret, previous, is_disabled) in rows {
            if !ids.insert(key) || !digests.insert(secret) {
                continue;
            }
            let mut record = record(key, secret);
            record.policy.is_disabled = is_disabled;
            record.previous = previous
                .into_iter()
                .filter(|(old, _)| digests.insert(*old))
                .map(|(old, until)| before(old, until))
                .collect();
            records.push(record);
        }
        records
    })
}

proptest! {
    #[test]
    fn after_any_reloads_the_table_is_the_last_file(files in prop::collection::vec(records(), 1..6)) {
        let table = KeyTable::new();
        let mut old: Vec<KeyRecord> = Vec::new();
        for new in files {
            // Some keys wake up, others sleep through every change.
            for record in old.iter().filter(|record| record.policy.is_disabled) {
                let _awake = table.get(record.policy.id).map(|entry| entry.policy());
            }
            let kept: Vec<_> = old.iter().filter_map(|record| table.get(record.policy.id)).collect();
            table.apply_all(table.changes_to(Source::Api, new.clone())).unwrap();
            prop_assert_eq!(table.changes_to(Source::Api, new.clone()), []);
            prop_assert_eq!(table.len(), new.len());
            prop_assert_eq!(table.secrets.len(), new.iter().map(|record| record.secrets().count()).sum::<usize>());
            for record in &new {
                let entry = table.get(record.policy.id).unwrap();
                let clamped = |before: &PreviousSecret| before.until_unix_ms.clamp(i64::MIN + 1, i64::MAX - 1);
                let previous = record.previous.iter().map(|old| PreviousSecret { until_unix_ms: clamped(old), ..*old });
                let as_kept = KeyRecord { previous: previous.collect(), ..record.clone() };
                prop_assert_eq!(table.record(record.policy.id), Some(as_kept));
                prop_assert_eq!(&*entry.policy(), &record.policy);
                for (digest, until) in record.secrets() {
                    let slot = table.find(&digest).unwrap();
                    prop_assert!(Arc::ptr_eq(slot.entry(), &entry));
                    prop_assert_eq!(slot.until_unix_ms().unwrap_or(NO_END), until);
                }
                let listed: Vec<_> = record.secrets().map(|(digest, _)| digest).collect();
                let shown: Vec<_> = table.secrets_of(record.policy.id).iter().map(|slot| slot.digest()).collect();
                prop_assert_eq!(shown, listed);
            }
            for entry in kept {
                let stays = new.iter().any(|record| record.policy.id == entry.id());
                prop_assert_eq!(entry.is_removed(), !stays);
            }
            old = new;
        }
        table.apply_all(table.changes_to(Source::Api, [])).unwrap();
        prop_assert!(table.is_empty() && table.secrets.is_empty() && table.writer().previous.is_empty());
    }
}

#[test]
fn what_a_store_remembers_is_there_for_the_first_request() {
    let mut rotated = record(1, 11);
    rotated.previous.push(PreviousSecret { digest: digest(10), until_unix_ms: i64::MAX });
    let table = table([rotated, record(2, 20)]);
    let quota = QuotaCount { used: 7, since_day: 3, touched_day: 5 };
    let previous = vec![(digest(10), 4, Some(900)), (digest(99), 1, None)];
    table.restore(id(1), &Remembered { quota, last_used_unix_ms: Some(950), previous });
    let entry = table.get(id(1)).unwrap();
    assert_eq!(entry.limits().quota_count(), quota);
    let seen: Vec<_> = table.secrets_of(id(1)).iter().map(|slot| (slot.uses(), slot.last_used_unix_ms())).collect();
    assert_eq!(seen, [(0, Some(950)), (4, Some(900))]);
    assert!(table.get(id(2)).unwrap().limits_if_used().is_none(), "what was never used costs nothing");
}

#[test]
fn a_file_key_that_is_taken_out_and_put_back_finds_its_count() {
    let of_file = |secret| KeyRecord { source: Source::File, ..record(1, secret) };
    let table = table([of_file(10)]);
    let quota = QuotaCount { used: 7, since_day: 3, touched_day: 5 };
    table.restore(id(1), &Remembered { quota, ..Remembered::default() });
    table.apply(KeyChange::Remove(id(1))).unwrap();
    table.apply(put(of_file(12))).unwrap();
    assert_eq!(table.get(id(1)).unwrap().limits().quota_count(), quota);

    let by_api = KeyRecord { source: Source::Api, ..record(2, 20) };
    table.apply(put(by_api)).unwrap();
    table.restore(id(2), &Remembered { quota, ..Remembered::default() });
    table.apply(KeyChange::Remove(id(2))).unwrap();
    table.apply(put(KeyRecord { source: Source::File, ..record(2, 21) })).unwrap();
    assert_eq!(table.get(id(2)).unwrap().limits().quota_count(), quota, "also one of the API that a file takes up");

    table.restore(id(9), &Remembered { quota, ..Remembered::default() });
    table.apply(put(KeyRecord { source: Source::File, ..record(9, 90) })).unwrap();
    assert_eq!(table.get(id(9)).unwrap().limits().quota_count(), quota, "also over a restart");
}

#[test]
fn a_look_at_a_sleeping_key_does_not_wake_it() {
    let table = table([record(1, 10)]);
    let entry = table.get(id(1)).unwrap();
    assert_eq!(entry.policy_at_rest().id, id(1));
    assert_eq!((table.record(id(1)), table.changes_to(Source::Api, [record(1, 10)])), (Some(record(1, 10)), vec![]));
    assert!(entry.limits_if_used().is_none() && entry.cold().folded.is_some());
}
