//! Settled requests, and what they add up to.

use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::Subject;
use super::faults::total;
use super::made::{change, check_books, digest, drain, entry, id, kept, key, loaded, next, put, remove, slice};
use crate::keys::PreviousSecret;
use crate::limits::QuotaCount;
use crate::policy::{DialectName, Endpoint, Usage};
use crate::store::{Entry, GroupBy, OldSecret, Outcome, Store, StoredKey, UsageQuery, UsageRow, Write, Written};

const HOUR_MS: i64 = 3_600_000;

fn by(group_by: GroupBy) -> UsageQuery {
    UsageQuery { from_ms: -40 * HOUR_MS, to_ms: 40 * HOUR_MS, group_by, key: None, team_id: None, org_id: None }
}

fn groups(store: &dyn Store, query: &UsageQuery) -> Vec<(String, u64)> {
    store.usage(query).unwrap().into_iter().map(|row| (row.group, row.requests)).collect()
}

pub(crate) fn an_entry_counts_once_however_often_it_is_sent(subject: Subject) {
    let store = subject.store();
    change(store, vec![put(&key(1))]).unwrap();
    let entries = vec![entry(id(1)); 5];
    assert_eq!(drain(store, vec![slice(1, 1, &entries[..3])]), 3);
    assert_eq!(drain(store, vec![slice(1, 1, &entries[..3])]), 0);
    // One that reaches further, the same twice in one batch, and another journal with the same numbers.
    assert_eq!(drain(store, vec![slice(1, 2, &entries[..4]), slice(1, 4, &entries[..2]), slice(2, 1, &entries)]), 7);
    assert_eq!(kept(store, id(1)).unwrap().1.counted.used, 100);
    let mut known = store.drained().unwrap();
    known.sort();
    assert_eq!(known, [(Uuid::from_u128(1), 5), (Uuid::from_u128(2), 5)]);
    // Once its file is gone, a journal's number is forgotten, along with what is last said of it.
    let mut end = slice(1, 5, &entries[..2]);
    end.is_last = true;
    assert_eq!(drain(store, vec![end]), 1);
    assert_eq!(store.drained().unwrap(), [(Uuid::from_u128(2), 5)]);
    let books = store.books().unwrap();
    assert_eq!((books.records, books.units, books.mismatches), (11, 110, vec![]));
    // A journal may begin at 0, and may be empty.
    assert_eq!(drain(store, vec![slice(3, 0, &entries[..1]), slice(4, 0, &[])]), 1);
    assert_eq!(drain(store, vec![slice(3, 0, &entries[..2])]), 1);
}

pub(crate) fn in_any_order_of_batches_the_count_is_the_same(subject: Subject) {
    let store = subject.store();
    let one =
        (0..4_i32, 0..4_i32, 0..100_u64, 0..9_i64).prop_map(|(since_day, touched_day, units, at_unix_ms)| Entry {
            since_day: if since_day == 0 { QuotaCount::NEVER } else { since_day },
            touched_day: if touched_day == 0 { QuotaCount::NEVER } else { touched_day },
            units,
            at_unix_ms,
            ..entry(id(1))
        });
    let entries = prop::collection::vec(one, 1..12);
    let next_key = std::cell::Cell::new(0_u128);
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&(entries, 0..1_000_usize, 1..4_usize), |(entries, turn, cut)| {
        let mut seen = Vec::new();
        for is_turned in [false, true] {
            next_key.set(next_key.get() + 1);
            let key = id(next_key.get());
            let mut entries = entries.iter().map(|one| Entry { key, ..one.clone() }).collect::<Vec<_>>();
            if is_turned {
                let middle = turn % entries.len();
                entries.rotate_left(middle);
                entries.reverse();
            }
            for (at, part) in (0..).zip(entries.chunks(cut)) {
                drain(store, vec![slice(next_key.get() << 8 | at, 1, part)]);
            }
            change(store, vec![put(&super::made::key(next_key.get()))]).unwrap();
            let state = kept(store, key).unwrap().1;
            seen.push((state.counted, state.last_used_ms));
        }
        prop_assert_eq!(seen[0], seen[1]);
        let mut count = QuotaCount::default();
        for one in &entries {
            count.add(QuotaCount { used: one.units, since_day: one.since_day, touched_day: one.touched_day });
        }
        prop_assert_eq!(seen[0].0, count);
        prop_assert_eq!(seen[0].1, entries.iter().map(|one| one.at_unix_ms).max());
        Ok(())
    });
    result.unwrap();
    check_books(store);
}

pub(crate) fn what_an_unknown_key_used_is_there_when_it_comes(subject: Subject) {
    let store = subject.store();
    assert_eq!(drain(store, vec![slice(1, 1, &[entry(id(7)), entry(id(7))])]), 2);
    assert_eq!((loaded(store), kept(store, id(7))), (vec![], None));
    let mut states = Vec::new();
    store.load_states(&mut |key, state| states.push((key, state.counted.used))).unwrap();
    assert_eq!(states, [(id(7), 20)]);
    assert_eq!(groups(store, &by(GroupBy::Key)), [(id(7).to_string(), 2)]);
    assert_eq!(change(store, vec![put(&key(8)), put(&key(7))]), Ok(Written::Keys(vec![2, 1])));
    let (known, state) = kept(store, id(7)).unwrap();
    assert_eq!((known.number, state.counted.used, state.last_used_ms), (1, 20, Some(5_000)));
    check_books(store);
}

pub(crate) fn the_use_of_a_replaced_secret_lasts_while_it_is_listed(subject: Subject) {
    let store = subject.store();
    let mut rotated = key(1);
    change(store, vec![put(&rotated)]).unwrap();
    let rotate = |key: &mut StoredKey, current| {
        key.record.previous.push(PreviousSecret { digest: key.record.current, until_unix_ms: 9 });
        key.details.old_secrets.push(OldSecret::default());
        key.record.current = digest(current);
        *key = next(key);
    };
    rotate(&mut rotated, 11);
    change(store, vec![put(&rotated)]).unwrap();
    let tag = |secret| Some(*digest(secret).0.first_chunk().unwrap());
    let used =
        |secret, at_unix_ms, requests| Entry { previous_secret: tag(secret), at_unix_ms, requests, ..entry(id(1)) };
    drain(store, vec![slice(1, 1, &[used(1, 50, 2), used(1, 40, 1), used(77, 60, 1), entry(id(1))])]);
    let uses = |store: &dyn Store| -> Vec<_> {
        let state = kept(store, id(1)).unwrap().1;
        state.old_secrets.iter().map(|old| (old.digest, old.uses, old.last_used_ms)).collect()
    };
    assert_eq!(uses(store), [(digest(1), 3, Some(50))]);
    rotate(&mut rotated, 12);
    rotated.record.policy.name = "renamed".into();
    change(store, vec![put(&rotated)]).unwrap();
    drain(store, vec![slice(1, 5, &[used(11, 70, 1), used(1, 80, 1)])]);
    assert_eq!(uses(store), [(digest(1), 4, Some(80)), (digest(11), 1, Some(70))]);
    let mut ended = next(&rotated);
    ended.record.previous.remove(0);
    ended.details.old_secrets.remove(0);
    change(store, vec![put(&ended)]).unwrap();
    assert_eq!(uses(store), [(digest(11), 1, Some(70))]);
    drain(store, vec![slice(1, 7, &[used(1, 90, 1)])]);
    assert_eq!(uses(store), [(digest(11), 1, Some(70))]);
    let mut loaded = Vec::new();
    store.load_states(&mut |_, state| loaded.extend(state.old_secrets.iter().map(|old| old.uses))).unwrap();
    assert_eq!(loaded, [1]);
}

/// The name of the group that an entry is in.
type GroupOf = Box<dyn Fn(&Entry) -> String>;

/// Entries that differ in all that they are grouped by.
fn many() -> Vec<Entry> {
    let endpoints = [Endpoint::ChatCompletions, Endpoint::Embeddings];
    (0..200_usize)
        .map(|at| {
            let outcome = Outcome::ALL[at % 5];
            let mut one = entry(id(at as u128 % 3 + 1));
            one.at_unix_ms = (at as i64 - 100) * HOUR_MS / 4 - 1;
            (one.model, one.endpoint) = (["a", "b", ""][at % 7 % 3].into(), endpoints[at % 2]);
            one.outcome = outcome;
            one.requests = at as u32 % 4 + 1;
            one.usage.estimated = at % 6 == 0;
            if outcome != Outcome::Answered {
                (one.units, one.usage) = (0, Usage::default());
            }
            if outcome == Outcome::Refused {
                one.reason = ["quota", "model"][at % 2].into();
            }
            one
        })
        .collect()
}

pub(crate) fn sums_are_those_of_the_entries_however_grouped(subject: Subject) {
    let store = subject.store();
    for (number, org, team) in [(1, "o", Some("x")), (2, "o", Some("y")), (3, "p", None)] {
        let mut key = key(number);
        key.record.policy.org_id = Some(org.into());
        key.record.policy.team_id = team.map(Into::into);
        change(store, vec![put(&key)]).unwrap();
    }
    change(store, vec![remove(id(2))]).unwrap();
    for (at, part) in (0..).zip(many().chunks(33)) {
        drain(store, vec![slice(at, 1, part)]);
    }
    let time = |format: &'static str| {
        move |one: &Entry| jiff::Timestamp::from_millisecond(one.at_unix_ms).unwrap().strftime(format).to_string()
    };
    let owner = |one: &Entry| [("o", "x"), ("o", "y"), ("p", "")][usize::try_from(one.key.0.as_u128() - 1).unwrap()];
    let cases: [(GroupBy, GroupOf); 8] = [
        (GroupBy::Key, Box::new(|one| one.key.to_string())),
        (GroupBy::Model, Box::new(|one| one.model.to_string())),
        (GroupBy::Team, Box::new(move |one| owner(one).1.to_owned())),
        (GroupBy::Org, Box::new(move |one| owner(one).0.to_owned())),
        (GroupBy::Day, Box::new(time("%Y-%m-%d"))),
        (GroupBy::Hour, Box::new(time("%Y-%m-%dT%H:00:00Z"))),
        (GroupBy::Endpoint, Box::new(|one| one.endpoint.as_str().to_owned())),
        (GroupBy::Total, Box::new(|_| String::new())),
    ];
    for (group_by, group_of) in cases {
        for (key, team, org) in
            [(None, None, None), (Some(2), None, None), (None, Some("x"), Some("o")), (None, Some("x"), Some("p"))]
        {
            let query = UsageQuery {
                from_ms: -20 * HOUR_MS + 5,
                to_ms: 10 * HOUR_MS - 5,
                key: key.map(id),
                team_id: team.map(Into::into),
                org_id: org.map(Into::into),
                ..by(group_by)
            };
            let in_question = |one: &&Entry| {
                (-20 * HOUR_MS..10 * HOUR_MS).contains(&one.at_unix_ms)
                    && key.is_none_or(|key| one.key == id(key))
                    && team.is_none_or(|team| owner(one).1 == team)
                    && org.is_none_or(|org| owner(one).0 == org)
            };
            let wanted = summed(many().iter().filter(in_question), &*group_of, group_by == GroupBy::Total);
            let found = store.usage(&query).unwrap();
            let is_named = |row: &UsageRow| row.name.is_some() == (group_by == GroupBy::Key);
            assert!(found.iter().all(is_named), "{group_by:?}");
            let found = found.into_iter().map(without_times).collect::<Vec<_>>();
            assert_eq!(found, wanted, "{group_by:?} {key:?} {team:?} {org:?}");
        }
    }
    check_books(store);
}

/// The same by hand.
fn summed<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    group_of: &dyn Fn(&Entry) -> String,
    is_total: bool,
) -> Vec<UsageRow> {
    let mut rows = std::collections::BTreeMap::<String, UsageRow>::new();
    if is_total {
        rows.insert(String::new(), UsageRow::default());
    }
    for one in entries {
        let group = group_of(one);
        let row = rows.entry(group.clone()).or_insert_with(|| UsageRow { group, ..UsageRow::default() });
        let requests = u64::from(one.requests);
        row.requests += requests;
        row.errors += if matches!(one.outcome, Outcome::UpstreamError | Outcome::Fault) { requests } else { 0 };
        row.estimated += if one.usage.estimated { requests } else { 0 };
        row.input_tokens += one.usage.input;
        row.cached_input_tokens += one.usage.cached_input;
        row.output_tokens += one.usage.output;
        row.units += one.units;
        if one.outcome == Outcome::Refused {
            match row.refusals.iter_mut().find(|(reason, _)| **reason == *one.reason) {
                Some((_, count)) => *count += requests,
                None => row.refusals.push((one.reason.to_string(), requests)),
            }
            row.refusals.sort();
        }
    }
    rows.into_values().collect()
}

fn without_times(row: UsageRow) -> UsageRow {
    UsageRow {
        name: None,
        first_byte_p50_ms: None,
        first_byte_p99_ms: None,
        duration_p50_ms: None,
        duration_p99_ms: None,
        ..row
    }
}

pub(crate) fn quantiles_are_near_the_exact_ones(subject: Subject) {
    let store = subject.store();
    let entries = (1..=1_000_u64).map(|at| Entry {
        // In hours of their own, so that what is asked for is a sum of many.
        at_unix_ms: i64::try_from(at % 30).unwrap() * HOUR_MS,
        first_byte_us: if at % 10 == 0 { 0 } else { at * 100 },
        duration_us: at * at,
        outcome: if at > 900 { Outcome::Refused } else { Outcome::Answered },
        ..entry(id(1))
    });
    let entries = entries.collect::<Vec<_>>();
    entries.chunks(77).zip(0..).for_each(|(part, at)| assert_eq!(drain(store, vec![slice(at, 1, part)]), part.len()));
    let row = store.usage(&by(GroupBy::Total)).unwrap().remove(0);
    let near =
        |found: Option<f64>, exact: f64| assert!((found.unwrap() / exact - 1.0).abs() < 0.07, "{found:?} {exact}");
    near(row.first_byte_p50_ms, 45.0);
    near(row.first_byte_p99_ms, 89.1);
    near(row.duration_p50_ms, 202.5);
    near(row.duration_p99_ms, 793.9);
    let none = store.usage(&UsageQuery { from_ms: 39 * HOUR_MS, ..by(GroupBy::Total) }).unwrap().remove(0);
    assert_eq!((none.requests, none.first_byte_p50_ms, none.duration_p99_ms), (0, None, None));
}

pub(crate) fn usage_belongs_to_the_owner_of_its_time(subject: Subject) {
    let store = subject.store();
    let mut owned = key(1);
    owned.record.policy.team_id = Some("before".into());
    change(store, vec![put(&owned)]).unwrap();
    drain(store, vec![slice(1, 1, &[entry(id(1)), entry(id(1))])]);
    let mut moved = next(&owned);
    moved.record.policy.team_id = Some("after".into());
    change(store, vec![put(&moved)]).unwrap();
    drain(store, vec![slice(1, 3, &[entry(id(1))])]);
    assert_eq!(groups(store, &by(GroupBy::Team)), [("after".to_owned(), 1), ("before".to_owned(), 2)]);
    let of_before = UsageQuery { team_id: Some("before".into()), ..by(GroupBy::Key) };
    assert_eq!(groups(store, &of_before), [(id(1).to_string(), 2)]);
}

pub(crate) fn tidying_keeps_the_books_in_order(subject: Subject) {
    let store = subject.store();
    change(store, vec![put(&key(1))]).unwrap();
    let entries = (0..12_000_i64).map(|at| Entry {
        at_unix_ms: at,
        since_day: i32::try_from(at / 4_000).unwrap(),
        units: u64::try_from(at % 7).unwrap(),
        ..entry(id(1 + u128::try_from(at % 2).unwrap()))
    });
    drain(store, vec![slice(1, 1, &entries.collect::<Vec<_>>())]);
    let (books, row) = (store.books().unwrap(), total(store));
    assert_eq!((books.records, books.requests, &books.mismatches), (12_000, 12_000, &vec![]));
    let mut left = 12_000;
    for before in [10, 9_000, 20_000] {
        while let Ok(Written::Tidied(folded)) = store.write(Write::Tidy { now_ms: 0, records_before_ms: before }) {
            assert!(folded <= 5_000, "in bounded steps");
            left -= folded as u64;
            let after = store.books().unwrap();
            assert_eq!((after.records, &after.mismatches), (left, &vec![]));
            assert_eq!((after.requests, after.units, &after.counts), (books.requests, books.units, &books.counts));
            if folded == 0 {
                break;
            }
        }
        assert_eq!(left, 12_000_u64.saturating_sub(u64::try_from(before).unwrap()));
    }
    assert_eq!(total(store), row);
    // What comes late, of a count long over or of the one in force, still balances.
    let late = [0, 2].map(|since_day| Entry { since_day, ..entry(id(1)) });
    drain(store, vec![slice(1, 12_001, &late)]);
    check_books(store);
}

pub(crate) fn numbers_beyond_any_sense_neither_wrap_nor_fail(subject: Subject) {
    let store = subject.store();
    change(store, vec![put(&key(1))]).unwrap();
    let mut absurd = entry(id(1));
    (absurd.units, absurd.duration_us, absurd.first_byte_us) = (u64::MAX - 1, u64::MAX, u64::MAX);
    (absurd.usage.input, absurd.usage.output, absurd.requests) = (u64::MAX, 1 << 63, u32::MAX);
    drain(store, vec![slice(1, u64::MAX - 3, &[absurd.clone(), absurd.clone()])]);
    drain(store, vec![slice(2, 1, &[absurd])]);
    assert_eq!(store.drained().unwrap().iter().map(|(_, last)| *last).max(), Some(u64::MAX - 2));
    assert_eq!(kept(store, id(1)).unwrap().1.counted.used, u64::MAX);
    let row = total(store);
    assert_eq!((row.units, row.input_tokens, row.output_tokens), (u64::MAX, u64::MAX, u64::MAX));
    assert_eq!(row.requests, 3 * u64::from(u32::MAX));
    check_books(store);
    for at_unix_ms in [i64::MIN, i64::MAX] {
        drain(store, vec![slice(3, 1, &[Entry { at_unix_ms, ..entry(id(1)) }])]);
    }
    assert!(store.write(Write::Tidy { now_ms: i64::MIN, records_before_ms: i64::MAX }).is_ok());
    check_books(store);
}

pub(crate) fn records_are_the_entries_as_long_as_they_are_kept(subject: Subject) {
    let store = subject.store();
    let entries = (0..3_000_u64).map(made).collect::<Vec<_>>();
    // Steps of many sizes, and what was settled at one time in several of them.
    let mut rest = entries.as_slice();
    for (at, size) in (0..).zip([1, 7, 600, 511, 512, 513, 856]) {
        let (these, later) = rest.split_at(size);
        // Two journals, what was settled later in the first.
        drain(store, vec![slice(at, 1, &these[size / 3..]), slice(100 + at, 1, &these[..size / 3])]);
        rest = later;
    }
    assert!(rest.is_empty());
    let read = |from_ms, to_ms| {
        let mut found = Vec::new();
        let mut keep = |entry| {
            found.push(entry);
            ControlFlow::Continue(())
        };
        store.records(from_ms, to_ms, &mut keep).unwrap();
        assert!(found.is_sorted_by_key(|entry: &Entry| entry.at_unix_ms), "the oldest first");
        found.sort_by(|a, b| a.request_id.cmp(&b.request_id));
        found
    };
    let wanted = |from_ms, to_ms| {
        let is_wanted = |one: &&Entry| one.outcome.is_recorded() && (from_ms..to_ms).contains(&one.at_unix_ms);
        entries.iter().filter(is_wanted).cloned().collect::<Vec<_>>()
    };
    for (from_ms, to_ms) in [(i64::MIN, i64::MAX), (0, 200), (500, 501), (990, 5_000), (7, 7)] {
        assert_eq!(read(from_ms, to_ms), wanted(from_ms, to_ms), "{from_ms}..{to_ms}");
    }
    for most in [1, 700] {
        let mut count = 0;
        let mut look = |_| {
            count += 1;
            if count == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.records(i64::MIN, i64::MAX, &mut look).unwrap();
        assert_eq!(count, most, "until it breaks off");
    }
    for before in [3, 450, 451, 999] {
        while store.write(Write::Tidy { now_ms: 0, records_before_ms: before }) != Ok(Written::Tidied(0)) {}
        assert_eq!(read(i64::MIN, i64::MAX), wanted(before, i64::MAX), "{before}");
        check_books(store);
    }
}

/// An entry whose every number differs from its neighbours', now and then.
fn made(at: u64) -> Entry {
    let some = |every: u64| if at.is_multiple_of(every) { at } else { 0 };
    let mut one = Entry {
        request_id: format!("req_{at:06}").into(),
        at_unix_ms: i64::try_from(at / 3).unwrap(),
        key: id(1 + u128::from(at % 5)),
        previous_secret: (at / 5).is_multiple_of(2).then(|| (at / 10).to_le_bytes()),
        dialect: DialectName::ALL[usize::try_from(at / 9).unwrap() % DialectName::ALL.len()],
        endpoint: Endpoint::ALL[usize::try_from(at / 11).unwrap() % Endpoint::ALL.len()],
        model: ["gpt-4o", "", "o3"][usize::try_from(at / 4).unwrap() % 3].into(),
        outcome: Outcome::ALL[usize::try_from(at / 13).unwrap() % 5],
        reason: ["", "timeout"][usize::try_from(at / 17).unwrap() % 2].into(),
        status: u16::try_from(200 + at / 7).unwrap(),
        usage: Usage {
            input: u64::MAX - at,
            cached_input: some(2),
            cache_write: some(3),
            output: at,
            reasoning: some(11),
            audio_ms: some(13),
            estimated: at.is_multiple_of(4),
        },
        units: at * 1_000,
        since_day: i32::try_from(at / 100).unwrap(),
        touched_day: 7,
        first_byte_us: some(6),
        duration_us: at + 1,
        requests: u32::try_from(1 + some(17)).unwrap(),
    };
    if !one.outcome.is_recorded() {
        (one.units, one.usage) = (0, Usage::default());
    }
    one
}
