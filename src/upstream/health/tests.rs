//! Ejection and return, one rule at a time, and what holds whatever happens.

use super::*;
use crate::clock::NS_PER_SECOND;
use proptest::prelude::*;

const S: u64 = NS_PER_SECOND;

fn settings() -> HealthSettings {
    HealthSettings {
        eject_after: 3,
        eject_ns: 10 * S,
        max_ejected_percent: 50,
        max_outstanding: None,
        max_outstanding_of_pool: None,
    }
}

fn fail(health: &Health, index: usize, times: usize, now_ns: u64) -> Change {
    (0..times).map(|_| health.failed(index, Trouble::Unreachable, false, now_ns)).last().unwrap()
}

#[test]
fn failures_in_a_row_eject_and_an_answer_in_between_begins_anew() {
    let health = Health::new(2, settings());
    assert_eq!(fail(&health, 0, 2, S), Change::None);
    assert_eq!(health.succeeded(0, || S), Change::None);
    assert_eq!(fail(&health, 0, 2, S), Change::None);
    assert_eq!(health.state(0, S), State::InService);
    assert_eq!(fail(&health, 0, 1, S), Change::Ejected(10 * S));
    assert_eq!((health.state(0, S), health.state(1, S), health.is_whole()), (State::Ejected, State::InService, false));
}

#[test]
fn one_request_tries_an_ejected_endpoint_when_its_time_is_over() {
    let health = Health::new(2, settings());
    fail(&health, 0, 3, 0);
    assert!(!health.begin_trial(0, 10 * S - 1));
    assert!(health.begin_trial(0, 10 * S));
    assert!(!health.begin_trial(0, 11 * S), "one at a time");
    assert_eq!(health.succeeded(0, || 11 * S), Change::Returned);
    assert_eq!((health.state(0, 11 * S), health.is_whole()), (State::InService, true));
    assert!(!health.begin_trial(0, 12 * S), "there is nothing to try");
}

#[test]
fn a_trial_whose_client_goes_is_given_to_the_next_request() {
    let health = Health::new(1, settings());
    fail(&health, 0, 3, 0);
    assert!(health.begin_trial(0, 10 * S));
    health.trial_abandoned(0);
    assert_eq!(health.state(0, 10 * S), State::TrialDue, "it is nobody's failure");
    assert!(health.begin_trial(0, 10 * S));
}

#[test]
fn what_is_under_way_counts_on_under_other_settings_and_an_endpoint_is_as_well_as_it_was() {
    let limited = HealthSettings { max_outstanding: Some(2), max_outstanding_of_pool: Some(3), ..settings() };
    let old = Health::new(2, limited.clone());
    assert!(old.enter(0) && old.enter(0) && old.enter(1));
    fail(&old, 1, 3, 0);
    assert!(old.begin_trial(1, 10 * S));
    // The first is gone, the second comes first, a third is new.
    let new = Health::after(&old, &[Some(1), None], limited.clone(), true);
    assert_eq!(
        [0, 1].map(|index| (new.outstanding(index), new.state(index, S))),
        [(1, State::Ejected), (0, State::InService)]
    );
    assert!(!new.is_whole() && !new.enter(1), "the pool has all that it may have");
    assert!(new.begin_trial(0, 10 * S), "whose request tries it tells the other");
    assert_eq!(new.succeeded(0, || 11 * S), Change::Returned);
    assert!(new.is_whole());
    old.leave(0);
    assert!(new.enter(1) && !new.enter(1));
    new.leave(1);
    old.leave(0);
    old.leave(1);
    assert_eq!(new.outstanding(0), 0);
    let other = Health::after(&old, &[Some(0), Some(1)], limited, false);
    assert!(other.is_whole() && old.is_ejected(1), "it is reached in another way");
}

#[test]
fn each_ejection_soon_after_the_last_is_twice_as_long_up_to_a_bound() {
    let health = Health::new(1, settings());
    let Change::Ejected(mut lasts) = fail(&health, 0, 3, 0) else { panic!("not ejected") };
    let mut now = 0;
    for _ in 0..10 {
        now += lasts;
        assert!(health.begin_trial(0, now));
        let expected = (lasts * 2).min(LONGEST_NS);
        assert_eq!(health.failed(0, Trouble::Unanswered, true, now), Change::Ejected(expected));
        lasts = expected;
    }
    assert_eq!(lasts, LONGEST_NS);
    now += lasts;
    assert!(health.begin_trial(0, now));
    assert_eq!(health.succeeded(0, || now), Change::Returned);
    assert_eq!(fail(&health, 0, 3, now + S), Change::Ejected(LONGEST_NS), "it did not stay in service for long");
    assert_eq!(health.probed(0, Finding::Well, S, now + 2 * S), Change::Returned);
    assert_eq!(fail(&health, 0, 3, now + 3 * LONGEST_NS), Change::Ejected(10 * S), "it did");
}

#[test]
fn a_share_of_the_endpoints_is_never_ejected() {
    for (endpoints, percent, most) in [(1, 50, 1), (2, 50, 1), (3, 50, 1), (4, 50, 2), (4, 100, 4), (4, 0, 1)] {
        let health = Health::new(endpoints, HealthSettings { max_ejected_percent: percent, ..settings() });
        let ejected = (0..endpoints).filter(|index| fail(&health, *index, 3, 0) != Change::None).count();
        assert_eq!(ejected, most, "{endpoints} endpoints, {percent} percent");
    }
    let health = Health::new(2, settings());
    fail(&health, 0, 3, 0);
    assert_eq!(fail(&health, 1, 100, 0), Change::None);
    health.probed(0, Finding::Well, S, S);
    assert_eq!(fail(&health, 1, 1, S), Change::Ejected(10 * S), "its turn has come");
}

#[test]
fn a_connection_alone_ends_only_an_ejection_for_want_of_one() {
    let health = Health::new(2, HealthSettings { max_ejected_percent: 100, ..settings() });
    fail(&health, 0, 3, 0);
    for _ in 0..3 {
        health.failed(1, Trouble::Unanswered, false, 0);
    }
    assert_eq!(health.probed(0, Finding::Reachable, S, S), Change::Returned);
    assert_eq!(health.probed(1, Finding::Reachable, S, S), Change::None);
    assert_eq!(health.state(1, S), State::Ejected);
    assert_eq!(health.probed(1, Finding::Well, S, S), Change::Returned);
}

#[test]
fn a_probe_that_fails_ejects_and_keeps_requests_away() {
    let health = Health::new(2, settings());
    assert_eq!(health.probed(0, Finding::Unwell, 30 * S, S), Change::Ejected(10 * S));
    assert_eq!(health.state(0, 60 * S), State::Ejected, "the next probe is there before the next trial");
    assert_eq!(health.probed(0, Finding::Unwell, 30 * S, 31 * S), Change::None);
    assert_eq!(health.state(0, 90 * S), State::Ejected);
    assert_eq!(health.probed(1, Finding::Unwell, 30 * S, S), Change::None, "one of two stays in service");
    assert_eq!(health.probed(0, Finding::Well, 30 * S, 61 * S), Change::Returned);
}

#[test]
fn no_more_requests_are_under_way_than_may_be() {
    let limits = HealthSettings { max_outstanding: Some(2), max_outstanding_of_pool: Some(3), ..settings() };
    let health = Health::new(2, limits);
    assert!(health.enter(0) && health.enter(0));
    assert!(!health.enter(0), "two at one endpoint");
    assert!(health.enter(1));
    assert!(!health.enter(1), "three in the pool");
    assert_eq!((health.outstanding(0), health.outstanding(1)), (2, 1), "what was refused is not counted");
    health.leave(0);
    assert!(health.enter(1));
}

#[derive(Debug, Clone)]
enum Event {
    Failed(usize, bool),
    Succeeded(usize),
    Probed(usize, Finding),
    Trial(usize),
    Abandoned(usize),
    Pass(u64),
}

fn event(endpoints: usize) -> impl Strategy<Value = Event> {
    let index = 0..endpoints;
    let finding = prop_oneof![Just(Finding::Well), Just(Finding::Reachable), Just(Finding::Unwell)];
    prop_oneof![
        4 => (index.clone(), any::<bool>()).prop_map(|(index, trial)| Event::Failed(index, trial)),
        1 => index.clone().prop_map(Event::Succeeded),
        1 => (index.clone(), finding).prop_map(|(index, finding)| Event::Probed(index, finding)),
        2 => index.clone().prop_map(Event::Trial),
        1 => index.prop_map(Event::Abandoned),
        2 => (0..40 * S).prop_map(Event::Pass),
    ]
}

proptest! {
    /// Whatever happens: never more than the share is ejected, no ejection outlasts the bound and the probe's time, and at its end
    /// one request, and only one, may try.
    #[test]
    fn ejections_stay_within_their_bounds(
        (endpoints, percent, events) in (1_usize..6, 0_u32..=100).prop_flat_map(|(endpoints, percent)| {
            (Just(endpoints), Just(percent), prop::collection::vec(event(endpoints), 0..200))
        })
    ) {
        let health = Health::new(endpoints, HealthSettings { max_ejected_percent: percent, ..settings() });
        let most = (endpoints * percent as usize / 100).max(1);
        let mut now = S;
        let mut trials = vec![false; endpoints];
        for event in events {
            match event {
                Event::Failed(index, trial) => {
                    let was_trial = trial && std::mem::take(&mut trials[index]);
                    health.failed(index, Trouble::Unreachable, was_trial, now);
                }
                Event::Succeeded(index) => {
                    health.succeeded(index, || now);
                    prop_assert_eq!(health.state(index, now), State::InService);
                    trials[index] = false;
                }
                Event::Probed(index, finding) => {
                    if health.probed(index, finding, S, now) == Change::Returned {
                        trials[index] = false;
                    }
                }
                Event::Trial(index) => {
                    let begins = health.begin_trial(index, now);
                    prop_assert!(!begins || !trials[index], "two trials at once");
                    trials[index] |= begins;
                }
                Event::Abandoned(index) => {
                    if std::mem::take(&mut trials[index]) {
                        health.trial_abandoned(index);
                    }
                }
                Event::Pass(ns) => now += ns,
            }
            let ejected = (0..endpoints).filter(|index| health.is_ejected(*index)).count();
            prop_assert!(ejected <= most);
            prop_assert_eq!(ejected == 0, health.is_whole());
            for (index, on_trial) in trials.iter().enumerate() {
                prop_assert!(health.until_ns(index) <= now + LONGEST_NS);
                let later = now + LONGEST_NS;
                if health.is_ejected(index) && !on_trial {
                    prop_assert!(health.begin_trial(index, later), "it comes back by itself");
                    health.trial_abandoned(index);
                }
            }
        }
    }
}
