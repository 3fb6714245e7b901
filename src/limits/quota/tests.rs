//! The period, the clamp and the race for the last unit.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::thread;

use super::*;
use crate::policy::{Estimate, Price};

const DAY: i64 = 86_400_000;
/// Monday 2024-06-03, noon.
const MONDAY: i64 = 19_877 * DAY + DAY / 2;

fn charge(prompt: u64, output: u64, choices: u64) -> Charge {
    Charge {
        estimate: Estimate { prompt, output, choices, output_is_stated: true, least_output: 1 },
        price: Price::TOKEN,
        bills_quota: true,
        can_clamp: true,
        least_output: 1,
    }
}

fn rule(limit: u64, reset: QuotaReset) -> Option<QuotaRule> {
    Some(QuotaRule { limit, reset })
}

fn spend(quota: &QuotaState, rule: Option<QuotaRule>, units: u64, at: i64) -> bool {
    match quota.reserve(rule, &charge(units, 0, 1), false, at) {
        Ok(held) => quota.settle(held, units, at).used == units,
        Err(_) => false,
    }
}

#[test]
fn the_refusal_carries_the_numbers_and_the_time_of_the_next_period() {
    let (quota, daily) = (QuotaState::default(), rule(100, QuotaReset::Daily));
    assert!(spend(&quota, daily, 80, MONDAY));
    let refused = quota.reserve(daily, &charge(10, 11, 1), false, MONDAY).map(|_| ());
    let half_a_day = 43_200_000_000_000;
    let expected = Refusal::QuotaSpent { limit: 100, used: 80, asked: 21, resets_in_ns: Some(half_a_day) };
    assert_eq!(refused, Err(expected));
    assert_eq!(quota.committed(), 80);
}

#[test]
fn what_is_left_is_shared_out_to_every_answer() {
    let (quota, none) = (QuotaState::default(), rule(100, QuotaReset::None));
    let held = quota.reserve(none, &charge(40, 300, 4), true, MONDAY).unwrap();
    assert_eq!((held.clamp(), held.units()), (Some(15), 100));
    assert_eq!(quota.settle(held, 0, MONDAY).used, 0);
    let held = quota.reserve(none, &charge(97, 300, 1), true, MONDAY).unwrap();
    assert_eq!((held.clamp(), held.units()), (Some(3), 100));
    assert_eq!(quota.settle(held, 0, MONDAY).used, 0);
    assert!(quota.reserve(none, &charge(97, 300, 4), true, MONDAY).is_err(), "not one token an answer");
    assert!(quota.reserve(none, &charge(100, 300, 1), true, MONDAY).is_err(), "the prompt and nothing else");
    let held = quota.reserve(none, &charge(40, 60, 1), true, MONDAY).unwrap();
    assert_eq!(held.clamp(), None, "what fits is not clamped");
    quota.settle(held, 0, MONDAY);
}

#[test]
fn a_charge_of_nothing_is_admitted_on_a_spent_quota() {
    let (quota, none) = (QuotaState::default(), rule(10, QuotaReset::None));
    let held = quota.reserve(none, &charge(10, 0, 1), false, MONDAY).unwrap();
    quota.settle(held, 25, MONDAY);
    assert!(quota.reserve(none, &charge(1, 0, 1), true, MONDAY).is_err());
    let free = Charge { bills_quota: false, ..charge(5, 5, 1) };
    let held = quota.reserve(none, &free, true, MONDAY).unwrap();
    assert_eq!(held.units(), 0);
    quota.settle(held, 0, MONDAY);
    assert_eq!((quota.used(), quota.committed()), (25, 25));
}

#[test]
fn a_new_period_starts_from_zero_and_keeps_what_is_held() {
    for (reset, same, next) in [
        (QuotaReset::Daily, 0, 1),
        (QuotaReset::Weekly, 6, 7),
        (QuotaReset::Monthly, 27, 28),
        (QuotaReset::None, 999, 0),
    ] {
        let (quota, limited) = (QuotaState::default(), rule(100, reset));
        assert!(spend(&quota, limited, 60, MONDAY));
        let held = quota.reserve(limited, &charge(30, 0, 1), false, MONDAY).unwrap();
        assert!(!spend(&quota, limited, 20, MONDAY + same * DAY), "{reset:?}");
        if next == 0 {
            quota.settle(held, 30, MONDAY);
            continue;
        }
        let after = MONDAY + next * DAY;
        let standing = quota.standing(limited.unwrap(), after);
        assert_eq!((standing.used, standing.reserved), (0, 30), "{reset:?}");
        quota.settle(held, 33, after);
        assert_eq!((quota.used(), quota.committed()), (33, 33));
    }
}

#[test]
fn a_clock_set_back_or_to_and_fro_grants_nothing_anew() {
    let (quota, daily) = (QuotaState::default(), rule(100, QuotaReset::Daily));
    assert!(spend(&quota, daily, 100, MONDAY));
    for back in [1, 30, 4_000] {
        assert!(!spend(&quota, daily, 1, MONDAY - back * DAY));
        assert!(!spend(&quota, daily, 1, MONDAY));
    }
    let end = quota.standing(daily.unwrap(), MONDAY - 30 * DAY).resets_at_ms;
    assert_eq!(end, Some(MONDAY + DAY / 2));
    assert!(spend(&quota, daily, 100, MONDAY + DAY));
    assert!(!spend(&quota, daily, 1, MONDAY));
    assert!(!spend(&quota, daily, 1, MONDAY + DAY));
}

#[test]
fn a_changed_rule_begins_a_count_anew_once_a_day_at_most() {
    let quota = QuotaState::default();
    assert!(spend(&quota, None, 40, MONDAY - DAY), "counted without a rule");
    assert!(!spend(&quota, rule(100, QuotaReset::None), 61, MONDAY), "as one for ever counts it");
    assert!(
        spend(&quota, rule(100, QuotaReset::Monthly), 100, MONDAY),
        "one of a month does not know when it was used"
    );
    for reset in [QuotaReset::Daily, QuotaReset::Weekly, QuotaReset::None, QuotaReset::Daily, QuotaReset::Monthly] {
        assert!(!spend(&quota, rule(100, reset), 1, MONDAY), "{reset:?}");
    }
    assert!(spend(&quota, rule(100, QuotaReset::Daily), 100, MONDAY + DAY));
    for reset in [QuotaReset::Monthly, QuotaReset::Daily, QuotaReset::Weekly, QuotaReset::Daily] {
        assert!(!spend(&quota, rule(100, reset), 1, MONDAY + DAY), "{reset:?}");
    }
}

/// A rule that comes while others look at the quota by the one before is heeded by the next look, whatever they write down.
#[test]
fn a_rule_that_comes_amid_looks_is_heeded() {
    for round in 0..5_000 {
        let quota = QuotaState::default();
        assert!(spend(&quota, None, 1_000, MONDAY - 10 * DAY));
        let held = quota.reserve(None, &charge(0, 0, 1), false, MONDAY - 9 * DAY).unwrap();
        let together = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                together.wait();
                quota.settle(held, 0, MONDAY)
            });
            together.wait();
            quota.adopt(QuotaReset::Monthly);
        });
        assert!(spend(&quota, rule(100, QuotaReset::Monthly), 100, MONDAY), "{round}");
    }
}

/// What was refused has used nothing, and so says nothing of a day.
#[test]
fn a_refused_request_does_not_keep_a_count_that_another_rule_begins_anew() {
    for asks_before in [false, true] {
        for (before, after) in [(QuotaReset::None, QuotaReset::Monthly), (QuotaReset::Monthly, QuotaReset::Daily)] {
            let quota = QuotaState::default();
            // In one month, but for the change from a quota for ever.
            let (then, now) = if before == QuotaReset::None { (-9, 9) } else { (9, 12) };
            let (then, now) = (MONDAY + then * DAY, MONDAY + now * DAY);
            assert!(spend(&quota, rule(100, before), 100, then));
            assert!(!asks_before || !spend(&quota, rule(100, before), 1, now));
            let shown = quota.standing(rule(100, after).unwrap(), now).used;
            assert_eq!((shown, spend(&quota, rule(100, after), 100, now)), (0, true), "{before:?} {after:?}");
        }
    }
}

/// Across restarts too: what a store remembers says since when it counts.
#[test]
fn what_was_counted_before_a_period_is_not_of_it_after_a_restart_either() {
    let (quota, monthly) = (QuotaState::default(), rule(100, QuotaReset::Monthly));
    quota.restore(QuotaCount { used: 1_000, since_day: QuotaCount::NEVER, touched_day: period::day_of(MONDAY) });
    assert_eq!(quota.standing(monthly.unwrap(), MONDAY).used, 0);
    assert!(spend(&quota, monthly, 100, MONDAY) && !spend(&quota, monthly, 1, MONDAY));
    assert_eq!(quota.count(), count(100, MONDAY));
}

#[test]
fn a_request_outliving_a_rule_settles_by_the_one_in_force() {
    let (quota, daily) = (QuotaState::default(), rule(100, QuotaReset::Daily));
    assert!(spend(&quota, daily, 70, MONDAY));
    let held = quota.reserve(daily, &charge(10, 0, 1), false, MONDAY).unwrap();
    quota.adopt(QuotaReset::None);
    quota.settle(held, 10, MONDAY + DAY);
    assert_eq!(quota.used(), 80, "the change to a quota for ever wiped nothing out");
}

#[test]
fn what_a_store_remembers_is_restored_with_its_day() {
    let (quota, daily) = (QuotaState::default(), rule(100, QuotaReset::Daily));
    quota.restore(count(90, MONDAY));
    assert!(!spend(&quota, daily, 20, MONDAY) && spend(&quota, daily, 10, MONDAY));
    assert_eq!(quota.count().touched_day, period::day_of(MONDAY));
    let old = QuotaState::default();
    old.restore(count(90, MONDAY - DAY));
    assert!(spend(&old, daily, 100, MONDAY));
    let held = old.reserve(rule(500, QuotaReset::Daily), &charge(7, 0, 1), false, MONDAY).unwrap();
    old.restore(count(50, MONDAY));
    assert_eq!((old.used(), old.committed()), (50, 57));
    old.settle(held, 0, MONDAY);
    assert_eq!((old.used(), old.committed()), (50, 50));
}

#[test]
fn a_clamped_answer_is_covered_however_its_prompt_is_split() {
    let (quota, none) = (QuotaState::default(), rule(100, QuotaReset::None));
    let price = Price { cache_write: 2_000_000, ..Price::TOKEN };
    let held = quota.reserve(none, &Charge { price, ..charge(40, 300, 1) }, true, MONDAY).unwrap();
    assert_eq!((held.clamp(), held.units()), (Some(20), 100));
    let written = Usage { input: 40, cache_write: 40, output: 20, ..Usage::default() };
    assert_eq!(quota.settle(held, price.units(&written), MONDAY).used, 100);
}

#[test]
fn what_the_endpoint_would_not_take_for_a_limit_is_refused() {
    let (quota, none) = (QuotaState::default(), rule(56, QuotaReset::None));
    let responses = Charge { least_output: 16, ..charge(41, 300, 1) };
    let refused = quota.reserve(none, &responses, true, MONDAY).map(drop);
    assert_eq!(refused, Err(Refusal::QuotaSpent { limit: 56, used: 0, asked: 341, resets_in_ns: None }));
    let held = quota.reserve(none, &Charge { least_output: 16, ..charge(40, 300, 1) }, true, MONDAY).unwrap();
    assert_eq!(held.clamp(), Some(16));
    assert_eq!(quota.settle(held, 0, MONDAY).used, 0);
}

#[test]
fn a_look_by_an_older_rule_changes_nothing() {
    let (quota, monthly) = (QuotaState::default(), rule(100, QuotaReset::Monthly));
    assert!(spend(&quota, monthly, 90, MONDAY));
    let held = quota.reserve(monthly, &charge(10, 0, 1), false, MONDAY).unwrap();
    let stale = quota.standing(rule(100, QuotaReset::Daily).unwrap(), MONDAY + DAY);
    assert_eq!((stale.used, stale.reserved), (0, 10));
    let standing = quota.standing(monthly.unwrap(), MONDAY + DAY);
    assert_eq!((standing.used, standing.reserved), (90, 10));
    assert_eq!(quota.count().touched_day, period::day_of(MONDAY));
    quota.settle(held, 10, MONDAY + DAY);
    assert_eq!(quota.used(), 100, "settled by the rule in force");
    assert!(!spend(&quota, monthly, 1, MONDAY + DAY));
}

#[test]
fn absurd_numbers_saturate() {
    let quota = QuotaState::default();
    let dear = Charge { price: Price { input: u64::MAX, ..Price::TOKEN }, ..charge(u64::MAX, 0, 1) };
    let first = quota.reserve(None, &dear, false, i64::MAX).unwrap();
    let second = quota.reserve(None, &dear, false, i64::MIN).unwrap();
    assert_eq!(second.units(), 0, "the counter is full");
    assert_eq!(quota.settle(second, dear.units_of(&Usage { input: u64::MAX, ..Usage::default() }), 0).used, 0);
    assert_eq!(quota.settle(first, u64::MAX, i64::MAX).used, u64::MAX);
    assert_eq!((quota.used(), quota.committed()), (u64::MAX, u64::MAX));
    assert!(quota.reserve(rule(u64::MAX, QuotaReset::None), &charge(1, 0, 1), true, 0).is_err());
}

/// Eight threads spend while the days go by. Nothing may be lost, minted or left held, and no day may see more than its limit.
#[test]
fn periods_turn_under_fire() {
    const LIMIT: u64 = 1_000;
    const DAYS: i64 = 60;
    let quota = Arc::new(QuotaState::default());
    let day = Arc::new(AtomicI64::new(0));
    let daily = rule(LIMIT, QuotaReset::Daily);
    let spenders = (0..8_i64).map(|thread| {
        let (quota, day) = (Arc::clone(&quota), Arc::clone(&day));
        thread::spawn(move || {
            let (mut granted, mut round) = (0_u64, 0_i64);
            loop {
                let today = day.load(Ordering::SeqCst);
                if today >= DAYS {
                    return granted;
                }
                round += 1;
                // Some clocks lag behind by days.
                let at = MONDAY + (today - (round + thread) % 3) * DAY;
                let units = 1 + u64::try_from(round).unwrap() % 7;
                if let Ok(held) = quota.reserve(daily, &charge(units, 0, 1), false, at) {
                    let kept = if round % 5 == 0 { 0 } else { units };
                    granted += quota.settle(held, kept, at).used;
                }
                if thread == 0 && round % 400 == 0 {
                    day.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
    });
    let spenders: Vec<_> = spenders.collect();
    let granted: u64 = spenders.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(quota.used(), quota.committed(), "nothing is left held");
    assert!(quota.used() <= LIMIT);
    // What is held when a day turns may settle in the next: one request a thread at most.
    assert!(granted <= LIMIT * u64::try_from(DAYS + 1).unwrap() + 8 * 7 * u64::try_from(DAYS).unwrap());
    assert!(granted > LIMIT, "more than one day was granted");
}

/// A count that began on the day of its last touch.
fn count(used: Units, unix_ms: i64) -> QuotaCount {
    let day = period::day_of(unix_ms);
    QuotaCount { used, since_day: day, touched_day: day }
}

#[test]
fn books_that_hear_of_settlements_in_any_order_come_to_the_count() {
    let (quota, daily) = (QuotaState::default(), rule(u64::MAX, QuotaReset::Daily));
    let mut told = Vec::new();
    for (units, at) in
        [(3, MONDAY), (4, MONDAY), (5, MONDAY + DAY), (6, MONDAY + DAY), (0, MONDAY + 2 * DAY), (7, MONDAY)]
    {
        let held = quota.reserve(daily, &charge(units, 0, 1), false, at).unwrap();
        told.push(quota.settle(held, units, at));
    }
    assert_eq!(quota.count().used, 7, "a clock set back adds to the day it had come to");
    for turn in 0..told.len() {
        let mut books = QuotaCount::default();
        told.rotate_left(turn);
        told.iter().for_each(|counted| books.add(*counted));
        told.reverse();
        assert_eq!(books, quota.count());
    }
}

#[test]
fn a_turn_amid_settlements_loses_and_doubles_nothing() {
    let daily = rule(u64::MAX, QuotaReset::Daily);
    for round in 0..50 {
        let (quota, at) = (QuotaState::default(), MONDAY + round * DAY);
        let told: Vec<QuotaCount> = std::thread::scope(|scope| {
            let spender = |day: i64| {
                let quota = &quota;
                scope.spawn(move || {
                    let one = |_| {
                        let held = quota.reserve(daily, &charge(1, 0, 1), false, at + day * DAY).unwrap();
                        quota.settle(held, 1, at + day * DAY)
                    };
                    (0..200).map(one).collect::<Vec<_>>()
                })
            };
            let spenders = [spender(0), spender(0), spender(1)];
            spenders.into_iter().flat_map(|spender| spender.join().unwrap()).collect()
        });
        let mut books = QuotaCount::default();
        told.into_iter().for_each(|counted| books.add(counted));
        assert_eq!(books, quota.count(), "round {round}");
        assert_eq!(quota.committed(), quota.used());
    }
}
