//! What may be tried again, how often and when. Pure: time and chance are arguments.
//!
//! A request is tried again only where nothing of it was accepted, or where the operator says that an answer means the same. Each
//! request earns its pool a share of a retry, so that in a bad hour retries add that share to the load and not a multiple of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::NS_PER_SECOND;

/// Retries a second that a pool has in any case, so that a quiet one is not without.
pub const FLOOR_PER_SECOND: u32 = 10;

/// The most retries that can be saved up.
pub const MOST_SAVED: u64 = 100;

/// One retry, in the parts in which it is earned: a hundredth for each percent.
const RETRY: u64 = 100;

/// The first wait before another attempt at the same endpoint, and the longest.
const FIRST_WAIT_NS: u64 = 25_000_000;
const LONGEST_WAIT_NS: u64 = 250_000_000;

/// The retries a pool has left; workers share it.
#[derive(Debug)]
pub struct Budget {
    /// Hundredths of a retry earned with requests of which each brings this many.
    percent: u32,
    saved: AtomicU64,
    /// The second of the monotonic clock in the upper half, and what it has given of the floor in the lower.
    given: AtomicU64,
}

impl Budget {
    /// Full; each request brings `percent` hundredths of a retry.
    pub fn new(percent: u32) -> Self {
        Self { percent, saved: AtomicU64::new(MOST_SAVED * RETRY), given: AtomicU64::new(0) }
    }

    /// A request came. While the budget is full this is one look at it.
    pub fn earn(&self) {
        let saved = self.saved.load(Ordering::Relaxed);
        if saved < MOST_SAVED * RETRY {
            // Two workers may pass the bound by one share; it is none of anybody's harm.
            self.saved.fetch_add(u64::from(self.percent), Ordering::Relaxed);
        }
    }

    /// Takes a retry at `now_ns`, first of what the second gives, then of what was earned. False when there is none.
    pub fn spend(&self, now_ns: u64) -> bool {
        let second = (now_ns / NS_PER_SECOND) & u64::from(u32::MAX);
        let of_floor = self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given| {
            let count = if given >> 32 == second { given & u64::from(u32::MAX) } else { 0 };
            (count < u64::from(FLOOR_PER_SECOND)).then_some(second << 32 | (count + 1))
        });
        of_floor.is_ok()
            || self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(RETRY)).is_ok()
    }
}

/// How long to wait before attempt `again` (1 is the first retry) at an endpoint that has been asked already: doubling, and anything from
/// half of that to all of it as `random` says, so that those who failed together do not come back together.
pub fn wait(again: u32, random: u64) -> Duration {
    let full = FIRST_WAIT_NS.saturating_mul(1 << again.saturating_sub(1).min(16)).min(LONGEST_WAIT_NS);
    Duration::from_nanos(full / 2 + random % (full / 2 + 1))
}

/// The numbers that [`wait`] is given: one after the other, none of them a secret (SplitMix64).
#[derive(Debug)]
pub struct Dice(std::cell::Cell<u64>);

impl Dice {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(std::cell::Cell::new(seed))
    }

    /// The next one.
    pub fn roll(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The retries there are at one moment.
    fn drain(budget: &Budget, now_ns: u64) -> u64 {
        (0..10_000).take_while(|_| budget.spend(now_ns)).count() as u64
    }

    #[test]
    fn a_full_budget_gives_what_is_saved_and_the_floor_of_its_second() {
        let budget = Budget::new(20);
        (0..1_000).for_each(|_| budget.earn());
        assert_eq!(drain(&budget, 0), MOST_SAVED + u64::from(FLOOR_PER_SECOND));
        assert_eq!(drain(&budget, NS_PER_SECOND - 1), 0);
        assert_eq!(drain(&budget, NS_PER_SECOND), u64::from(FLOOR_PER_SECOND));
    }

    #[test]
    fn five_requests_earn_one_retry() {
        let budget = Budget::new(20);
        drain(&budget, 0);
        (0..4).for_each(|_| budget.earn());
        assert!(!budget.spend(0));
        budget.earn();
        assert!(budget.spend(0) && !budget.spend(0));
    }

    #[test]
    fn without_a_share_there_is_the_floor_alone() {
        let budget = Budget::new(0);
        drain(&budget, 0);
        (0..1_000).for_each(|_| budget.earn());
        assert_eq!(drain(&budget, 5 * NS_PER_SECOND), u64::from(FLOOR_PER_SECOND));
    }

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let dice = Dice::new(7);
        let rolls = (0..100).map(|_| wait(1, dice.roll())).collect::<Vec<_>>();
        assert!(rolls.iter().all(|wait| (12_500..=25_000).contains(&wait.as_micros())));
        assert!(rolls.windows(2).any(|pair| pair[0] != pair[1]));
        assert!(wait(2, dice.roll()) >= Duration::from_millis(25));
        assert!(wait(u32::MAX, dice.roll()) <= Duration::from_nanos(LONGEST_WAIT_NS));
    }

    proptest! {
        /// Over any run of requests and retries, retries are at most what was saved at first, the share of the requests, and the floor of the
        /// seconds that passed.
        #[test]
        fn retries_never_pass_their_share(
            percent in 0_u32..=100,
            steps in prop::collection::vec((any::<bool>(), 0_u64..NS_PER_SECOND / 4), 0..2_000),
        ) {
            let budget = Budget::new(percent);
            let (mut now_ns, mut requests, mut retries) = (0_u64, 0_u64, 0_u64);
            for (is_request, pass) in steps {
                now_ns += pass;
                if is_request {
                    requests += 1;
                    budget.earn();
                } else {
                    retries += u64::from(budget.spend(now_ns));
                }
            }
            let seconds = now_ns / NS_PER_SECOND + 1;
            let most = MOST_SAVED + requests * u64::from(percent) / RETRY + seconds * u64::from(FLOOR_PER_SECOND);
            prop_assert!(retries <= most);
        }
    }
}
