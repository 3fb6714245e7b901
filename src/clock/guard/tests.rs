//! Clocks that are set forward, back, and both.

use crate::clock::{Clock, Mark, NS_PER_SECOND, Now, SinceBoot};
use proptest::prelude::*;

use super::*;

const START: i64 = 1_800_000_000_000;

/// After an earlier run of the system, which has left this mark.
fn clock(mark: Option<i64>) -> Clock {
    let at = Some(SinceBoot { boot: "earlier".into(), ms: 10 });
    let mark = mark.map(|unix_ms| Mark { unix_ms, at });
    Clock::manual(Now { monotonic_ns: 60 * NS_PER_SECOND, unix_ms: START }).guarded(Some("this"), mark)
}

/// That of the next process, which finds this mark.
fn next(clock: &Clock, mark: Mark) -> Clock {
    clock.clone().guarded(Some("this"), Some(mark))
}

fn certain_at(clock: &Clock) -> i64 {
    clock.mark().unwrap().unix_ms
}

/// Lets it run for so many seconds, looked after.
fn run(clock: &Clock, seconds: i64) -> Lead {
    let mut lead = clock.keep();
    for _ in 0..seconds {
        clock.advance_ns(NS_PER_SECOND);
        lead = clock.keep();
    }
    lead
}

/// Sets the wall clock by so many milliseconds against what is true.
fn set(clock: &Clock, by_ms: i64, elapsed_s: i64) {
    clock.step_wall_ms(START + elapsed_s * 1_000 + by_ms);
}

#[test]
fn set_back_by_an_hour_or_a_day_the_time_goes_on() {
    for step in [HOUR_MS, DAY_MS] {
        let clock = clock(None);
        run(&clock, 100);
        set(&clock, -step, 100);
        assert!(START + 100_000 - clock.now().unix_ms <= SLACK_MS, "at once, before anybody has looked");
        assert_eq!(run(&clock, 3_600), Lead::Behind(step));
        assert!((START + 3_700_000 - clock.now().unix_ms).abs() <= SLACK_MS);
        set(&clock, 0, 3_700);
        assert_eq!(run(&clock, 1), Lead::None);
        assert_eq!(clock.now().unix_ms, START + 3_701_000);
    }
}

#[test]
fn a_clock_that_stays_behind_is_caught_up_with() {
    let clock = clock(None);
    set(&clock, -HOUR_MS, 0);
    run(&clock, 86_400);
    let stands = clock.now().unix_ms;
    assert!((START + DAY_MS - stands).abs() <= SLACK_MS);
    run(&clock, 1_800);
    assert!(clock.now().unix_ms - stands <= SLACK_MS, "it stands still");
    assert_eq!(run(&clock, 1_802), Lead::None);
    assert_eq!(clock.now().unix_ms, START + DAY_MS + 3_602_000 - HOUR_MS, "the wall clock's again");
}

#[test]
fn set_forward_by_mistake_and_back_within_the_hour_nothing_is_left_of_it() {
    for step in [HOUR_MS, DAY_MS] {
        let clock = clock(None);
        set(&clock, step, 0);
        assert_eq!(clock.now().unix_ms, START + step, "what has expired by it is refused");
        assert_eq!(run(&clock, 1_800), Lead::Ahead(step));
        assert_eq!(certain_at(&clock), START + 1_800_000);
        set(&clock, 0, 1_800);
        assert_eq!((run(&clock, 1), clock.now().unix_ms), (Lead::None, START + 1_801_000));
    }
}

#[test]
fn set_forward_for_good_it_is_believed_after_an_hour() {
    let clock = clock(None);
    set(&clock, DAY_MS, 0);
    assert_eq!(run(&clock, 3_600), Lead::None);
    assert_eq!(certain_at(&clock), START + DAY_MS + HOUR_MS);
}

#[test]
fn a_later_process_does_not_go_back_behind_the_mark() {
    let clock = clock(Some(START + DAY_MS));
    assert_eq!(clock.now().unix_ms, START + DAY_MS - SLACK_MS);
    assert_eq!(run(&clock, 10), Lead::Behind(DAY_MS));
    assert_eq!(self::clock(Some(START - DAY_MS)).now().unix_ms, START, "time has passed in between");
}

#[test]
fn a_process_that_starts_while_the_clock_is_ahead_believes_it_no_sooner() {
    for step in [HOUR_MS, DAY_MS] {
        let first = clock(None);
        run(&first, 60);
        let mark = first.mark().unwrap();
        set(&first, step, 60);
        first.advance_ns(40 * NS_PER_SECOND);
        let second = next(&first, mark);
        assert_eq!(second.now().unix_ms, START + 100_000 + step, "what has expired by it is refused");
        assert_eq!(second.certain().unix_ms, START + 100_000 + SLACK_MS, "no period is begun");
        assert_eq!(run(&second, 1_800), Lead::Ahead(step));
        set(&second, 0, 1_900);
        assert_eq!((run(&second, 1), second.now().unix_ms), (Lead::None, START + 1_901_000));
        set(&second, step, 1_901);
        assert_eq!(run(&second, 3_600), Lead::None, "it is believed after an hour");
    }
}

#[test]
fn what_has_passed_since_the_mark_was_left_is_certain() {
    let first = clock(None);
    let mark = first.mark().unwrap();
    run(&first, 50);
    set(&first, -HOUR_MS, 50);
    let second = next(&first, mark);
    assert_eq!(second.now().unix_ms, START + 50_000 - SLACK_MS);
    assert_eq!(run(&second, 1), Lead::Behind(HOUR_MS));
}

#[test]
fn small_steps_are_a_clock_that_is_adjusted() {
    let clock = clock(None);
    set(&clock, -SLACK_MS, 0);
    assert_eq!((clock.keep(), clock.now().unix_ms), (Lead::None, START - SLACK_MS));
}

proptest! {
    /// Whatever is done to the wall clock, the time is never behind what was certain, and a wall clock that is left alone is believed in the end.
    #[test]
    fn the_line_never_goes_back_and_the_clock_is_believed_in_the_end(
        steps in prop::collection::vec((-2 * DAY_MS..2 * DAY_MS, 1_i64..7_200), 1..8),
    ) {
        let clock = clock(None);
        let (mut elapsed, mut mark) = (0, i64::MIN);
        for (by, seconds) in steps {
            set(&clock, by, elapsed);
            for _ in 0..seconds / 60 + 1 {
                clock.advance_ns(60 * NS_PER_SECOND);
                clock.keep();
                let now = certain_at(&clock);
                prop_assert!(now >= mark && clock.now().unix_ms >= now - SLACK_MS);
                mark = now;
            }
            elapsed += (seconds / 60 + 1) * 60;
        }
        set(&clock, 0, elapsed);
        let mut lead = clock.keep();
        for _ in 0..6 * 24 * 60 {
            clock.advance_ns(60 * NS_PER_SECOND);
            lead = clock.keep();
        }
        prop_assert_eq!(lead, Lead::None);
        prop_assert_eq!(clock.now().unix_ms, START + elapsed * 1_000 + 6 * DAY_MS);
    }
}
