//! Requests per minute: governor (GCRA), with its state and its time in our hands.
//!
//! governor's limiter is made anew for every check (two numbers and a division) around one atomic word that belongs to the
//! key. So the state survives a change of the limit, can be looked at, and time stays an argument. As in `bucket`, the state
//! is a moment in time: a changed limit keeps the fraction in use.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::clock::NS_PER_MINUTE;
use crate::policy::Gauge;
use crate::units::Rpm;

/// The latest moment told apart from later ones (292 years); beyond it governor's own sums could overflow.
const LATEST: u64 = u64::MAX / 2;

/// Requests of one key.
#[derive(Debug, Default)]
pub struct Requests {
    /// The moment at which all of the allowance is there again, in nanoseconds of the monotonic clock.
    full_at: AtomicU64,
    /// The last moment at which a request found all of it there: whatever was counted before is repaid since.
    full_since: AtomicU64,
}

/// A request that was counted: what [`Requests::give_back`] needs to know of it.
#[derive(Debug)]
pub struct Counted {
    at: u64,
    interval: u64,
    /// When it will be repaid, if nothing before it is given back.
    repaid_at: u64,
}

impl Requests {
    /// Counts one request.
    ///
    /// # Errors
    /// Nanoseconds until one may be made, exactly; nothing is counted. Never 0.
    pub fn take(&self, limit: Rpm, now_ns: u64) -> Result<Counted, NonZeroU64> {
        let given = Given(Cell::new(0));
        let moved = Cell::new((0, 0));
        // The limiter takes its first reading as the origin of its state: zero, so that the state is a moment of our clock.
        let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(
            quota(limit),
            Word { full_at: &self.full_at, moved: &moved },
            given,
        );
        let now_ns = now_ns.min(LATEST);
        limiter.clock().0.set(now_ns);
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(Nanos::from(now_ns)).as_nanos();
            u64::try_from(wait).ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN)
        })?;
        let (before, repaid_at) = moved.get();
        if before <= now_ns {
            self.full_since.fetch_max(now_ns, Ordering::AcqRel);
        }
        Ok(Counted { at: now_ns, interval: interval_ns(limit), repaid_at })
    }

    /// Takes back what was counted, as far as time has not repaid it already: paid back twice, it would let more through than the
    /// limit. Right after it was counted that is all of it.
    pub fn give_back(&self, counted: &Counted, now_ns: u64) {
        let now_ns = now_ns.min(LATEST);
        if counted.at < self.full_since.load(Ordering::Acquire) {
            return;
        }
        let owed = counted.repaid_at.saturating_sub(now_ns).min(counted.interval);
        let back = |full_at: u64| Some(full_at - owed.min(full_at.saturating_sub(now_ns)));
        let _always = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, back);
    }

    /// Where the limit stands; changes nothing.
    pub fn gauge(&self, limit: Rpm, now_ns: u64) -> Gauge {
        let used = self.full_at.load(Ordering::Acquire).saturating_sub(now_ns.min(LATEST));
        let interval = interval_ns(limit);
        let all = interval * u64::from(limit.get());
        Gauge { limit: limit.get().into(), remaining: all.saturating_sub(used) / interval, reset_ns: used }
    }
}

/// One request every `60 s / limit`, rounded up to the nanosecond: rounded down, as `Quota::per_minute` has it, a key would get
/// one more in a minute than POLICY 4 allows. At most a 61st slower at the largest limits, one in 60,000 at a million a minute.
fn interval_ns(limit: Rpm) -> u64 {
    NS_PER_MINUTE.div_ceil(u64::from(limit.get()))
}

fn quota(limit: Rpm) -> Quota {
    let quota =
        Quota::with_period(Duration::from_nanos(interval_ns(limit))).unwrap_or(Quota::per_minute(limit.non_zero()));
    quota.allow_burst(limit.non_zero())
}

/// A clock that says what it was told.
struct Given(Cell<u64>);

impl GovernorClock for Given {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.get())
    }
}

/// The key's word as governor's store. Zero, the start, is long ago, which is what governor takes "no state" for.
struct Word<'a> {
    full_at: &'a AtomicU64,
    /// What the word was and became.
    moved: &'a Cell<(u64, u64)>,
}

impl StateStore for Word<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = self.full_at.load(Ordering::Acquire);
        loop {
            let (outcome, next) = decide(Some(Nanos::from(seen)))?;
            match self.full_at.compare_exchange_weak(seen, next.into(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.moved.set((seen, next.into()));
                    return Ok(outcome);
                }
                Err(other) => seen = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NS_PER_SECOND;
    use proptest::prelude::*;

    const T0: u64 = NS_PER_MINUTE;

    fn rpm(n: u32) -> Rpm {
        Rpm::new(n).unwrap()
    }

    #[test]
    fn a_burst_of_the_limit_then_one_an_interval() {
        let (requests, limit) = (Requests::default(), rpm(60));
        assert!((0..60).all(|_| requests.take(limit, T0).is_ok()));
        assert_eq!(requests.take(limit, T0).map(drop).map_err(NonZeroU64::get), Err(NS_PER_SECOND));
        assert_eq!(requests.gauge(limit, T0), Gauge { limit: 60, remaining: 0, reset_ns: 60 * NS_PER_SECOND });
        assert!(requests.take(limit, T0 + NS_PER_SECOND).is_ok());
        assert!(requests.take(limit, T0 + NS_PER_SECOND).is_err());
    }

    #[test]
    fn requests_given_back_are_there_again_whatever_their_order() {
        let (requests, limit) = (Requests::default(), rpm(60));
        let mut counted: Vec<_> = (0..60).map(|_| requests.take(limit, T0).unwrap()).collect();
        counted.swap(3, 40);
        counted.iter().rev().for_each(|one| requests.give_back(one, T0));
        assert_eq!(requests.gauge(limit, T0), Gauge { limit: 60, remaining: 60, reset_ns: 0 });
        assert!((0..60).all(|_| requests.take(limit, T0).is_ok()));
        assert!(requests.take(limit, T0).is_err());
    }

    #[test]
    fn what_time_has_repaid_is_not_given_back_again() {
        let (requests, limit) = (Requests::default(), rpm(60));
        let early = requests.take(limit, T0).unwrap();
        let half = T0 + NS_PER_SECOND / 2;
        requests.give_back(&early, half);
        assert_eq!(requests.gauge(limit, half).reset_ns, 0);
        let all: Vec<_> = (0..60).map(|_| requests.take(limit, half).unwrap()).collect();
        all.iter().take(59).for_each(|one| requests.give_back(one, half));
        // The allowance is whole again before the last of them ends, and taken whole once more.
        let later = half + 30 * NS_PER_SECOND;
        assert!((0..60).all(|_| requests.take(limit, later).is_ok()));
        all.iter().skip(59).for_each(|one| requests.give_back(one, later));
        assert!(requests.take(limit, later).is_err());
    }

    #[test]
    fn a_changed_limit_keeps_the_fraction_in_use() {
        let requests = Requests::default();
        assert!((0..5).all(|_| requests.take(rpm(10), T0).is_ok()));
        assert_eq!(requests.gauge(rpm(1_000), T0).remaining, 500, "raised: no fresh bucket");
        assert_eq!(requests.gauge(rpm(2), T0).remaining, 1, "lowered");
        assert!(requests.take(rpm(2), T0).is_ok());
        assert!(requests.take(rpm(2), T0).is_err());
    }

    #[test]
    fn the_ends_of_the_ranges_neither_wrap_nor_panic() {
        for limit in [1, 7, 599_999_999, Rpm::MAX] {
            let requests = Requests::default();
            assert!(requests.take(rpm(limit), u64::MAX).is_ok());
            assert!(requests.gauge(rpm(limit), u64::MAX).remaining < u64::from(limit));
            assert!(requests.take(rpm(limit), 0).is_err() || limit > 1);
        }
    }

    /// Moments of admitted requests when `asks` (waits in nanoseconds) come one after the other.
    fn admitted(limit: Rpm, asks: &[u64]) -> Vec<u64> {
        let (requests, mut now, mut times) = (Requests::default(), T0, Vec::new());
        for wait in asks {
            now += wait;
            if requests.take(limit, now).is_ok() {
                times.push(now);
            }
        }
        times
    }

    proptest! {
        #[test]
        fn the_bounds_of_the_policy_hold_in_every_window(
            limit in 1_u32..40, waits in prop::collection::vec(prop_oneof![Just(0), 0_u64..9_000_000_000], 1..400),
        ) {
            let times = admitted(rpm(limit), &waits);
            let limit = u64::from(limit);
            for (i, from) in times.iter().enumerate() {
                for (j, to) in times.iter().enumerate().skip(i) {
                    let (count, span) = ((j - i + 1) as u64, to - from);
                    if span < NS_PER_MINUTE {
                        prop_assert!(count < 2 * limit);
                    }
                    prop_assert!(u128::from(count) * u128::from(NS_PER_MINUTE)
                        <= u128::from(limit) * u128::from(NS_PER_MINUTE + span));
                }
            }
        }

        #[test]
        fn a_flood_never_gets_the_one_too_many_that_a_truncated_interval_gives(limit in 1_u32..3_000) {
            let limit = rpm(limit);
            let requests = Requests::default();
            let mut count = (0..limit.get()).filter(|_| requests.take(limit, T0).is_ok()).count() as u64;
            let mut now = T0;
            while let Err(wait) = requests.take(limit, now) {
                now += wait.get();
                if now >= T0 + NS_PER_MINUTE {
                    break;
                }
                prop_assert!(requests.take(limit, now).is_ok());
                count += 1;
            }
            prop_assert_eq!(count, 2 * u64::from(limit.get()) - 1);
        }

        #[test]
        fn retry_after_and_remaining_are_exact(
            limit in 1_u32..=200_000, taken in 0_u32..300, wait in 0_u64..2_000_000_000,
        ) {
            let (requests, limit) = (Requests::default(), rpm(limit));
            let ok = (0..taken).filter(|_| requests.take(limit, T0).is_ok()).count() as u64;
            prop_assert_eq!(requests.gauge(limit, T0).remaining, u64::from(limit.get()) - ok);
            let now = T0 + wait;
            let gauge = requests.gauge(limit, now);
            if gauge.remaining < 400 {
                prop_assert!((0..gauge.remaining).all(|_| requests.take(limit, now).is_ok()));
                let refused = requests.take(limit, now);
                prop_assert!(refused.is_err());
                let wait = refused.unwrap_err().get();
                prop_assert!(requests.take(limit, now + wait - 1).is_err());
                prop_assert!(requests.take(limit, now + wait).is_ok());
            }
        }
    }
}
