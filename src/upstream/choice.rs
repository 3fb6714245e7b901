//! Which endpoint of a pool gets a request: the one with the fewest under way for its weight. Pure.

use crate::upstream::health::{Health, State};

/// The most endpoints a pool can have: those tried are remembered as bits.
pub const MOST_ENDPOINTS: usize = 64;

/// The endpoints that a request has been to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// Notes one.
    pub fn add(&mut self, index: usize) {
        self.0 |= 1_u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    /// Whether it was there.
    pub fn has(self, index: usize) -> bool {
        let bit = u32::try_from(index).ok().and_then(|index| self.0.checked_shr(index));
        bit.is_some_and(|bits| bits & 1 == 1)
    }
}

/// What may be chosen beside endpoints in service that were not tried yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leave {
    /// One that was tried, where no other is left.
    pub to_repeat: bool,
    /// One that is ejected, where no other is left: nobody else serves the request.
    pub to_insist: bool,
}

/// An endpoint at which the request is counted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub index: usize,
    /// Whether this request tries one that was ejected.
    pub is_trial: bool,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// All are ejected, or were tried.
    Out,
    /// All that are left have as many requests under way as they may have.
    Busy,
}

/// Chooses an endpoint and counts the request there. An ejected one whose time is over comes first: somebody has to try it. Between
/// equals the first from `start` on gets it, so that a quiet pool is used evenly, too.
///
/// # Errors
/// Why there is none.
pub fn choose(
    health: &Health,
    weights: &[u32],
    start: usize,
    tried: Tried,
    leave: Leave,
    now_ns: u64,
) -> Result<Chosen, Closed> {
    let (mut passed, mut on_trial) = (Tried::default(), Tried::default());
    let mut is_busy = false;
    loop {
        let seen = Seen { tried, passed, on_trial };
        let Some((rank, index)) = best(health, weights, start, seen, leave, now_ns) else {
            return Err(if is_busy { Closed::Busy } else { Closed::Out });
        };
        let is_trial = rank == Rank::Trial;
        if is_trial && !health.begin_trial(index, now_ns) {
            // Somebody else tries it: for this request it is ejected still.
            on_trial.add(index);
            continue;
        }
        passed.add(index);
        if health.enter(index) {
            return Ok(Chosen { index, is_trial });
        }
        if is_trial {
            health.trial_abandoned(index);
        }
        is_busy = true;
    }
}

/// In what order endpoints are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Trial,
    Fresh,
    Repeated,
    Ejected,
    EjectedRepeated,
}

/// What a request has found out while it chooses.
#[derive(Debug, Clone, Copy)]
struct Seen {
    tried: Tried,
    /// Those that have no room.
    passed: Tried,
    /// Those that another request tries.
    on_trial: Tried,
}

fn best(
    health: &Health,
    weights: &[u32],
    start: usize,
    seen: Seen,
    leave: Leave,
    now_ns: u64,
) -> Option<(Rank, usize)> {
    let mut best: Option<(Rank, usize)> = None;
    for step in 0..weights.len() {
        let index = (start + step) % weights.len();
        if seen.passed.has(index) {
            continue;
        }
        let state = match health.state(index, now_ns) {
            State::TrialDue if seen.on_trial.has(index) => State::Ejected,
            state => state,
        };
        let rank = match (state, seen.tried.has(index)) {
            (State::TrialDue, false) => Rank::Trial,
            (State::InService, false) => Rank::Fresh,
            (State::InService, true) if leave.to_repeat => Rank::Repeated,
            (State::Ejected, false) if leave.to_insist => Rank::Ejected,
            (State::Ejected | State::TrialDue, true) if leave.to_insist && leave.to_repeat => Rank::EjectedRepeated,
            _ => continue,
        };
        let is_better = best.is_none_or(|(best_rank, other)| match rank.cmp(&best_rank) {
            std::cmp::Ordering::Equal => is_lighter(health, weights, index, other),
            order => order.is_lt(),
        });
        if is_better {
            best = Some((rank, index));
        }
    }
    best
}

/// Whether `index` has fewer requests for its weight than `other`.
fn is_lighter(health: &Health, weights: &[u32], index: usize, other: usize) -> bool {
    let weight = |index: usize| u64::from(weights.get(index).copied().unwrap_or(1));
    let load = |index| u64::from(health.outstanding(index));
    load(index) * weight(other) < load(other) * weight(index)
}

/// The endpoint that a ticket, a number that counts up, falls on: in every run of as many tickets as all weights together each
/// endpoint has as many as its weight.
pub fn by_ticket(weights: &[u32], ticket: u32) -> usize {
    let total: u32 = weights.iter().sum();
    let mut left = ticket.checked_rem(total).unwrap_or(0);
    for (index, weight) in weights.iter().enumerate() {
        if left < *weight {
            return index;
        }
        left -= weight;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::health::{HealthSettings, Trouble};
    use proptest::prelude::*;

    fn health(endpoints: usize, most: Option<u32>) -> Health {
        Health::new(
            endpoints,
            HealthSettings {
                eject_after: 1,
                eject_ns: 10,
                max_ejected_percent: 100,
                max_outstanding: most,
                max_outstanding_of_pool: None,
            },
        )
    }

    fn pick(health: &Health, weights: &[u32], tried: Tried, leave: Leave, now_ns: u64) -> Result<usize, Closed> {
        choose(health, weights, 0, tried, leave, now_ns).map(|chosen| chosen.index)
    }

    const REPEAT: Leave = Leave { to_repeat: true, to_insist: false };
    const INSIST: Leave = Leave { to_repeat: true, to_insist: true };

    #[test]
    fn the_fewest_for_their_weight_get_the_next() {
        let health = health(3, None);
        let weights = [1, 3, 1];
        let mut counts = [0; 3];
        for _ in 0..50 {
            counts[pick(&health, &weights, Tried::default(), Leave::default(), 0).unwrap()] += 1;
        }
        assert_eq!(counts, [10, 30, 10]);
    }

    #[test]
    fn a_quiet_pool_is_used_by_weight_in_turn() {
        let taken = (0..10).map(|ticket| by_ticket(&[2, 1, 2], ticket)).collect::<Vec<_>>();
        assert_eq!(taken, [0, 0, 1, 2, 2, 0, 0, 1, 2, 2]);
        assert_eq!(by_ticket(&[], 7), 0);
    }

    #[test]
    fn those_not_tried_come_first_and_those_tried_only_where_that_is_left() {
        let health = health(2, None);
        let mut tried = Tried::default();
        tried.add(0);
        assert_eq!(pick(&health, &[1, 1], tried, Leave::default(), 0), Ok(1));
        tried.add(1);
        assert_eq!(pick(&health, &[1, 1], tried, Leave::default(), 0), Err(Closed::Out));
        assert_eq!(pick(&health, &[1, 1], tried, REPEAT, 0), Ok(0));
    }

    #[test]
    fn the_ejected_are_passed_over_until_one_request_may_try() {
        let health = health(2, None);
        health.failed(0, Trouble::Unreachable, false, 0);
        for _ in 0..5 {
            assert_eq!(pick(&health, &[1, 1], Tried::default(), Leave::default(), 5), Ok(1));
        }
        let trial = choose(&health, &[1, 1], 0, Tried::default(), Leave::default(), 10);
        assert_eq!(trial, Ok(Chosen { index: 0, is_trial: true }));
        let next = choose(&health, &[1, 1], 0, Tried::default(), Leave::default(), 10);
        assert_eq!(next, Ok(Chosen { index: 1, is_trial: false }));
    }

    #[test]
    fn with_all_ejected_there_is_none_unless_somebody_insists() {
        let health = health(1, None);
        health.failed(0, Trouble::Unreachable, false, 0);
        assert_eq!(pick(&health, &[1], Tried::default(), REPEAT, 5), Err(Closed::Out));
        assert_eq!(pick(&health, &[1], Tried::default(), INSIST, 5), Ok(0));
    }

    #[test]
    fn somebody_who_insists_does_not_wait_for_the_one_that_tries() {
        let health = health(1, None);
        health.failed(0, Trouble::Unreachable, false, 0);
        let trial = choose(&health, &[1], 0, Tried::default(), INSIST, 10);
        assert_eq!(trial, Ok(Chosen { index: 0, is_trial: true }));
        assert_eq!(choose(&health, &[1], 0, Tried::default(), REPEAT, 10), Err(Closed::Out));
        let beside = choose(&health, &[1], 0, Tried::default(), INSIST, 10);
        assert_eq!(beside, Ok(Chosen { index: 0, is_trial: false }));
    }

    #[test]
    fn where_no_more_fit_it_is_busy() {
        let health = health(2, Some(1));
        assert_eq!(pick(&health, &[1, 1], Tried::default(), REPEAT, 0), Ok(0));
        assert_eq!(pick(&health, &[1, 1], Tried::default(), REPEAT, 0), Ok(1));
        assert_eq!(pick(&health, &[1, 1], Tried::default(), REPEAT, 0), Err(Closed::Busy));
        health.leave(1);
        assert_eq!(pick(&health, &[1, 1], Tried::default(), REPEAT, 0), Ok(1));
    }

    proptest! {
        /// Whatever is under way, no endpoint in service that is chosen has more for its weight than another has.
        #[test]
        fn nobody_lighter_is_passed_over(
            weights in prop::collection::vec(1_u32..100, 1..8),
            ended in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
            start in any::<u32>(),
        ) {
            let health = health(weights.len(), None);
            for (round, ended) in ended.into_iter().enumerate() {
                let before = (0..weights.len()).map(|index| health.outstanding(index)).collect::<Vec<_>>();
                let start = by_ticket(&weights, start.wrapping_add(u32::try_from(round).unwrap()));
                let chosen = choose(&health, &weights, start, Tried::default(), Leave::default(), 0).unwrap().index;
                for (other, load) in before.iter().enumerate() {
                    prop_assert!(before[chosen] * weights[other] <= load * weights[chosen]);
                }
                let leaves = ended.index(weights.len() * 2);
                if leaves < weights.len() && health.outstanding(leaves) > 0 {
                    health.leave(leaves);
                }
            }
        }
    }
}
