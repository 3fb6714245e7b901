//! How long the first byte of an answer is waited for: from the end of the request. A small one has ended as soon as it is written. Of a large one
//! the upstream may still be reading, out of our hands or out of the kernel's: while that goes on it is not late, and once it stands still it is.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::upstream::client::{Alarm, Limit};
use crate::upstream::http1::Taking;

/// Bytes of a body that are taken as soon as they are written: less than any peer's kernel takes without being asked.
const SMALL: usize = 64 * 1024;

/// So many looks in the time that is waited, at how much of a large request is taken.
const LOOKS: u32 = 8;

/// The least time from one to the next: as often as alarms are looked at.
const LEAST: Duration = Duration::from_millis(100);

/// The wait for one answer.
pub(super) struct Patience<'a> {
    alarm: &'a dyn Alarm,
    limit: Limit,
    /// From the end of the request.
    time: Duration,
    /// Whether all attempts together have less.
    is_cut_short: bool,
    /// What is known of a request that may not have ended.
    sending: Option<Sending>,
}

struct Sending {
    taking: Taking,
    /// Bytes that were not taken at the last look.
    left: u64,
    /// For so long none was.
    stood: Duration,
}

impl<'a> Patience<'a> {
    /// From now on, with a request whose body has so many bytes. `None` where no time is left.
    pub(super) fn new(
        alarm: &'a dyn Alarm,
        limit: Limit,
        time: Duration,
        (body, taking): (usize, Option<Taking>),
    ) -> Option<Self> {
        let sending =
            taking.filter(|_| body > SMALL).map(|taking| Sending { taking, left: u64::MAX, stood: Duration::ZERO });
        let mut new = Self { alarm, limit, time, is_cut_short: false, sending };
        new.wait(new.step()).then_some(new)
    }

    /// Ready once the answer is late; else the task is woken then.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.poll_rung(cx));
            if !self.goes_on() {
                return Poll::Ready(());
            }
        }
    }

    /// Whether the upstream's own time is over, and not that of all attempts together.
    pub(super) fn is_upstreams(&self) -> bool {
        !self.is_cut_short
    }

    fn step(&self) -> Duration {
        if self.sending.is_some() { (self.time / LOOKS).max(LEAST).min(self.time) } else { self.time }
    }

    /// Sets the alarm; false where no time is left.
    fn wait(&mut self, time: Duration) -> bool {
        let left = self.limit.within(time);
        self.is_cut_short = left < time;
        self.alarm.set_in(left);
        !left.is_zero()
    }

    fn goes_on(&mut self) -> bool {
        let step = self.step();
        let Some(sending) = self.sending.as_mut().filter(|_| !self.is_cut_short) else { return false };
        match sending.taking.left() {
            0 => {
                self.sending = None;
                self.wait(self.time)
            }
            left if left < sending.left => {
                (sending.left, sending.stood) = (left, Duration::ZERO);
                self.wait(step)
            }
            _ => {
                sending.stood += step;
                sending.stood < self.time && self.wait(step)
            }
        }
    }
}
