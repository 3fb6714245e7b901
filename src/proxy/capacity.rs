//! How many requests may be under way at once in all workers together.
//!
//! While there is room for many more, a worker takes it by the handful, so that not every request writes to memory that all workers write
//! to. Where little is left each request takes its own place and gives it back: of the last places none lies idle with another worker.
//! Never are there more than there may be.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places that a worker takes at a time while there are many.
const HANDFUL: u64 = 16;

/// With no more left than this, each is taken by itself.
const FEW: u64 = 1_024;

/// The places that are taken, by requests or by workers for those to come.
#[derive(Debug, Default)]
pub struct Capacity {
    taken: AtomicU64,
}

/// The places that one worker has taken for requests to come.
#[derive(Debug, Default)]
pub struct Spare {
    held: Cell<u64>,
    /// The most that there may be under way, as this worker last knew it.
    most: Cell<u64>,
}

impl Capacity {
    /// Takes a place of `most` for a request; false where there is none. To be [given back](Self::give_back).
    pub fn take(&self, spare: &Spare, most: u64) -> bool {
        if spare.most.get() != most {
            // Put by of more, or of fewer, than there may be now.
            self.trim(spare, most);
        }
        if let Some(left) = spare.held.get().checked_sub(1) {
            spare.held.set(left);
            return true;
        }
        let wanted = if self.is_ample(most) { HANDFUL } else { 1 };
        let more = |taken: u64| taken.checked_add(wanted).filter(|sum| *sum <= most);
        let has_some = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        if has_some {
            spare.held.set(wanted - 1);
        }
        has_some
    }

    /// Gives the place of a request that has ended back.
    pub fn give_back(&self, spare: &Spare) {
        spare.held.set(spare.held.get() + 1);
        self.trim(spare, spare.most.get());
    }

    /// Gives back what a worker has too many of; all, where little is left.
    pub fn trim(&self, spare: &Spare, most: u64) {
        spare.most.set(most);
        let held = spare.held.get();
        let kept = match self.is_ample(most) {
            true if held < 2 * HANDFUL => held,
            true => HANDFUL,
            false => 0,
        };
        if kept < held {
            self.taken.fetch_sub(held - kept, Ordering::AcqRel);
            spare.held.set(kept);
        }
    }

    fn is_ample(&self, most: u64) -> bool {
        most.saturating_sub(self.taken.load(Ordering::Relaxed)) > FEW
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_few_places_each_is_to_be_had_by_any_worker() {
        let (capacity, one, other) = (Capacity::default(), Spare::default(), Spare::default());
        assert!(capacity.take(&one, 3) && capacity.take(&other, 3) && capacity.take(&one, 3));
        assert!(!capacity.take(&one, 3) && !capacity.take(&other, 3));
        capacity.give_back(&one);
        assert!(capacity.take(&other, 3) && !capacity.take(&one, 3));
    }

    #[test]
    fn what_was_put_by_is_none_of_fewer() {
        let (capacity, worker) = (Capacity::default(), Spare::default());
        assert!((0..20).all(|_| capacity.take(&worker, 10_000)));
        // A reload allows no more than are under way.
        assert!(!capacity.take(&worker, 20), "put by of more");
        capacity.give_back(&worker);
        assert!(capacity.take(&worker, 20) && !capacity.take(&worker, 20), "one has ended, and one has begun");
    }

    #[test]
    fn what_was_put_by_is_given_back_where_it_becomes_scarce() {
        let (capacity, idle, busy) = (Capacity::default(), Spare::default(), Spare::default());
        assert!(capacity.take(&idle, 10_000));
        capacity.give_back(&idle);
        assert_eq!((idle.held.get(), capacity.taken.load(Ordering::Relaxed)), (HANDFUL, HANDFUL));
        while capacity.take(&busy, 10_000) {}
        capacity.trim(&idle, 10_000);
        assert_eq!(idle.held.get(), 0);
        assert_eq!((0..).take_while(|_| capacity.take(&busy, 10_000)).count() as u64, HANDFUL);
    }

    #[test]
    fn workers_at_once_never_have_more_than_there_are() {
        let most = 2_000;
        let (capacity, start) = (Capacity::default(), Barrier::new(8));
        let all: u64 = thread::scope(|scope| {
            let work = || {
                let spare = Spare::default();
                start.wait();
                let mut held = 0;
                for round in 0..2_000_u64 {
                    if round % 5 < 4 {
                        held += u64::from(capacity.take(&spare, most));
                    } else if held > 0 {
                        capacity.give_back(&spare);
                        held -= 1;
                    }
                    assert!(capacity.taken.load(Ordering::Acquire) <= most);
                }
                (held, spare.held.get())
            };
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).map(|(held, spare)| held + spare).sum()
        });
        assert_eq!(all, capacity.taken.load(Ordering::Relaxed));
    }

    proptest! {
        #[test]
        fn what_is_held_and_put_by_is_what_is_taken(
            most in 0_u64..3_000,
            steps in prop::collection::vec((0_usize..3, 0_u8..8), 0..400),
        ) {
            let capacity = Capacity::default();
            let workers: [(Spare, Cell<u64>); 3] = Default::default();
            for (worker, step) in steps {
                let (spare, held) = &workers[worker];
                match step {
                    0 => capacity.trim(spare, most),
                    1 | 2 if held.get() > 0 => {
                        capacity.give_back(spare);
                        held.set(held.get() - 1);
                    }
                    _ => held.set(held.get() + u64::from(capacity.take(spare, most))),
                }
                let sum: u64 = workers.iter().map(|(spare, held)| spare.held.get() + held.get()).sum();
                prop_assert_eq!(sum, capacity.taken.load(Ordering::Relaxed));
                prop_assert!(sum <= most);
            }
        }
    }
}
