//! Which worker a new connection goes to: the one that is least busy, by what each used of a core lately and by what the connections that came
//! since may add to it. What is even then does not stay so, and what was expected may not come: [`surplus`] says which connections go to another
//! worker later.
//!
//! What a new connection will ask for is not known, and a crowd of them comes sooner than anybody has measured the first. All that are too new to have
//! been measured are therefore taken to add, together, as much as all workers do already, within bounds: a crowd that comes at once beside one hot
//! connection goes elsewhere. Two workers are then no further apart after it than they were before, so long as it asks for no more than twice
//! what it was taken to ask for, and they are even where it asks for just that.

pub mod surplus;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::proxy::deadline::TICK;

/// What of an average is left one tick later.
const KEPT: f64 = 0.5;

/// A worker that has not told for so many ticks is stuck, and taken to be as busy as can be.
const SILENT_TICKS: f64 = 5.0;

/// What all connections that are too new to have been measured are expected to add, in cores for each worker. At the least: where little is done, what
/// differs between workers says little. At the most: with more, a crowd is spread as if all workers had been idle.
const UNSEEN_SHARE: (f64, f64) = (0.1, 0.15);

/// What a connection may add at the most: it has one worker.
const MOST: f64 = 1.0;

/// What all connections together weigh beyond what they were measured to use, in cores for each worker: those that are idle may wake up, and what was
/// measured is never exact.
const STANDING_SHARE: f64 = 1.0 / 32.0;

/// What a connection weighs at the least, however many there are: so many more of them as one core comes to are the furthest that counts drift apart.
const LEAST: f64 = 1.0 / 50_000.0;

/// How busy a worker has been: told by the worker with each tick, read by whoever hands out connections. What is read may be of two ticks; they differ
/// by little.
#[derive(Debug, Default)]
pub struct Lately {
    /// Bits of an [`f32`]: the share of a core it used.
    busy: AtomicU32,
    /// Bits of an [`f32`]: the connections it used that for.
    connections: AtomicU32,
    told_ns: AtomicU64,
}

/// What a worker remembers from one tick to the next.
#[derive(Debug)]
pub struct Teller {
    at_ns: u64,
    cpu_ns: u64,
    busy: f64,
    connections: f64,
}

impl Teller {
    /// Begins at this time, with what the thread has used so far.
    pub fn new(at_ns: u64, cpu_ns: u64) -> Self {
        Self { at_ns, cpu_ns, busy: 0.0, connections: 0.0 }
    }

    /// Tells `lately` of the time since the last call.
    pub fn tell(&mut self, lately: &Lately, at_ns: u64, cpu_ns: u64, connections: usize) {
        let passed = at_ns.saturating_sub(self.at_ns) as f64;
        if passed > 0.0 {
            let busy = (cpu_ns.saturating_sub(self.cpu_ns) as f64 / passed).min(1.0);
            // A tick that came late counts for as many as are missing.
            let kept = KEPT.powf(passed / TICK.as_nanos() as f64);
            self.busy = busy + (self.busy - busy) * kept;
            let connections = connections as f64;
            self.connections = connections + (self.connections - connections) * kept;
            (self.at_ns, self.cpu_ns) = (at_ns, cpu_ns);
        }
        lately.busy.store((self.busy as f32).to_bits(), Ordering::Relaxed);
        lately.connections.store((self.connections as f32).to_bits(), Ordering::Relaxed);
        lately.told_ns.store(at_ns, Ordering::Relaxed);
    }
}

/// A worker as it stands when a connection comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// The share of a core that it used lately.
    busy: f64,
    /// Connections that came too lately to have a part in that.
    unseen: f64,
    /// All connections.
    connections: f64,
}

impl Standing {
    /// The share of a core that it used lately.
    pub fn busy(self) -> f64 {
        self.busy
    }
}

impl Lately {
    /// What that comes to now, with so many connections.
    pub fn standing(&self, now_ns: u64, connections: usize) -> Standing {
        let silent = now_ns.saturating_sub(self.told_ns.load(Ordering::Relaxed)) as f64;
        let is_stuck = silent > SILENT_TICKS * TICK.as_nanos() as f64;
        let busy = if is_stuck { 1.0 } else { f64::from(f32::from_bits(self.busy.load(Ordering::Relaxed))) };
        let seen = f64::from(f32::from_bits(self.connections.load(Ordering::Relaxed)));
        let connections = connections as f64;
        Standing { busy, unseen: (connections - seen).max(0.0), connections }
    }
}

/// The place of the worker that is to have the next connection; the first of those that are alike. `None` where there is no worker.
pub fn least_busy(workers: impl Iterator<Item = Standing> + Clone) -> Option<usize> {
    let (mut count, mut busy) = (0.0, 0.0);
    let (mut connections, mut unseen) = (1.0, 1.0); // with the one that has come
    for worker in workers.clone() {
        count += 1.0;
        busy += worker.busy;
        connections += worker.connections;
        unseen += worker.unseen;
    }
    let of_unseen = (busy.clamp(UNSEEN_SHARE.0 * count, UNSEEN_SHARE.1 * count) / unseen).min(MOST);
    let of_each = (STANDING_SHARE * count / connections).max(LEAST);
    let expected = workers.map(|worker| worker.busy + worker.unseen * of_unseen + worker.connections * of_each);
    let (place, _) = expected.enumerate().min_by(|(_, one), (_, other)| one.total_cmp(other))?;
    Some(place)
}

#[cfg(test)]
mod tests;
