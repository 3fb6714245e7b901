//! Changes to keys.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Subject;
use super::made::{
    any_key, audit, change, changes, digest, drain, entry, id, kept, key, loaded, next, put, remove, slice,
};
use crate::keys::PreviousSecret;
use crate::store::{
    AuditQuery, KeyFilter, KeyRef, OldSecret, Order, PageFrom, Remembered, RememberedAnswer, Store, StoreFault,
    StoredKey, Write, Written,
};
use crate::units::KeyId;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn count(store: &dyn Store) -> u64 {
    store.keys(&KeyFilter::default(), Order::NewestFirst, PageFrom::Offset(0), 1).unwrap().total
}

pub(crate) fn every_field_of_a_key_comes_back_as_it_was(subject: Subject) {
    let store = subject.store();
    let number = std::cell::Cell::new(0_u64);
    let any = any::<u64>().prop_flat_map(|_| {
        number.set(number.get() + 1);
        any_key(number.get())
    });
    let result = runner(64).run(&any, |mut given| {
        let before = kept(store, given.record.policy.id).map_or(0, |(known, _)| known.details.version);
        given.details.version = before + 1;
        let written = change(store, vec![put(&given)]).unwrap();
        let Written::Keys(numbers) = written else { panic!("{written:?}") };
        given.number = numbers[0];
        let (back, _) = kept(store, given.record.policy.id).unwrap();
        prop_assert_eq!(&back, &given);
        prop_assert_eq!(&store.key(KeyRef::Number(given.number)).unwrap().unwrap().0, &given);
        let all = loaded(store);
        prop_assert_eq!(all.iter().find(|key| key.number == given.number), Some(&given));
        Ok(())
    });
    result.unwrap();
}

pub(crate) fn a_number_is_for_life_and_a_removed_key_comes_back_under_it(subject: Subject) {
    let store = subject.store();
    let (one, two) = (key(1), key(2));
    assert_eq!(change(store, vec![put(&one), put(&two)]), Ok(Written::Keys(vec![1, 2])));
    drain(store, vec![slice(1, 1, &[entry(id(1))])]);
    assert_eq!(change(store, vec![remove(id(1))]), Ok(Written::Keys(vec![1])));
    assert_eq!((kept(store, id(1)), store.key(KeyRef::Number(1)).unwrap()), (None, None));
    assert_eq!(loaded(store).len(), 1);
    assert_eq!(change(store, vec![remove(id(1))]), Err(StoreFault::Unknown));
    assert_eq!(change(store, vec![put(&key(3))]), Ok(Written::Keys(vec![3])));
    assert_eq!(change(store, vec![put(&one)]), Ok(Written::Keys(vec![1])));
    let (back, state) = kept(store, id(1)).unwrap();
    assert_eq!((back.number, state.counted.used), (1, 10));
    assert_eq!(count(store), 3);
}

pub(crate) fn a_change_must_be_the_next_one(subject: Subject) {
    let store = subject.store();
    let first = key(1);
    assert_eq!(change(store, vec![put(&next(&first))]), Err(StoreFault::Stale));
    change(store, vec![put(&first)]).unwrap();
    assert_eq!(change(store, vec![put(&first)]), Err(StoreFault::Stale));
    assert_eq!(change(store, vec![put(&next(&next(&first)))]), Err(StoreFault::Stale));
    change(store, vec![put(&next(&first))]).unwrap();
    assert_eq!(kept(store, id(1)).unwrap().0.details.version, 2);
    // Of a key that is gone, the next change is the first again.
    change(store, vec![remove(id(1))]).unwrap();
    assert_eq!(change(store, vec![put(&next(&next(&first)))]), Err(StoreFault::Stale));
    change(store, vec![put(&first), put(&next(&first))]).unwrap();
    assert_eq!(kept(store, id(1)).unwrap().0.details.version, 2);
}

pub(crate) fn a_secret_has_one_key(subject: Subject) {
    let store = subject.store();
    let mut one = key(1);
    one.record.previous.push(PreviousSecret { digest: digest(100), until_unix_ms: 9 });
    one.details.old_secrets.push(OldSecret { prefix: "old".into() });
    change(store, vec![put(&one)]).unwrap();
    for taken in [1, 100] {
        let (mut current, mut previous) = (key(2), key(2));
        current.record.current = digest(taken);
        previous.record.previous.push(PreviousSecret { digest: digest(taken), until_unix_ms: 9 });
        for other in [current, previous] {
            assert_eq!(change(store, vec![put(&other)]), Err(StoreFault::SecretTaken));
        }
    }
    let mut twice = next(&one);
    twice.record.previous.push(PreviousSecret { digest: digest(1), until_unix_ms: 9 });
    assert_eq!(change(store, vec![put(&twice)]), Err(StoreFault::SecretTaken));
    let mut twin = key(7);
    twin.record.current = digest(8);
    assert_eq!(change(store, vec![put(&key(8)), put(&twin)]), Err(StoreFault::SecretTaken));
    assert_eq!(kept(store, id(1)).unwrap().0.record, one.record);
    // What a key no longer lists, and what a removed key had, is free.
    let mut without = next(&one);
    without.record.previous.clear();
    without.details.old_secrets.clear();
    let mut heir = key(2);
    heir.record.current = digest(100);
    change(store, vec![put(&without), put(&heir)]).unwrap();
    change(store, vec![remove(id(1))]).unwrap();
    let mut second = key(3);
    second.record.current = digest(1);
    change(store, vec![put(&second)]).unwrap();
}

pub(crate) fn secrets_move_between_keys_changed_in_one_step(subject: Subject) {
    let store = subject.store();
    let (mut one, mut two) = (key(1), key(2));
    change(store, vec![put(&one), put(&two)]).unwrap();
    (one, two) = (next(&one), next(&two));
    (one.record.current, two.record.current) = (digest(2), digest(1));
    change(store, vec![put(&one), put(&two)]).unwrap();
    assert_eq!(kept(store, id(1)).unwrap().0.record.current, digest(2));
    assert_eq!(kept(store, id(2)).unwrap().0.record.current, digest(1));
    // A key's own: the current one becomes a previous one and the other way round.
    let mut turned = next(&one);
    turned.record.previous.push(PreviousSecret { digest: digest(2), until_unix_ms: 5 });
    turned.details.old_secrets.push(OldSecret::default());
    turned.record.current = digest(30);
    change(store, vec![put(&turned)]).unwrap();
    let mut back = next(&turned);
    (back.record.current, back.record.previous[0].digest) = (digest(2), digest(30));
    change(store, vec![put(&back)]).unwrap();
    assert_eq!(kept(store, id(1)).unwrap().0.record, back.record);
    // One that is removed, though only afterwards, has let go of it.
    let mut heir = key(3);
    heir.record.current = digest(2);
    change(store, vec![put(&heir), remove(id(1))]).unwrap();
    assert_eq!(loaded(store).len(), 2);
}

pub(crate) fn a_write_is_made_whole_or_not_at_all(subject: Subject) {
    let store = subject.store();
    change(store, vec![put(&key(1))]).unwrap();
    let remember = |call: &str| Remembered {
        operator: "root".into(),
        key: call.into(),
        answer: RememberedAnswer { call: [1; 32], body: "{}".to_owned(), seed: None, etag: "1".into() },
        at_ms: 0,
        until_ms: 90_000,
    };
    let write = |last: StoredKey, call: &str| Write::Keys {
        changes: vec![put(&next(&key(1))), put(&key(2)), put(&last)],
        audit: vec![audit(1_000, "key.create")],
        remember: Some(Box::new(remember(call))),
    };
    let mut taken = key(3);
    taken.record.current = digest(1);
    assert_eq!(store.write(write(taken, "a")), Err(StoreFault::SecretTaken));
    assert_eq!(store.write(write(next(&key(3)), "a")), Err(StoreFault::Stale));
    store.write(Write::Keys { changes: vec![], audit: vec![], remember: Some(Box::new(remember("b"))) }).unwrap();
    assert_eq!(store.write(write(key(3), "b")), Err(StoreFault::Repeated));
    assert_eq!(loaded(store).iter().map(|key| key.details.version).collect::<Vec<_>>(), [1]);
    let audit_of = |store: &dyn Store| store.audit(&AuditQuery { limit: 10, ..AuditQuery::default() }).unwrap().entries;
    assert_eq!(audit_of(store), []);
    assert_eq!(store.remembered("root", "a", 0), Ok(None));
    assert_eq!(count(store), 1);
    store.write(write(key(3), "a")).unwrap();
    assert_eq!((loaded(store).len(), audit_of(store).len(), count(store)), (3, 1, 3));
    assert!(store.remembered("root", "a", 0).unwrap().is_some());
}

pub(crate) fn writers_at_once_each_get_their_own_result(subject: Subject) {
    let store = subject.store();
    // Each key is wanted by two threads: one of them gets it, the other is told that it is stale.
    let results = std::thread::scope(|scope| {
        let threads = (0..8).map(|thread: u128| {
            scope.spawn(move || {
                let own = (0..50_u128).map(|at| (at, store.write(changes(vec![put(&key(at + thread / 2 * 100))]))));
                let own = own.map(|(_, result)| result).collect::<Vec<_>>();
                let usage = (0..20).map(|at| drain(store, vec![slice(thread, at, &[entry(id(1_000 + thread))])]));
                (own, usage.sum::<usize>())
            })
        });
        let threads = threads.collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for pair in results.chunks(2) {
        for (one, other) in pair[0].0.iter().zip(&pair[1].0) {
            let stale = [one, other].into_iter().filter(|result| **result == Err(StoreFault::Stale)).count();
            assert!(stale == 1 && (one.is_ok() || other.is_ok()), "{one:?} {other:?}");
        }
    }
    assert!(results.iter().all(|(_, entries)| *entries == 20));
    assert_eq!((loaded(store).len(), count(store)), (200, 200));
    super::made::check_books(store);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Put { key: u8, secret: u8, previous: u8, team: u8, is_next: bool },
    Remove { key: u8 },
}

impl Step {
    fn key(self) -> u8 {
        let (Self::Put { key, .. } | Self::Remove { key }) = self;
        key
    }
}

pub(crate) fn whatever_is_done_to_keys_they_are_what_a_plain_map_says(subject: Subject) {
    let store = subject.store();
    let step = prop_oneof![
        4 => (0..4_u8, 0..6_u8, 0..9_u8, 0..3_u8, prop::bool::weighted(0.9))
            .prop_map(|(key, secret, previous, team, is_next)| Step::Put { key, secret, previous, team, is_next }),
        1 => (0..4_u8).prop_map(|key| Step::Remove { key }),
    ];
    let writes = prop::collection::vec(prop::collection::vec(step, 1..4), 1..20);
    let model = std::cell::RefCell::new(BTreeMap::<KeyId, StoredKey>::new());
    let result = runner(24).run(&writes, |writes| {
        for steps in writes {
            // What comes of one key changed twice in one step depends on their order; that has a test of its own.
            let mut named = BTreeSet::new();
            let steps = steps.into_iter().filter(|step| named.insert(step.key())).collect::<Vec<_>>();
            let mut model = model.borrow_mut();
            let (changes, expected) = step_through(&model, &steps);
            let written = change(store, changes);
            match expected {
                Some(after) => {
                    prop_assert!(written.is_ok(), "{written:?}: {steps:?}");
                    *model = after;
                }
                None => prop_assert!(written.is_err_and(|fault| fault.is_conflict()), "{steps:?}"),
            }
            let found = loaded(store).into_iter().map(|key| StoredKey { number: 0, ..key }).collect::<Vec<_>>();
            prop_assert_eq!(found, model.values().cloned().collect::<Vec<_>>());
            for team in ["0", "1", "2"] {
                let filter = KeyFilter { team_id: Some(team.into()), ..KeyFilter::default() };
                let page = store.keys(&filter, Order::NewestFirst, PageFrom::Offset(0), 100).unwrap();
                let wanted = model.values().filter(|key| key.record.policy.team_id.as_deref() == Some(team)).count();
                prop_assert_eq!((page.keys.len(), page.total), (wanted, wanted as u64));
            }
        }
        Ok(())
    });
    result.unwrap();
}

/// The changes, and the keys after them; `None` where one of them must be refused.
fn step_through(
    before: &BTreeMap<KeyId, StoredKey>,
    steps: &[Step],
) -> (Vec<crate::store::StoredChange>, Option<BTreeMap<KeyId, StoredKey>>) {
    let (mut after, mut is_fine, mut all) = (before.clone(), true, Vec::new());
    for step in steps {
        match *step {
            Step::Put { key: number, secret, previous, team, is_next } => {
                let mut made = key(u128::from(number) + 1);
                let id = made.record.policy.id;
                made.record.policy.team_id = (team < 2).then(|| team.to_string().into());
                made.record.current = digest(u64::from(secret));
                if previous < 6 {
                    made.record.previous.push(PreviousSecret { digest: digest(u64::from(previous)), until_unix_ms: 7 });
                    made.details.old_secrets.push(OldSecret { prefix: "p".into() });
                }
                made.details.version = after.get(&id).map_or(0, |known| known.details.version) + u64::from(is_next);
                is_fine &= is_next;
                all.push(put(&made));
                after.insert(id, made);
            }
            Step::Remove { key } => {
                let id = id(u128::from(key) + 1);
                is_fine &= after.remove(&id).is_some();
                all.push(remove(id));
            }
        }
    }
    let mut secrets =
        after.values().flat_map(|key| key.record.secrets().map(|(digest, _)| digest.0)).collect::<Vec<_>>();
    let held = secrets.len();
    secrets.sort_unstable();
    secrets.dedup();
    is_fine &= secrets.len() == held;
    (all, is_fine.then_some(after))
}
