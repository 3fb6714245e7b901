//! Which connections leave a worker that is busier than the others. Where a connection was put was decided before anybody knew what it would ask for;
//! between two of its requests it may still go elsewhere.
//!
//! A connection is taken to have that part of what the worker uses that it has of the requests. None leaves that uses about as much as the worker is
//! busier than the least busy: one that is busy with a single connection keeps that, and gives away the others.

use std::cell::Cell;

/// What of the surplus leaves in a tick. What has left shows in what is measured only some ticks later: to give all of it away at once would be
/// to give it away several times.
const GIVEN: f64 = 0.2;

/// What of the surplus that was measured is left one tick later: what is busy in one moment need not be in the next.
const KEPT: f64 = 0.65;

/// What of the distance to the least busy a connection may use that goes there: more, and the two would rather change places.
const MOST: f64 = 0.75;

/// A worker is as busy as the others while it is busier by no more than this: cores, and of what they are busy on average.
const EVEN: (f64, f64) = (0.03, 0.1);

/// So many ticks are remembered of how often a connection asks, at the most.
const REMEMBERED: u32 = 16;
/// So many at the least are to be known of one that leaves.
const KNOWN: u32 = 2;

/// How often a connection has asked, among all of its worker.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    asked: u64,
    /// The tick it is counted from.
    since: u32,
    /// What all had asked by then.
    all: u64,
}

/// What a worker has to give away, measured with each tick.
#[derive(Debug, Default)]
pub struct Surplus {
    /// How busy it is, in cores.
    busy: Cell<f64>,
    /// How much busier than all are on average it has been, in cores.
    cores: Cell<f64>,
    /// What of that may still leave; below 0 where one has left that was more.
    left: Cell<f64>,
    /// What a connection that leaves may use, in cores.
    most: Cell<f64>,
    ticks: Cell<u32>,
    /// Requests since it began.
    asked: Cell<u64>,
}

impl Surplus {
    /// Takes down a tick: how busy this worker, all on average and the least busy are, in cores.
    pub fn tick(&self, (busy, average, least): (f64, f64, f64)) {
        self.ticks.set(self.ticks.get().wrapping_add(1));
        self.busy.set(busy);
        let more = busy - average;
        self.cores.set(more + (self.cores.get() - more) * KEPT);
        self.most.set((busy - least) * MOST);
        let is_even = self.cores.get() <= EVEN.0.max(average * EVEN.1);
        let fresh = if is_even { 0.0 } else { self.cores.get() * GIVEN };
        // What has not left by now is measured again, and what was too much is forgotten by and by.
        self.left.set(self.left.get().min(0.0) * (1.0 - GIVEN) + fresh);
    }

    /// A connection that has not asked yet.
    pub fn pace(&self) -> Pace {
        Pace { asked: 0, since: self.ticks.get(), all: self.asked.get() }
    }

    /// Takes down a request of the connection whose `pace` that is.
    pub fn note(&self, pace: &mut Pace) {
        self.asked.set(self.asked.get() + 1);
        pace.asked += 1;
        let known = self.known(*pace);
        if known >= REMEMBERED {
            // Half as much of half of all, whatever time that was: what it asks now is soon most of it.
            pace.asked /= 2;
            pace.all = self.asked.get() - (self.asked.get() - pace.all) / 2;
            pace.since = pace.since.wrapping_add(known - REMEMBERED / 2);
        }
    }

    /// Whether anything may leave.
    pub fn is_any(&self) -> bool {
        self.left.get() > 0.0
    }

    /// Whether the connection whose `pace` that is may leave; then it is taken to have left.
    pub fn give(&self, pace: Pace) -> bool {
        if !self.is_any() || self.known(pace) < KNOWN {
            return false;
        }
        let all = (self.asked.get() - pace.all).max(1);
        let used = self.busy.get() * pace.asked as f64 / all as f64;
        let may_leave = used <= self.most.get();
        if may_leave {
            self.left.set(self.left.get() - used);
        }
        may_leave
    }

    /// Ticks for which it is known how often it asks.
    fn known(&self, pace: Pace) -> u32 {
        self.ticks.get().wrapping_sub(pace.since)
    }
}

#[cfg(test)]
mod tests;
