//! Pages of keys that change, against a plain list of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Subject;
use super::listing::{ORDERS, any_filter, matches};
use super::made::{change, drain, entry, id, key, put, remove, slice};
use crate::policy::{Glob, KeyStatus, ModelRules, QuotaReset, QuotaRule};
use crate::store::{
    Entry, KeyDetails, KeyFilter, KeyPage, KeyState, Order, PageFrom, StatusFilter, Store, StoredKey, Written,
};

/// Keys there may be: more than an index is asked for.
const KEYS: u64 = 2_800;
const DAY_MS: i64 = 86_400_000;

/// What may be done.
#[derive(Debug, Clone)]
enum Step {
    /// Makes the key or changes it, to be like this one.
    Put(Box<StoredKey>),
    Remove,
    Use(Box<Entry>),
}

/// What a store should know of a key.
#[derive(Debug, Default)]
struct Known {
    key: Option<StoredKey>,
    number: i64,
    state: KeyState,
}

/// A store, and what it should know, by the numbers of the keys' identities.
struct Pair<'a> {
    store: &'a dyn Store,
    known: BTreeMap<u64, Known>,
    uses: u128,
}

impl Pair<'_> {
    /// Does it in groups, each in one write.
    fn take(&mut self, steps: &[(u64, Step)]) {
        for group in steps.chunk_by(|a, b| is_use(a) == is_use(b)) {
            if is_use(&group[0]) { self.count(group) } else { self.change(group) }
        }
    }

    fn change(&mut self, steps: &[(u64, Step)]) {
        let (mut changes, mut changed) = (Vec::new(), Vec::new());
        for (at, step) in steps {
            let known = self.known.entry(*at).or_default();
            match (step, &mut known.key) {
                (Step::Put(like), before) => {
                    let mut next = (**like).clone();
                    let plain = key(u128::from(*at));
                    next.record.policy.id = plain.record.policy.id;
                    next.record.current = plain.record.current;
                    next.details.version = before.as_ref().map_or(1, |before| before.details.version + 1);
                    changes.push(put(&next));
                    *before = Some(next);
                }
                (_, before @ Some(_)) => {
                    changes.push(remove(id(u128::from(*at))));
                    *before = None;
                }
                (_, None) => continue,
            }
            changed.push(*at);
        }
        let Written::Keys(numbers) = change(self.store, changes).unwrap() else { panic!("keys were changed") };
        for (at, number) in changed.into_iter().zip(numbers) {
            self.known.entry(at).or_default().number = number;
        }
    }

    fn count(&mut self, steps: &[(u64, Step)]) {
        let mut entries = Vec::new();
        for (at, step) in steps {
            let Step::Use(entry) = step else { continue };
            let entry = Entry { key: id(u128::from(*at)), ..(**entry).clone() };
            let state = &mut self.known.entry(*at).or_default().state;
            let count = crate::limits::QuotaCount {
                used: entry.units,
                since_day: entry.since_day,
                touched_day: entry.touched_day,
            };
            state.counted.add(count);
            state.last_used_ms = state.last_used_ms.max(Some(entry.at_unix_ms));
            entries.push(entry);
        }
        self.uses += 1;
        drain(self.store, vec![slice(self.uses, 1, &entries)]);
    }

    /// What a page should be.
    fn page(&self, filter: &KeyFilter, order: Order, from: PageFrom, limit: usize) -> KeyPage {
        let lets = |known: &&Known| known.key.as_ref().is_some_and(|key| matches(filter, key, &known.state));
        let numbered = |known: &Known| {
            let key = StoredKey { number: known.number, ..known.key.clone()? };
            Some((key, known.state.clone()))
        };
        let mut keys = self.known.values().filter(lets).filter_map(numbered).collect::<Vec<_>>();
        keys.sort_by_key(|(key, _)| std::cmp::Reverse(rank(key, order)));
        let total = keys.len() as u64;
        match from {
            PageFrom::Offset(after) => drop(keys.drain(..keys.len().min(usize::try_from(after).unwrap()))),
            PageFrom::After { created_at_ms, number } => {
                let mut last = key(1);
                (last.details.created_at_ms, last.number) = (created_at_ms, number);
                keys.retain(|(key, _)| rank(key, order) < rank(&last, order));
            }
        }
        keys.truncate(limit);
        KeyPage { keys, total }
    }
}

fn is_use((_, step): &(u64, Step)) -> bool {
    matches!(step, Step::Use(_))
}

fn rank(key: &StoredKey, order: Order) -> (i64, i64) {
    match order {
        Order::NewestFirst => (key.details.created_at_ms, key.number),
        Order::NumberDescending => (0, key.number),
    }
}

/// Keys that differ in what can be asked for; many share a value.
fn any_like() -> impl Strategy<Value = StoredKey> {
    let names = prop::sample::select(vec!["Alpha", "al_pha", "100% ÄRGER", "b\\c", "alphabet", ""]);
    let prefixes = prop::sample::select(vec!["sk-kw-aaaaaa", "sk-kw-aabbbb", "sk-%_", "hf_x"]);
    let orgs = prop::option::weighted(0.95, prop::sample::select(vec!["one", "one", "one", "one", "one", "two"]));
    let teams = prop::option::of(prop::sample::select(vec!["red", "blue", ""]));
    let globs = prop::collection::vec(prop::sample::select(vec!["gpt-4o*", "claude-*", "gpt-4o", "o1", "x"]), 0..3);
    let limits = prop_oneof![4 => 0_u64..12, 1 => Just(u64::MAX - 5), 1 => Just(1 << 63)];
    let quota = prop::option::of((limits, prop::sample::select(QuotaReset::ALL.to_vec())));
    let end = prop::option::of(-DAY_MS..60 * DAY_MS);
    let flags = (any::<bool>(), prop::bool::weighted(0.2));
    (names, prefixes, (orgs, teams), globs, quota, end, flags, 0_i64..40).prop_map(
        |(name, prefix, owner, globs, quota, end, flags, created)| {
            let mut like = key(1);
            let policy = &mut like.record.policy;
            (policy.name, policy.key_prefix) = (name.into(), prefix.into());
            (policy.org_id, policy.team_id) = (owner.0.map(Into::into), owner.1.map(Into::into));
            policy.models = ModelRules::new(globs.iter().filter_map(|glob| Glob::new(glob)).collect());
            policy.quota = quota.map(|(limit, reset)| QuotaRule { limit, reset });
            policy.expires_at_ms = end;
            (policy.is_sandbox, policy.is_disabled) = flags;
            like.details = KeyDetails { created_at_ms: created * 1_000, ..like.details };
            like
        },
    )
}

fn any_use() -> impl Strategy<Value = Entry> {
    let units = prop_oneof![6 => 0_u64..9, 1 => Just(1 << 63)];
    (units, 0_i32..50, 0_i32..9, 0_i64..9_000).prop_map(|(units, touched_day, before, at_unix_ms)| Entry {
        units,
        touched_day,
        since_day: touched_day - before,
        at_unix_ms,
        ..entry(id(1))
    })
}

fn any_steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        4 => any_like().prop_map(|like| Step::Put(Box::new(like))),
        2 => Just(Step::Remove),
        4 => any_use().prop_map(|used| Step::Use(Box::new(used))),
    ];
    prop::collection::vec((1..=KEYS + 50, step), 1..60)
}

pub(crate) fn whatever_is_done_pages_are_those_of_a_plain_list(mut subject: Subject) {
    let mut pair = Pair { store: subject.store(), known: BTreeMap::new(), uses: 0 };
    let config = Config { cases: 1, failure_persistence: None, ..Config::default() };
    let first = prop::collection::vec(any_like().prop_map(|like| Step::Put(Box::new(like))), KEYS as usize);
    let used = prop::collection::vec((1..=KEYS, any_use().prop_map(|used| Step::Use(Box::new(used)))), 600);
    let begun = std::cell::RefCell::new(&mut pair);
    let began = TestRunner::new(config.clone()).run(&(first, used), |(first, used)| {
        begun.borrow_mut().take(&(1..).zip(first).collect::<Vec<_>>());
        begun.borrow_mut().take(&used);
        Ok(())
    });
    began.unwrap();
    let from = prop_oneof![
        3 => Just(PageFrom::Offset(0)),
        1 => (0_u64..300).prop_map(PageFrom::Offset),
        2 => (0_i64..40, 1_i64..3_000)
            .prop_map(|(created, number)| PageFrom::After { created_at_ms: created * 1_000, number }),
    ];
    let asked = (any_filter(), prop::sample::select(ORDERS.to_vec()), from, prop_oneof![0_usize..20, Just(4_000)]);
    let asked = prop::collection::vec(asked, 12);
    let pages = std::cell::Cell::new(0);
    // A step that was taken stays taken: with less of them another thing would be tested.
    let config = Config { cases: 40, max_shrink_iters: 0, ..config };
    let result = TestRunner::new(config).run(&(any_steps(), asked), |(steps, asked)| {
        begun.borrow_mut().take(&steps);
        let pair = begun.borrow();
        for (filter, order, from, limit) in asked {
            let found = pair.store.keys(&filter, order, from, limit).unwrap();
            prop_assert_eq!(&found, &pair.page(&filter, order, from, limit), "{:?} {:?} {:?}", filter, order, from);
            pages.set(pages.get() + usize::from(!found.keys.is_empty()));
        }
        Ok(())
    });
    result.unwrap();
    assert!(pages.get() > 50, "the pages hold something: {}", pages.get());
    let Pair { known, uses, .. } = pair;
    subject.reopen();
    let pair = Pair { store: subject.store(), known, uses };
    for (status, day) in KeyStatus::ALL.into_iter().flat_map(|status| (-1..70).map(move |day| (status, day))) {
        let status = StatusFilter { status, at_ms: day * DAY_MS, certain_ms: day * DAY_MS };
        let filter = KeyFilter { status: Some(status), ..KeyFilter::default() };
        let ask = (&filter, Order::NewestFirst, PageFrom::Offset(0), 5);
        assert_eq!(pair.store.keys(ask.0, ask.1, ask.2, ask.3), Ok(pair.page(ask.0, ask.1, ask.2, ask.3)));
    }
}
