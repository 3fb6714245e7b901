//! The bucket against an ideal one that knows the future.

use proptest::prelude::*;

use super::*;
use crate::clock::NS_PER_SECOND;

fn tpm(n: u64) -> Tpm {
    Tpm::new(n).unwrap()
}

const T0: u64 = NS_PER_MINUTE;

#[test]
fn a_reservation_voided_after_refill_cannot_be_spent_a_second_time() {
    let (limit, mut bucket) = (tpm(1_000), Bucket::default());
    let held = bucket.take(limit, 500, T0).unwrap();
    let later = T0 + 30 * NS_PER_SECOND;
    let real = bucket.take(limit, 900, later).unwrap();
    bucket.settle(held, 0, later);
    assert_eq!(bucket.level().remaining(limit, later), 100, "as if the voided one had never been");
    bucket.settle(real, 900, later);
    assert_eq!(bucket.level().remaining(limit, later), 100);
}

#[test]
fn two_voids_one_after_the_other_mint_nothing() {
    // Positions must move up when a stretch before them is cut out; recorded ones would give back 25 s here, not 5.
    let (limit, mut bucket) = (tpm(60), Bucket::default());
    let at = |seconds: u64| T0 + seconds * NS_PER_SECOND;
    let a = bucket.take(limit, 30, at(0)).unwrap();
    let b = bucket.take(limit, 30, at(0)).unwrap();
    bucket.settle(a, 0, at(10));
    assert_eq!(bucket.level().full_in_ns(at(10)), 30 * NS_PER_SECOND);
    let c = bucket.take(limit, 30, at(20)).unwrap();
    bucket.settle(b, 0, at(35));
    assert_eq!(bucket.level().full_in_ns(at(35)), 30 * NS_PER_SECOND);
    bucket.settle(c, 30, at(35));
}

#[test]
fn an_immediate_void_is_exact_whatever_came_between() {
    let (limit, mut bucket) = (tpm(7_919), Bucket::default());
    let first = bucket.take(limit, 1_234, T0).unwrap();
    let before = bucket.level().full_in_ns(T0 + 5);
    let void = bucket.take(limit, 4_321, T0 + 5).unwrap();
    let other = bucket.take(limit, 17, T0 + 5).unwrap();
    bucket.settle(void, 0, T0 + 5);
    bucket.settle(other, 0, T0 + 5);
    assert_eq!(bucket.level().full_in_ns(T0 + 5), before);
    bucket.settle(first, 1_234, T0 + 5);
    assert_eq!(bucket.level().full_in_ns(T0 + 5), before);
}

#[test]
fn an_overrun_is_debt_from_now_and_not_from_a_time_long_gone() {
    let (limit, mut bucket) = (tpm(60), Bucket::default());
    let held = bucket.take(limit, 10, T0).unwrap();
    let later = T0 + 600 * NS_PER_SECOND;
    bucket.settle(held, 100, later);
    assert_eq!(bucket.level().full_in_ns(later), 90 * NS_PER_SECOND);
    assert_eq!(bucket.level().remaining(limit, later), 0);
    let short = bucket.take(limit, 1, later).unwrap_err();
    assert_eq!(short.retry_after_ns, 31 * NS_PER_SECOND);
}

#[test]
fn a_changed_limit_keeps_the_fraction_in_use() {
    let mut bucket = Bucket::default();
    let used = bucket.take(tpm(1_000), 750, T0).unwrap();
    assert_eq!(bucket.level().remaining(tpm(1_000), T0), 250);
    assert_eq!(bucket.level().remaining(tpm(100_000), T0), 25_000, "raised: no fresh bucket");
    assert_eq!(bucket.level().remaining(tpm(8), T0), 2, "lowered");
    bucket.settle(used, 750, T0);
    assert_eq!(bucket.level().remaining(tpm(100_000), T0), 25_000);
}

#[test]
fn absurd_numbers_refuse_and_do_not_wrap() {
    let (limit, mut bucket) = (tpm(1), Bucket::default());
    let held = bucket.take(limit, u64::MAX, u64::MAX).unwrap();
    assert_eq!(held.tokens(), 1);
    assert!(bucket.take(limit, 1, u64::MAX).is_err(), "at the end of time nothing is refilled");
    bucket.settle(held, u64::MAX, u64::MAX);
    assert!(bucket.take(limit, 1, u64::MAX).is_err());
    assert_eq!(bucket.level().remaining(limit, u64::MAX), 0);
}

#[test]
fn all_of_a_limit_can_be_taken_in_single_tokens() {
    for n in [1, 7, 997, 4_801] {
        let (limit, mut bucket) = (tpm(n), Bucket::default());
        let taken: Vec<_> = (0..n).map(|_| bucket.take(limit, 1, T0).unwrap()).collect();
        assert_eq!(taken.len() as u64, n);
        assert!(bucket.take(limit, 1, T0).is_err());
    }
}

/// What one request of the model does: taken at `from`, ended at `to` with `used`.
#[derive(Debug, Clone, Copy)]
struct Life {
    from: u64,
    to: Option<u64>,
    reserved: u64,
    used: u64,
}

/// The debt at `now` of a bucket that charged each request at its start with what it would turn out to use (all it
/// reserved while it is under way), and an overrun when it ended.
fn ideal_debt(limit: Tpm, lives: &[Life], now: u64) -> u64 {
    let mut charges: Vec<(u64, u64)> = Vec::new();
    for life in lives {
        let ended = life.to.is_some_and(|to| to <= now);
        let kept = if ended { life.used.min(life.reserved) } else { life.reserved };
        charges.push((life.from, cost(kept, limit)));
        if let Some(to) = life.to.filter(|_| ended && life.used > life.reserved) {
            charges.push((to, cost(life.used - life.reserved, limit)));
        }
    }
    charges.sort_by_key(|(at, _)| *at);
    let full_at = charges.iter().fold(0_u64, |full_at, (at, cost)| full_at.max(ticks(*at)) + cost);
    full_at.saturating_sub(ticks(now))
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Take(u64),
    Settle(prop::sample::Index, u64),
}

fn steps(overruns: bool) -> impl Strategy<Value = Vec<Step>> {
    let most: u64 = if overruns { 1_500 } else { 1_000 };
    prop::collection::vec(
        prop_oneof![
            (0_u64..40_000_000_000).prop_map(Step::Wait),
            (0_u64..1_200).prop_map(Step::Take),
            (any::<prop::sample::Index>(), 0..most).prop_map(|(which, share)| Step::Settle(which, share)),
        ],
        1..60,
    )
}

/// Runs `steps` and returns every life, having compared the debt with the ideal one after each step.
fn run(limit: Tpm, steps: &[Step]) -> Vec<Life> {
    let (mut bucket, mut now) = (Bucket::default(), T0);
    let (mut lives, mut open): (Vec<Life>, Vec<(usize, Taken)>) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Wait(ns) => now += ns,
            Step::Take(per_mille) => {
                let wanted = limit.get() * per_mille / 1_000;
                if let Ok(taken) = bucket.take(limit, wanted, now) {
                    lives.push(Life { from: now, to: None, reserved: taken.tokens(), used: 0 });
                    open.push((lives.len() - 1, taken));
                }
            }
            Step::Settle(which, per_mille) if !open.is_empty() => {
                let (life, taken) = open.remove(which.index(open.len()));
                let used = taken.tokens() * per_mille / 1_000;
                bucket.settle(taken, used, now);
                lives[life] = Life { to: Some(now), used, ..lives[life] };
            }
            Step::Settle(..) => {}
        }
        let debt = bucket.level().0.saturating_sub(ticks(now));
        let rounding = lives.len() as u64;
        assert!(debt + rounding >= ideal_debt(limit, &lives, now), "credit was minted");
    }
    lives
}

#[test]
fn debt_is_repaid_sooner_under_a_higher_limit_and_no_later_under_a_lower_one() {
    let (low, high) = (tpm(1_000), tpm(1_000_000));
    for is_settled_later in [false, true] {
        let mut bucket = Bucket::default();
        let taken = bucket.take(low, 100, T0).unwrap();
        let mut settled = Some(taken);
        if !is_settled_later {
            bucket.settle(settled.take().unwrap(), 20_000, T0);
            assert_eq!(bucket.level().full_in_ns(T0), 20 * NS_PER_MINUTE);
        }
        let first = bucket.take(high, 900_000, T0).map(drop);
        if let Some(taken) = settled {
            bucket.settle(taken, 20_000, T0);
        }
        let wait = bucket.take(high, 1_000, T0).unwrap_err().retry_after_ns;
        assert!(
            wait <= 62 * NS_PER_MINUTE / 60,
            "19,900 tokens at 1,000,000 a minute, behind a minute: {wait}, {first:?}"
        );
        assert!(bucket.take(high, 1_000, T0 + wait).is_ok(), "that long and no longer");
        let before = bucket.level().full_in_ns(T0);
        let _short = bucket.take(low, 1, T0).unwrap_err();
        assert_eq!(bucket.level().full_in_ns(T0), before);
    }
}

#[test]
fn a_raised_limit_hands_out_no_fresh_bucket() {
    let (low, high, mut bucket) = (tpm(1_000), tpm(1_000_000), Bucket::default());
    let taken = bucket.take(low, 1_000, T0).unwrap();
    bucket.settle(taken, 1_000, T0);
    assert_eq!(bucket.take(high, 1, T0).unwrap_err().remaining, 0);
}

proptest! {
    #[test]
    fn never_more_is_left_than_in_an_ideal_bucket(limit in 1_u64..2_000_000, steps in steps(true)) {
        run(tpm(limit), &steps);
    }

    #[test]
    fn in_any_window_at_most_the_capacity_and_its_refill_is_used(limit in 1_000_u64..100_000, steps in steps(false)) {
        let lives = run(tpm(limit), &steps);
        for first in &lives {
            for last in lives.iter().filter(|life| life.from >= first.from) {
                let inside = lives.iter().filter(|life| life.from >= first.from && life.from <= last.from);
                // What is still under way will use what it reserved.
                let used: u64 = inside.map(|life| if life.to.is_some() { life.used } else { life.reserved }).sum();
                let refill = u128::from(limit) * u128::from(last.from - first.from) / u128::from(NS_PER_MINUTE);
                prop_assert!(u128::from(used) <= u128::from(limit) + refill + 1);
            }
        }
    }

    #[test]
    fn without_giving_back_it_is_the_ideal_bucket(
        limit in 1_u64..2_000_000, asks in prop::collection::vec((0_u64..20_000_000_000, 0_u64..1_000), 1..40),
    ) {
        let (limit, mut bucket, mut now, mut lives) = (tpm(limit), Bucket::default(), T0, Vec::new());
        for (wait, per_mille) in asks {
            now += wait;
            if let Ok(taken) = bucket.take(limit, limit.get() * per_mille / 1_000, now) {
                let used = taken.tokens();
                lives.push(Life { from: now, to: Some(now), reserved: used, used });
                bucket.settle(taken, used, now);
            }
            prop_assert_eq!(bucket.level().0.saturating_sub(ticks(now)), ideal_debt(limit, &lives, now));
        }
    }

    #[test]
    fn retry_after_is_exact_to_the_nanosecond(
        limit in 1_u64..=Tpm::MAX, first in 0_u64..=1_000, ask in 1_u64..=1_000, wait in 0_u64..50_000_000_000,
    ) {
        let limit = tpm(limit);
        let share = |per_mille: u64| (u128::from(limit.get()) * u128::from(per_mille) / 1_000) as u64;
        let mut bucket = Bucket::default();
        let held = bucket.take(limit, share(first), T0).unwrap();
        bucket.settle(held, share(first), T0);
        let now = T0 + wait;
        if let Err(short) = bucket.take(limit, share(ask), now) {
            prop_assert!(short.retry_after_ns > 0 && short.retry_after_ns <= NS_PER_MINUTE);
            prop_assert!(bucket.take(limit, share(ask), now + short.retry_after_ns - 1).is_err());
            prop_assert!(bucket.take(limit, share(ask), now + short.retry_after_ns).is_ok());
        }
    }

    #[test]
    fn what_is_said_to_remain_can_be_taken_and_one_more_cannot(
        limit in 1_u64..=Tpm::MAX, first in 0_u64..=1_000, wait in 0_u64..70_000_000_000,
    ) {
        let limit = tpm(limit);
        let mut bucket = Bucket::default();
        let held = bucket.take(limit, (u128::from(limit.get()) * u128::from(first) / 1_000) as u64, T0).unwrap();
        let now = T0 + wait;
        let remaining = bucket.level().remaining(limit, now);
        if remaining < limit.get() {
            prop_assert!(bucket.take(limit, remaining + 1, now).is_err());
        }
        let all = bucket.take(limit, remaining, now);
        prop_assert!(all.is_ok());
        bucket.settle(held, 0, now);
        prop_assert!(bucket.level().full_in_ns(now + bucket.level().full_in_ns(now)) == 0);
    }
}
