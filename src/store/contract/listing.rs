//! Pages of keys.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Subject;
use super::made::{change, digest, drain, entry, id, key, loaded, next, put, remove, slice};
use crate::keys::PreviousSecret;
use crate::limits::quota::period;
use crate::policy::{Glob, KeyStatus, ModelRules, QuotaReset, QuotaRule};
use crate::store::{KeyFilter, KeyPage, KeyState, OldSecret, Order, PageFrom, StatusFilter, Store, StoredKey};

pub(super) const ORDERS: [Order; 2] = [Order::NewestFirst, Order::NumberDescending];

fn page(store: &dyn Store, filter: &KeyFilter, order: Order, from: PageFrom, limit: usize) -> KeyPage {
    store.keys(filter, order, from, limit).unwrap()
}

fn numbers(page: &KeyPage) -> Vec<i64> {
    page.keys.iter().map(|(key, _)| key.number).collect()
}

/// Sixty keys that differ in all that can be asked for; three of them removed.
fn fill(store: &dyn Store) {
    for at in 1..=60_u64 {
        let mut key = key(u128::from(at));
        // Several share a time, and the order of times is not that of numbers.
        key.details.created_at_ms = i64::try_from(at * 7 % 13 * 1_000).unwrap();
        let policy = &mut key.record.policy;
        policy.name = ["Alpha", "al_pha", "100% ÄRGER", "b\\c", "alphabet"][at as usize % 5].into();
        policy.key_prefix = ["sk-kw-aaaaaa", "sk-kw-aabbbb", "sk-%_", "hf_x"][at as usize % 4].into();
        policy.org_id = ["one", "two"].get(at as usize % 3).map(|org| (*org).into());
        policy.team_id = ["red", "blue", ""].get(at as usize % 4).map(|team| (*team).into());
        policy.is_sandbox = at % 7 == 0;
        policy.is_disabled = at % 11 == 0;
        policy.expires_at_ms = (at % 5 == 0).then_some(i64::try_from(at * 86_400_000 / 2).unwrap());
        policy.quota = (at % 2 == 0).then(|| QuotaRule {
            limit: if at % 12 == 0 { u64::MAX - 5 } else { 10 },
            reset: QuotaReset::ALL[at as usize / 2 % 4],
        });
        let globs: [&[&str]; 4] = [&[], &["gpt-4o*"], &["claude-*", "gpt-4o"], &["o1"]];
        policy.models = ModelRules::new(globs[at as usize % 4].iter().filter_map(|glob| Glob::new(glob)).collect());
        if at % 6 == 0 {
            key.record.previous.push(PreviousSecret { digest: digest(1_000 + at), until_unix_ms: 7 });
            key.details.old_secrets.push(OldSecret { prefix: "old".into() });
        }
        change(store, vec![put(&key)]).unwrap();
        let mut used = entry(id(u128::from(at)));
        (used.since_day, used.touched_day) = (i32::try_from(at % 5).unwrap(), i32::try_from(at % 9).unwrap());
        used.units = if at % 24 == 0 { u64::MAX - 2 } else { 4 + at % 10 };
        drain(store, vec![slice(u128::from(at), 1, &[used])]);
    }
    change(store, [3, 30, 59].map(|at| remove(id(at))).into()).unwrap();
}

pub(crate) fn pages_hold_every_key_once_in_order(subject: Subject) {
    let store = subject.store();
    fill(store);
    let filters = [
        KeyFilter::default(),
        KeyFilter { org_id: Some("one".into()), ..KeyFilter::default() },
        KeyFilter { team_id: Some("red".into()), name_contains: Some("alpha".into()), ..KeyFilter::default() },
    ];
    for (filter, order) in filters.iter().flat_map(|filter| ORDERS.map(|order| (filter, order))) {
        let all = page(store, filter, order, PageFrom::Offset(0), 1_000);
        assert_eq!(all.total, all.keys.len() as u64);
        assert!(all.keys.is_sorted_by_key(|(key, _)| match order {
            Order::NewestFirst => (-key.details.created_at_ms, -key.number),
            Order::NumberDescending => (0, -key.number),
        }));
        for limit in [1, 7, 1_000] {
            let (mut by_offset, mut by_cursor) = (Vec::new(), Vec::new());
            let mut from = PageFrom::Offset(0);
            for _ in 0..all.keys.len() / limit + 2 {
                let offset = page(store, filter, order, PageFrom::Offset(by_offset.len() as u64), limit);
                let cursor = page(store, filter, order, from, limit);
                assert_eq!((offset.total, cursor.total), (all.total, all.total));
                by_offset.extend(numbers(&offset));
                by_cursor.extend(numbers(&cursor));
                if let Some((last, _)) = cursor.keys.last() {
                    from = PageFrom::After { created_at_ms: last.details.created_at_ms, number: last.number };
                }
            }
            assert_eq!((by_offset, by_cursor), (numbers(&all), numbers(&all)), "{limit} {order:?}");
        }
    }
    let beyond = page(store, &KeyFilter::default(), Order::NewestFirst, PageFrom::Offset(u64::MAX), 5);
    assert_eq!((beyond.keys.len(), beyond.total), (0, 57));
}

pub(crate) fn every_filter_lets_through_what_it_says(subject: Subject) {
    let store = subject.store();
    fill(store);
    let all = page(store, &KeyFilter::default(), Order::NumberDescending, PageFrom::Offset(0), 1_000).keys;
    assert_eq!(all.len(), loaded(store).len());
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let hits = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&any_filter(), |filter| {
        let found = page(store, &filter, Order::NumberDescending, PageFrom::Offset(0), 1_000);
        let wanted = all.iter().filter(|(key, state)| matches(&filter, key, state)).map(|(key, _)| key.number);
        prop_assert_eq!(numbers(&found), wanted.collect::<Vec<_>>());
        prop_assert_eq!(found.total, found.keys.len() as u64);
        hits.set(hits.get() + usize::from(!found.keys.is_empty() && found.keys.len() < all.len()));
        Ok(())
    });
    result.unwrap();
    assert!(hits.get() > 100, "the filters ask for something: {}", hits.get());
}

/// Filters that ask for what [`fill`] gives keys, and for what it does not.
pub(super) fn any_filter() -> impl Strategy<Value = KeyFilter> {
    let some = |texts: &'static [&'static str]| prop::option::weighted(0.3, prop::sample::select(texts));
    let filters = (
        (some(&["one", "two", "three", ""]), some(&["red", "blue", "", "ONE"])),
        some(&["ALPHA", "pha", "%", "_", "\\", "ärg", "100% ä", "", "zzz"]),
        some(&["alpha", "ALPHA", "al_pha", "%pha%", "a%a", "%", "b\\c", "100% är%", "_lpha"]),
        some(&["sk-", "sk-kw-aa", "sk-kw-aab", "sk-kw-aabbbb", "SK-", "sk-%", "", "hf_x", "sk-kw-aabbbbc"]),
        prop::option::weighted(0.2, prop::sample::select(vec![5_u64, 6, 1_006, 3, 1_001])),
        some(&["gpt-4o", "gpt-4o-mini", "claude-3", "o1", "x"]),
        prop::option::weighted(0.3, any::<bool>()),
        prop::option::weighted(0.5, status_filters()),
    );
    filters.prop_map(|(owner, contains, like, prefix, secret, model, is_sandbox, status)| KeyFilter {
        org_id: owner.0.map(Into::into),
        team_id: owner.1.map(Into::into),
        name_contains: contains.map(Into::into),
        name_like: like.map(Into::into),
        prefix: prefix.map(Into::into),
        secret: secret.map(digest),
        model: model.map(Into::into),
        is_sandbox,
        status,
    })
}

/// By a clock that is right, or was set forward.
fn status_filters() -> impl Strategy<Value = StatusFilter> {
    let status = prop::sample::select(KeyStatus::ALL.to_vec());
    let filter = |(status, certain_ms, ahead_ms)| StatusFilter { status, at_ms: certain_ms + ahead_ms, certain_ms };
    (status, -1_i64..40 * 86_400_000, prop_oneof![Just(0), 0_i64..4 * 86_400_000]).prop_map(filter)
}

/// What a filter means, without a database.
pub(super) fn matches(filter: &KeyFilter, key: &StoredKey, state: &KeyState) -> bool {
    let policy = &key.record.policy;
    let is = |wanted: &Option<Box<str>>, has: &Option<Box<str>>| wanted.is_none() || wanted == has;
    let name = policy.name.to_lowercase();
    let status = |asked: &StatusFilter| {
        let counted = state.counted;
        let day = period::day_of(asked.certain_ms).max(counted.touched_day);
        let start = policy.quota.and_then(|rule| period::start_of(day, rule.reset));
        let used = if start.is_some_and(|start| start > counted.since_day) { 0 } else { counted.used };
        KeyStatus::of(policy, used, asked.at_ms) == asked.status
    };
    is(&filter.org_id, &policy.org_id)
        && is(&filter.team_id, &policy.team_id)
        && filter.name_contains.as_ref().is_none_or(|part| name.contains(&part.to_lowercase()))
        && filter.name_like.as_ref().is_none_or(|pattern| like(pattern.to_lowercase().as_bytes(), name.as_bytes()))
        && filter.prefix.as_ref().is_none_or(|prefix| policy.key_prefix.starts_with(&**prefix))
        && filter.secret.is_none_or(|secret| key.record.secrets().any(|(digest, _)| digest == secret))
        && filter.model.as_ref().is_none_or(|model| policy.models.allows(model))
        && filter.is_sandbox.is_none_or(|is_sandbox| policy.is_sandbox == is_sandbox)
        && filter.status.as_ref().is_none_or(status)
}

fn like(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'%', rest)) => (0..=text.len()).any(|from| like(rest, &text[from..])),
        Some((first, rest)) => text.first() == Some(first) && like(rest, &text[1..]),
    }
}

pub(crate) fn a_status_is_that_of_its_moment(subject: Subject) {
    let store = subject.store();
    let mut daily = key(1);
    daily.record.policy.quota = Some(QuotaRule { limit: 10, reset: QuotaReset::Daily });
    let mut huge = key(2);
    huge.record.policy.quota = Some(QuotaRule { limit: 1 << 63, reset: QuotaReset::None });
    change(store, vec![put(&daily), put(&huge)]).unwrap();
    drain(store, vec![slice(1, 1, &[entry(id(1)), entry(id(2))])]);
    let with = |status, at_ms| {
        let status = StatusFilter { status, at_ms, certain_ms: at_ms };
        let filter = KeyFilter { status: Some(status), ..KeyFilter::default() };
        numbers(&page(store, &filter, Order::NumberDescending, PageFrom::Offset(0), 10))
    };
    assert_eq!((with(KeyStatus::Exhausted, 86_399_999), with(KeyStatus::Active, 86_399_999)), (vec![1], vec![2]));
    assert_eq!((with(KeyStatus::Exhausted, 86_400_000), with(KeyStatus::Active, 86_400_000)), (vec![], vec![2, 1]));
    let mut much = entry(id(2));
    much.units = 1 << 63;
    drain(store, vec![slice(1, 3, &[much])]);
    assert_eq!(with(KeyStatus::Exhausted, 86_400_000), [2]);
}

pub(crate) fn an_organisation_is_known_as_long_as_a_key_names_it(subject: Subject) {
    let store = subject.store();
    let mut one = key(1);
    one.record.policy.org_id = Some("here".into());
    change(store, vec![put(&one)]).unwrap();
    assert_eq!((store.has_org("here"), store.has_org("HERE"), store.has_org("")), (Ok(true), Ok(false), Ok(false)));
    let mut moved = next(&one);
    moved.record.policy.org_id = Some("there".into());
    change(store, vec![put(&moved)]).unwrap();
    assert_eq!((store.has_org("here"), store.has_org("there")), (Ok(false), Ok(true)));
    change(store, vec![remove(id(1))]).unwrap();
    assert_eq!(store.has_org("there"), Ok(true));
}
