//! The time limits of a worker, kept by one coarse tick instead of a timer for each: heads, bodies, silences, stalls, and the
//! revocation of running streams, and the first byte of an upstream's answer. Only connecting to an upstream has a timer of its own.
//!
//! Setting a deadline is a store; only the tick looks at them, ten times a second, and wakes what is due.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::admission::Caller;
use crate::clock::{Clock, Now};
use crate::policy::CutReason;
use crate::upstream::client::Alarm;

/// How often the tick looks; a deadline is met at most this late, and at most a tick of the kernel's (4 to 10 ms) early: see [`Clock::coarse_ns`].
pub const TICK: Duration = Duration::from_millis(100);

const NEVER: u64 = u64::MAX;

/// All deadlines of one worker.
#[derive(Debug)]
pub struct Deadlines {
    slots: RefCell<Slab<Slot>>,
    clock: Clock,
}

#[derive(Debug)]
struct Slot {
    at_ns: u64,
    watched: Option<Caller>,
    due: Option<Due>,
    waker: Option<Waker>,
}

/// What became due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The time is up.
    TimeUp,
    /// The key in use was revoked.
    Revoked(CutReason),
}

/// One deadline; gone when dropped.
#[derive(Debug)]
pub struct Deadline {
    home: Rc<Deadlines>,
    index: usize,
}

impl Deadlines {
    /// None yet.
    pub fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self { slots: RefCell::new(Slab::new()), clock })
    }

    /// A new deadline, not set.
    pub fn register(self: &Rc<Self>) -> Deadline {
        let index = self.slots.borrow_mut().insert(Slot { at_ns: NEVER, watched: None, due: None, waker: None });
        Deadline { home: Rc::clone(self), index }
    }

    /// How many are registered; a leak shows here.
    pub fn count(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Gives back the room of those that are gone, which each tick would look at for ever.
    pub fn shrink(&self) {
        self.slots.borrow_mut().shrink_to_fit();
    }

    /// Wakes whatever is due.
    pub fn tick(&self) {
        // By the clock that they are set and looked at by: what is due by another might not be due yet for whoever is woken.
        let now = Now { monotonic_ns: self.clock.coarse_ns(), ..self.clock.now() };
        let mut woken = Vec::new();
        for (_, slot) in &mut *self.slots.borrow_mut() {
            if slot.due.is_none() {
                slot.due = slot.look(now);
                if slot.due.is_some() {
                    woken.extend(slot.waker.take());
                }
            }
        }
        // Outside the borrow: a waker may run code that registers or drops a deadline.
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Slot {
    fn look(&self, now: Now) -> Option<Due> {
        if let Some(Err(reason)) = self.watched.as_ref().map(|caller| caller.slot().may_continue(now)) {
            return Some(Due::Revoked(reason));
        }
        (now.monotonic_ns >= self.at_ns).then_some(Due::TimeUp)
    }
}

impl Deadline {
    /// The monotonic clock that deadlines are kept by, as it was a moment ago: see [`Clock::coarse_ns`].
    pub fn now_ns(&self) -> u64 {
        self.home.clock.coarse_ns()
    }

    /// Due in `ns` nanoseconds from now.
    pub fn set_in(&self, ns: u64) {
        self.set_at(self.now_ns().saturating_add(ns));
    }

    /// Due at a moment of the monotonic clock.
    pub fn set_at(&self, at_ns: u64) {
        self.change(|slot| {
            slot.at_ns = at_ns;
            if slot.due == Some(Due::TimeUp) {
                slot.due = None;
            }
        });
    }

    /// Never due by time.
    pub fn clear(&self) {
        self.set_at(NEVER);
    }

    /// Also due when the key of this caller's secret is revoked.
    pub fn watch(&self, caller: Caller) {
        self.change(|slot| slot.watched = Some(caller));
    }

    /// No longer due by any revocation.
    pub fn unwatch(&self) {
        self.change(|slot| {
            slot.watched = None;
            if matches!(slot.due, Some(Due::Revoked(_))) {
                slot.due = None;
            }
        });
    }

    /// Ready with what is due; else the task is woken when something is.
    pub fn poll_due(&self, cx: &mut Context<'_>) -> Poll<Due> {
        let mut slots = self.home.slots.borrow_mut();
        let Some(slot) = slots.get_mut(self.index) else { return Poll::Pending };
        match slot.due {
            Some(due) => Poll::Ready(due),
            None => {
                match &mut slot.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => slot.waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.home.slots.borrow_mut().get_mut(self.index) {
            change(slot);
        }
    }
}

impl Alarm for Deadline {
    fn set_in(&self, time: Duration) {
        self.set_in(u64::try_from(time.as_nanos()).unwrap_or(NEVER));
    }

    fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_due(cx) {
            Poll::Ready(Due::TimeUp) => Poll::Ready(()),
            Poll::Ready(Due::Revoked(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let gone = self.home.slots.borrow_mut().try_remove(self.index);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;

    #[test]
    fn is_due_at_its_time_and_not_before() {
        let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 0 });
        let deadlines = Deadlines::new(clock.clone());
        let deadline = deadlines.register();
        let mut cx = Context::from_waker(Waker::noop());
        deadline.set_in(10);
        clock.advance_ns(9);
        deadlines.tick();
        assert_eq!(deadline.poll_due(&mut cx), Poll::Pending);
        clock.advance_ns(1);
        deadlines.tick();
        assert_eq!(deadline.poll_due(&mut cx), Poll::Ready(Due::TimeUp));
        deadline.set_in(10);
        assert_eq!(deadline.poll_due(&mut cx), Poll::Pending, "setting it anew takes the old one back");
        drop(deadline);
        assert_eq!(deadlines.count(), 0);
    }
}
