//! Who is cut, and who is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::*;
use crate::clock::{Clock, Now};
use crate::proxy::deadline::Deadlines;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_room_is_woken_when_the_peer_takes_something() {
    let deadlines = Deadlines::new(Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 }));
    let times = WireTimes { head_ns: 1, keep_alive_ns: 1, write_stall_ns: 1 };
    let notes = WireNotes::new(deadlines.register(), times);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(notes.poll_room(&mut cx).is_ready());
    notes.write_stalled(9, 9);
    assert!(notes.poll_room(&mut cx).is_pending());
    assert!(!woken.0.load(Ordering::SeqCst));
    notes.write_resumed();
    assert!(woken.0.load(Ordering::SeqCst) && notes.poll_room(&mut cx).is_ready());
}

/// Lets the seconds pass, and takes a look when one is wanted; whether the peer is cut.
fn is_cut_after(clock: &Clock, deadlines: &Deadlines, notes: &WireNotes, seconds: u64, taken: u64, left: u64) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    clock.advance_ns(seconds * NS_PER_SECOND);
    for _ in 0..3 {
        deadlines.tick();
        if notes.poll_cut(&mut cx).is_ready() {
            return true;
        }
        if notes.wants_a_look() {
            notes.looked(taken + left, left);
        }
    }
    false
}

fn answered(clock: &Clock) -> (Rc<Deadlines>, Rc<WireNotes>) {
    let deadlines = Deadlines::new(clock.clone());
    let times = WireTimes {
        head_ns: 10 * NS_PER_SECOND,
        keep_alive_ns: 3600 * NS_PER_SECOND,
        write_stall_ns: 30 * NS_PER_SECOND,
    };
    let notes = WireNotes::new(deadlines.register(), times);
    notes.request_began();
    notes.request_ended();
    (deadlines, notes)
}

#[test]
fn a_peer_that_leaves_what_was_written_is_cut_and_one_that_goes_on_taking_is_not() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    for (rate, is_cut) in [(0, true), (900, true), (1100, false), (100_000, false)] {
        let (deadlines, notes) = answered(&clock);
        let mut cut_at = None;
        for second in (5..200).step_by(5) {
            if is_cut_after(&clock, &deadlines, &notes, 5, second * rate, 1_000_000) {
                cut_at = Some(second);
                break;
            }
        }
        assert_eq!(cut_at, is_cut.then_some(40), "{rate} bytes a second");
        assert_eq!(notes.is_cut(), is_cut);
    }
}

#[test]
fn who_has_taken_everything_is_looked_at_again_only_after_the_next_answer() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    let (deadlines, notes) = answered(&clock);
    assert!(!is_cut_after(&clock, &deadlines, &notes, 30, 500, 0));
    assert!(!is_cut_after(&clock, &deadlines, &notes, 300, 500, 9), "nothing was written since");
    notes.request_began();
    notes.request_ended();
    for _ in 0..3 {
        assert!(!is_cut_after(&clock, &deadlines, &notes, 10, 500, 9));
    }
    assert!(is_cut_after(&clock, &deadlines, &notes, 10, 500, 9));
}

#[test]
fn who_takes_everything_is_not_cut_for_what_is_on_its_way() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    let (deadlines, notes) = answered(&clock);
    for event in 1..100 {
        assert!(!is_cut_after(&clock, &deadlines, &notes, 10, event * 100, 100), "an event of a slow stream");
    }
}

#[test]
fn whoever_pauses_has_the_whole_time_however_long_ago_the_look_was_planned() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    for before in 1..10 {
        let (deadlines, notes) = answered(&clock);
        // All is taken, and then nothing of a large answer.
        assert!(!is_cut_after(&clock, &deadlines, &notes, before, 500, 0));
        let cut_at = (1..60).find(|_| is_cut_after(&clock, &deadlines, &notes, 1, 500, 1_000_000));
        assert!(cut_at.is_some_and(|second| (30..=40).contains(&second)), "{before}: {cut_at:?}");
    }
}

#[test]
fn who_goes_on_taking_while_nothing_can_be_written_is_not_cut_and_who_does_not_is() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    for (rate, is_cut) in [(0, true), (900, true), (1_100, false), (20_000, false)] {
        let (deadlines, notes) = answered(&clock);
        notes.write_stalled(3_000_000, 3_000_000);
        let cut_at = (1..140)
            .find(|second| is_cut_after(&clock, &deadlines, &notes, 1, second * rate, 3_000_000 - second * rate));
        assert_eq!(cut_at.is_some_and(|second| (30..=40).contains(&second)), is_cut, "{rate}: {cut_at:?}");
        assert_eq!(cut_at.is_some(), is_cut, "{rate}: {cut_at:?}");
    }
}

#[test]
fn a_look_that_nobody_takes_cuts_nobody() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    let (deadlines, notes) = answered(&clock);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..50 {
        clock.advance_ns(2 * NS_PER_SECOND);
        deadlines.tick();
        assert!(notes.poll_cut(&mut cx).is_pending());
    }
    assert!(notes.wants_a_look());
}

#[test]
fn whoever_is_to_be_looked_at_is_not_cut_instead_whatever_clock_is_read() {
    for turn in 0..50_u64 {
        let deadlines = Deadlines::new(Clock::system());
        let times = WireTimes {
            head_ns: 10 * NS_PER_SECOND,
            keep_alive_ns: 3_600 * NS_PER_SECOND,
            write_stall_ns: 12_000_000 + turn * 137_000,
        };
        let notes = WireNotes::new(deadlines.register(), times);
        notes.request_began();
        notes.request_ended();
        notes.request_began();
        let mut cx = Context::from_waker(Waker::noop());
        while !notes.wants_a_look() {
            deadlines.tick();
            assert!(notes.poll_cut(&mut cx).is_pending(), "its peer has done nothing wrong");
        }
    }
}

#[test]
fn who_has_taken_all_of_it_by_the_end_of_a_stall_has_the_time_anew() {
    let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
    let (deadlines, notes) = answered(&clock);
    notes.write_stalled(3_000_000, 3_000_000);
    let cut_at = (1..100).find(|_| is_cut_after(&clock, &deadlines, &notes, 1, 3_000_000, 0));
    assert!(cut_at.is_some_and(|second| second >= 60), "nothing more was written since: {cut_at:?}");
}
