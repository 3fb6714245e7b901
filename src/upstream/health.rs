//! Which endpoints of a pool are in service. Pure: time is an argument, and nothing here waits or speaks.
//!
//! An endpoint that fails a few times in a row is ejected: it gets no more requests for a while, the longer the oftener that happens. When
//! that time is over, one request tries it, and it is in service again once that one is answered; a probe may find it well before that.
//! Only what the transport says counts: an answer is a success whatever its status, and what a client does never gets here.
//!
//! Workers share it. A request to a pool that is well reads and adds to atomics alone; only what changes the state of an endpoint takes the
//! lock, for a few instructions.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest that an endpoint is ejected at once, nanoseconds, unless its first ejection is to last longer already.
pub const LONGEST_NS: u64 = 300 * crate::clock::NS_PER_SECOND;

/// In service: no moment of the monotonic clock.
const IN_SERVICE: u64 = 0;

/// When endpoints are ejected and requests shed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// Failures in a row after which an endpoint is ejected, at least 1.
    pub eject_after: u32,
    /// How long the first ejection lasts, nanoseconds; each that follows soon lasts twice as long as the one before.
    pub eject_ns: u64,
    /// The share of endpoints that may be ejected at the same time, percent; one may always be.
    pub max_ejected_percent: u32,
    /// Requests under way at one endpoint; `None` = any number.
    pub max_outstanding: Option<u32>,
    /// Requests under way at all endpoints together; `None` = any number.
    pub max_outstanding_of_pool: Option<u32>,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            eject_after: 5,
            eject_ns: 10 * crate::clock::NS_PER_SECOND,
            max_ejected_percent: 50,
            max_outstanding: None,
            max_outstanding_of_pool: None,
        }
    }
}

/// What a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection.
    Unreachable,
    /// A connection, and no answer on it: it broke off, said something that is not HTTP, or nothing in time.
    Unanswered,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It answers as it should.
    Well,
    /// It takes connections, and more was not asked.
    Reachable,
    /// It does not do what was asked.
    Unwell,
}

/// What became of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It gets no more requests for so many nanoseconds.
    Ejected(u64),
    /// It is in service again.
    Returned,
}

/// How an endpoint stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It gets requests.
    InService,
    /// It was ejected, and may be tried with one request.
    TrialDue,
    /// It gets none.
    Ejected,
}

/// The health of one pool.
#[derive(Debug)]
pub struct Health {
    settings: HealthSettings,
    gates: Box<[Gate]>,
    /// Whether it matters how many requests are under way: where there is one endpoint and no limit, nobody asks.
    is_counting: bool,
    outstanding: Arc<AtomicU32>,
    ejected: AtomicU32,
    records: Mutex<Box<[Record]>>,
}

/// What every request looks at. On a line of its own: the workers count here at the same time.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Gate {
    /// [`IN_SERVICE`], or until when it is ejected.
    until_ns: AtomicU64,
    /// Whether a success has anything to tell.
    has_failed: AtomicBool,
    /// Whoever comes after with other settings counts on: what is under way stays that.
    outstanding: Arc<AtomicU32>,
}

/// What only changes of state look at.
#[derive(Debug, Default, Clone)]
struct Record {
    failures: u32,
    trouble: Option<Trouble>,
    /// Ejections, one soon after the other.
    ejections: u32,
    lasted_ns: u64,
    returned_ns: u64,
    on_trial: bool,
}

impl Health {
    /// All of `endpoints` in service.
    pub fn new(endpoints: usize, settings: HealthSettings) -> Self {
        let has_limit = settings.max_outstanding.is_some() || settings.max_outstanding_of_pool.is_some();
        Self {
            is_counting: has_limit || endpoints > 1,
            settings,
            gates: (0..endpoints).map(|_| Gate::default()).collect(),
            outstanding: Arc::default(),
            ejected: AtomicU32::new(0),
            records: Mutex::new(vec![Record::default(); endpoints].into()),
        }
    }

    /// The health of the same pool with other settings and endpoints: `before` says which each of them was. What is under way counts on; whether they
    /// are in service is as it was, where `is_as_reached` says that nothing changed that could matter for that.
    pub fn after(old: &Self, before: &[Option<usize>], settings: HealthSettings, is_as_reached: bool) -> Self {
        let mut new = Self { outstanding: Arc::clone(&old.outstanding), ..Self::new(before.len(), settings) };
        let records = old.records();
        let mut kept = vec![Record::default(); before.len()];
        for ((gate, kept), before) in new.gates.iter_mut().zip(&mut kept).zip(before) {
            let Some((old, record)) = before.and_then(|index| old.gates.get(index).zip(records.get(index))) else {
                continue;
            };
            gate.outstanding = Arc::clone(&old.outstanding);
            if !is_as_reached {
                continue;
            }
            // A request that tries one tells those who sent it.
            *kept = Record { on_trial: false, ..record.clone() };
            *gate.has_failed.get_mut() = old.has_failed.load(Ordering::Relaxed);
            *gate.until_ns.get_mut() = old.until_ns.load(Ordering::Relaxed);
            *new.ejected.get_mut() += u32::from(*gate.until_ns.get_mut() != IN_SERVICE);
        }
        Self { records: Mutex::new(kept.into()), ..new }
    }

    /// Whether no endpoint is ejected, so that the time need not be asked.
    pub fn is_whole(&self) -> bool {
        self.ejected.load(Ordering::Relaxed) == 0
    }

    /// How an endpoint stands at `now_ns`.
    pub fn state(&self, index: usize, now_ns: u64) -> State {
        match self.gates.get(index).map(|gate| gate.until_ns.load(Ordering::Relaxed)) {
            Some(IN_SERVICE) => State::InService,
            Some(until_ns) if now_ns >= until_ns => State::TrialDue,
            _ => State::Ejected,
        }
    }

    /// Whether it may be passed over for being ejected.
    pub fn is_ejected(&self, index: usize) -> bool {
        self.state(index, 0) != State::InService
    }

    /// Until when an ejected endpoint is passed over, nanoseconds of the monotonic clock; 0 for one in service.
    pub fn until_ns(&self, index: usize) -> u64 {
        self.gates.get(index).map_or(0, |gate| gate.until_ns.load(Ordering::Relaxed))
    }

    /// Requests under way at an endpoint; 0 where that does not matter.
    pub fn outstanding(&self, index: usize) -> u32 {
        self.gates.get(index).map_or(0, |gate| gate.outstanding.load(Ordering::Relaxed))
    }

    /// Counts a request at an endpoint, unless there or in the pool are as many as there may be.
    pub fn enter(&self, index: usize) -> bool {
        let Some(gate) = self.gates.get(index) else { return false };
        if !self.is_counting {
            return true;
        }
        if !take(&gate.outstanding, self.settings.max_outstanding) {
            return false;
        }
        // Nobody asks for the pool's number where it has no limit.
        if self.settings.max_outstanding_of_pool.is_some()
            && !take(&self.outstanding, self.settings.max_outstanding_of_pool)
        {
            gate.outstanding.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// The request has ended in whatever way.
    pub fn leave(&self, index: usize) {
        if !self.is_counting {
            return;
        }
        if let Some(gate) = self.gates.get(index) {
            gate.outstanding.fetch_sub(1, Ordering::Relaxed);
        }
        if self.settings.max_outstanding_of_pool.is_some() {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes the one trial of an ejected endpoint whose time is over. It ends by [`Health::succeeded`], [`Health::failed`] or
    /// [`Health::trial_abandoned`].
    pub fn begin_trial(&self, index: usize, now_ns: u64) -> bool {
        let mut records = self.records();
        let Some(record) = records.get_mut(index) else { return false };
        let begins = self.state(index, now_ns) == State::TrialDue && !record.on_trial;
        record.on_trial |= begins;
        begins
    }

    /// The request on trial ended without a word about the endpoint: its client has gone. The next one tries.
    pub fn trial_abandoned(&self, index: usize) {
        if let Some(record) = self.records().get_mut(index) {
            record.on_trial = false;
        }
    }

    /// The endpoint has answered.
    pub fn succeeded(&self, index: usize, now_ns: impl FnOnce() -> u64) -> Change {
        let Some(gate) = self.gates.get(index) else { return Change::None };
        if !gate.has_failed.load(Ordering::Relaxed) {
            return Change::None;
        }
        let mut records = self.records();
        self.restore(index, records.get_mut(index), now_ns())
    }

    /// A request to the endpoint failed; `was_trial` when it was the one that tries an ejected one.
    pub fn failed(&self, index: usize, trouble: Trouble, was_trial: bool, now_ns: u64) -> Change {
        let mut records = self.records();
        let Some((gate, record)) = self.gates.get(index).zip(records.get_mut(index)) else { return Change::None };
        gate.has_failed.store(true, Ordering::Relaxed);
        record.failures = record.failures.saturating_add(1);
        record.trouble = Some(trouble);
        let is_ejected = self.is_ejected(index);
        if was_trial {
            record.on_trial = false;
        }
        // A request that was sent before the ejection says nothing new.
        let is_due = if is_ejected { was_trial } else { record.failures >= self.settings.eject_after };
        if is_due { self.eject(gate, record, is_ejected, now_ns) } else { Change::None }
    }

    /// What a probe found. `again_ns` is the time until the next one: an endpoint that is found unwell gets no request before that.
    pub fn probed(&self, index: usize, finding: Finding, again_ns: u64, now_ns: u64) -> Change {
        let mut records = self.records();
        let Some((gate, record)) = self.gates.get(index).zip(records.get_mut(index)) else { return Change::None };
        let is_ejected = self.is_ejected(index);
        match finding {
            Finding::Well => self.restore(index, Some(record), now_ns),
            // That it takes connections does not tell whether it answers: what hangs takes connections too.
            Finding::Reachable if is_ejected && record.trouble == Some(Trouble::Unreachable) => {
                self.restore(index, Some(record), now_ns)
            }
            Finding::Reachable => Change::None,
            Finding::Unwell if is_ejected => {
                // Twice the time, so that the next probe is there before the next trial.
                gate.until_ns.fetch_max(now_ns.saturating_add(again_ns.saturating_mul(2)), Ordering::Relaxed);
                Change::None
            }
            Finding::Unwell => {
                gate.has_failed.store(true, Ordering::Relaxed);
                record.trouble = Some(Trouble::Unanswered);
                let change = self.eject(gate, record, false, now_ns);
                if change != Change::None {
                    gate.until_ns.fetch_max(now_ns.saturating_add(again_ns.saturating_mul(2)), Ordering::Relaxed);
                }
                change
            }
        }
    }

    fn restore(&self, index: usize, record: Option<&mut Record>, now_ns: u64) -> Change {
        let Some((gate, record)) = self.gates.get(index).zip(record) else { return Change::None };
        record.failures = 0;
        record.trouble = None;
        record.on_trial = false;
        gate.has_failed.store(false, Ordering::Relaxed);
        if gate.until_ns.swap(IN_SERVICE, Ordering::Relaxed) == IN_SERVICE {
            return Change::None;
        }
        record.returned_ns = now_ns;
        self.ejected.fetch_sub(1, Ordering::Relaxed);
        Change::Returned
    }

    fn eject(&self, gate: &Gate, record: &mut Record, again: bool, now_ns: u64) -> Change {
        if !again {
            // Under the records' lock nobody else adds.
            if self.ejected.load(Ordering::Relaxed) >= self.most_ejected() {
                return Change::None;
            }
            self.ejected.fetch_add(1, Ordering::Relaxed);
            let has_stayed = now_ns.saturating_sub(record.returned_ns) > record.lasted_ns.saturating_mul(2);
            if has_stayed {
                record.ejections = 0;
            }
        }
        let longest_ns = LONGEST_NS.max(self.settings.eject_ns);
        let doubled = self.settings.eject_ns.saturating_mul(1 << record.ejections.min(16));
        record.lasted_ns = doubled.min(longest_ns);
        record.ejections = record.ejections.saturating_add(1);
        // Never the moment that stands for "in service".
        gate.until_ns.store(now_ns.saturating_add(record.lasted_ns).max(1), Ordering::Relaxed);
        Change::Ejected(record.lasted_ns)
    }

    /// How many may be ejected at the same time.
    fn most_ejected(&self) -> u32 {
        let endpoints = u32::try_from(self.gates.len()).unwrap_or(u32::MAX);
        let share = u64::from(endpoints) * u64::from(self.settings.max_ejected_percent) / 100;
        u32::try_from(share).unwrap_or(endpoints).clamp(1, endpoints.max(1))
    }

    fn records(&self) -> MutexGuard<'_, Box<[Record]>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(count: &AtomicU32, most: Option<u32>) -> bool {
    match most {
        None => {
            count.fetch_add(1, Ordering::Relaxed);
            true
        }
        Some(most) => count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1))
            .is_ok(),
    }
}

#[cfg(test)]
mod tests;
