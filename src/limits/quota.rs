//! Units of a period.
//!
//! Two numbers: `used`, what was settled in this period, and `committed`, that and what requests under way hold. A request is
//! admitted by one compare-and-swap on `committed`, so concurrent requests never overdraw; at every moment
//! `committed >= used + held`, whatever the order in which threads are seen.
//!
//! The period turns with the first look at the quota in it: a count that began before the period does begins anew. So does one that began under another
//! rule, or under none, when a key is given a shorter period: what was used in this one by then nobody knows, and all that was ever used would be too
//! much. That is so once a day at the most, however often the rule changes. What is remembered besides is the last *day* on which the quota was
//! looked at, and that only rises: a wall clock set back never reopens a period. Usage belongs to the period in which it is settled.
//!
//! What is settled says to which count it was added: the day on which that count began. A settlement holds off the turn while it adds (a
//! lock that many may hold at once), so that books kept elsewhere, in whatever order they hear of it, come to the same sum.

pub mod period;

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::policy::{Charge, QuotaReset, QuotaRule, QuotaStanding, Refusal, Usage};
use crate::units::{Tokens, Units};

/// The day before every day: never touched.
const NEVER: i32 = QuotaCount::NEVER;

/// The quota state of one key. Without a rule it counts all the same, so that a limit for ever that is set later finds the truth.
#[derive(Debug)]
pub struct QuotaState {
    used: AtomicU64,
    committed: AtomicU64,
    /// The last day on which it was touched, counted from 1970.
    day: AtomicI32,
    /// The day up to which no turn is due by the rule that was last seen; published after a turn is done.
    turned: AtomicI32,
    /// The day on which `used` last began anew; changed only by the turn.
    since: AtomicI32,
    /// The rule that was last seen, for settling: a request may outlive the policy it came under.
    reset: AtomicU8,
    /// Written by the turn, read by those who add.
    turning: RwLock<()>,
}

/// Where a quota's count stands: what a store remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaCount {
    /// Units settled since `since_day`.
    pub used: Units,
    /// The day on which the count last began anew, counted from 1970; [`QuotaCount::NEVER`] when it never did.
    pub since_day: i32,
    /// The last day on which it was touched; [`QuotaCount::NEVER`] when it never was.
    pub touched_day: i32,
}

impl QuotaCount {
    /// The day before every day.
    pub const NEVER: i32 = i32::MIN;

    /// Adds what a settlement counted, heard of in any order: one of a later count begins anew, one of an earlier count changes nothing.
    pub fn add(&mut self, counted: QuotaCount) {
        if counted.since_day > self.since_day {
            (self.used, self.since_day) = (0, counted.since_day);
        }
        if counted.since_day == self.since_day {
            self.used = self.used.saturating_add(counted.used);
        }
        self.touched_day = self.touched_day.max(counted.touched_day);
    }
}

impl Default for QuotaCount {
    fn default() -> Self {
        Self { used: 0, since_day: Self::NEVER, touched_day: Self::NEVER }
    }
}

/// What a request holds of a quota; to be handed to [`QuotaState::settle`] exactly once.
#[derive(Debug)]
#[must_use]
pub struct Held {
    units: Units,
    /// Output tokens an answer (one choice) that the quota covers, when that is less than was asked for.
    clamp: Option<Tokens>,
}

impl Held {
    /// Units held.
    pub fn units(&self) -> Units {
        self.units
    }

    /// Output tokens of each choice that are covered, when the whole was not.
    pub fn clamp(&self) -> Option<Tokens> {
        self.clamp
    }
}

impl Default for QuotaState {
    fn default() -> Self {
        Self {
            used: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            day: AtomicI32::new(NEVER),
            turned: AtomicI32::new(NEVER),
            since: AtomicI32::new(NEVER),
            reset: AtomicU8::new(QuotaReset::None as u8),
            turning: RwLock::new(()),
        }
    }
}

impl QuotaState {
    /// Takes note of the rule in force.
    pub fn adopt(&self, reset: QuotaReset) {
        if self.reset.load(Ordering::Relaxed) != reset as u8 {
            // In this order, and `turn` in the other: of two at the same time one sees the other.
            self.reset.store(reset as u8, Ordering::SeqCst);
            self.turned.store(NEVER, Ordering::SeqCst);
        }
    }

    /// Holds the units of `charge`, or with `may_clamp` what is left, if that covers the prompt and the least output an answer may be lowered to. A charge
    /// of nothing is never refused.
    ///
    /// # Errors
    /// [`Refusal::QuotaSpent`]; nothing is held then.
    pub fn reserve(
        &self,
        rule: Option<QuotaRule>,
        charge: &Charge,
        may_clamp: bool,
        unix_ms: i64,
    ) -> Result<Held, Refusal> {
        self.adopt(reset_of(rule));
        self.turn(unix_ms);
        let asked = charge.units();
        let limit = rule.map_or(u64::MAX, |rule| rule.limit);
        let mut committed = self.committed.load(Ordering::Acquire);
        loop {
            let left = limit.saturating_sub(committed);
            let held = match rule {
                _ if asked <= left => Some(Held { units: asked, clamp: None }),
                // Without a rule nothing is refused; `left` is what the counter itself can still hold.
                None => Some(Held { units: left, clamp: None }),
                Some(_) if may_clamp => clamped(charge, left),
                Some(_) => None,
            };
            let Some(held) = held.or((asked == 0).then_some(Held { units: 0, clamp: None })) else {
                return Err(self.spent(limit, asked, unix_ms));
            };
            let next = committed.saturating_add(held.units);
            match self.committed.compare_exchange_weak(committed, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(held),
                Err(other) => committed = other,
            }
        }
    }

    /// Ends a hold: `actual` units were used. Returns what was added (less than `actual` only where the counter would overflow), and to
    /// which count.
    pub fn settle(&self, held: Held, actual: Units, unix_ms: i64) -> QuotaCount {
        self.turn(unix_ms);
        let _no_turn = self.turning.read().unwrap_or_else(PoisonError::into_inner);
        let mut committed = self.committed.load(Ordering::Acquire);
        loop {
            let without = committed.saturating_sub(held.units);
            let counted = actual.min(u64::MAX - without);
            let next = without + counted;
            match self.committed.compare_exchange_weak(committed, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // Only after `committed`, or another thread could see the units in neither.
                    let add = |used: u64| Some(used.saturating_add(counted));
                    let _always = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
                    return QuotaCount { used: counted, ..self.days() };
                }
                Err(other) => committed = other,
            }
        }
    }

    /// Where it stands under `rule`, which may be older or newer than the one in force: changes nothing, and shows a period that is
    /// over as unused.
    pub fn standing(&self, rule: QuotaRule, unix_ms: i64) -> QuotaStanding {
        let today = period::day_of(unix_ms).max(self.day.load(Ordering::Acquire));
        let since = self.since.load(Ordering::Acquire);
        let is_over = period::start_of(today, rule.reset).is_some_and(|start| start > since);
        // In this order, so that a settlement in between is not shown as more than is committed.
        let used = self.used.load(Ordering::Acquire);
        let committed = self.committed.load(Ordering::Acquire);
        QuotaStanding {
            limit: rule.limit,
            used: if is_over { 0 } else { used },
            reserved: committed.saturating_sub(used),
            reset: rule.reset,
            resets_at_ms: self.resets_at_ms(rule.reset, unix_ms),
        }
    }

    /// Units settled in the period of the last touch.
    pub fn used(&self) -> Units {
        self.used.load(Ordering::Acquire)
    }

    /// Units settled and held.
    pub fn committed(&self) -> Units {
        self.committed.load(Ordering::Acquire)
    }

    /// Where the count stands: what [`QuotaState::restore`] wants back.
    pub fn count(&self) -> QuotaCount {
        let _no_turn = self.turning.read().unwrap_or_else(PoisonError::into_inner);
        QuotaCount { used: self.used(), ..self.days() }
    }

    /// Sets the count as a store remembers it; holds of requests under way stay. The days only rise.
    pub fn restore(&self, count: QuotaCount) {
        let _turning = self.turning.write().unwrap_or_else(PoisonError::into_inner);
        let before = self.used.swap(count.used, Ordering::AcqRel);
        self.shift_committed(before, count.used);
        self.since.fetch_max(count.since_day, Ordering::AcqRel);
        self.day.fetch_max(count.touched_day, Ordering::AcqRel);
        self.turned.store(NEVER, Ordering::Release);
    }

    /// Adds what another process has settled for the same key, as whoever keeps the books does.
    pub fn count_elsewhere(&self, counted: QuotaCount) {
        let _turning = self.turning.write().unwrap_or_else(PoisonError::into_inner);
        let before = self.used();
        let mut count = QuotaCount { used: before, ..self.days() };
        count.add(counted);
        // `committed` first when it grows: it is never seen below `used`.
        self.shift_committed(before, count.used);
        self.used.store(count.used, Ordering::Release);
        self.since.store(count.since_day, Ordering::Release);
        self.day.fetch_max(count.touched_day, Ordering::AcqRel);
    }

    /// Holds units for requests that another process has admitted for the same key, whatever the limit says.
    pub fn hold_elsewhere(&self, units: Units) {
        self.shift_committed(0, units);
    }

    /// Lets go of units that were held so.
    pub fn release_elsewhere(&self, units: Units) {
        self.shift_committed(units, 0);
    }

    /// The two days, and nothing used.
    fn days(&self) -> QuotaCount {
        let (since_day, touched_day) = (self.since.load(Ordering::Acquire), self.day.load(Ordering::Acquire));
        QuotaCount { used: 0, since_day, touched_day }
    }

    /// Begins the count anew if it began before the period that `unix_ms` lies in. One thread does it, others wait for it.
    fn turn(&self, unix_ms: i64) {
        let today = period::day_of(unix_ms);
        if today <= self.turned.load(Ordering::Acquire) {
            return;
        }
        let _turning = self.turning.write().unwrap_or_else(PoisonError::into_inner);
        if today <= self.turned.load(Ordering::Acquire) {
            return;
        }
        // A clock set back reopens nothing.
        let today = today.max(self.day.load(Ordering::Acquire));
        let since = self.since.load(Ordering::Acquire);
        let seen = self.reset();
        if period::start_of(today, seen).is_some_and(|start| start > since) {
            let before = self.used.swap(0, Ordering::AcqRel);
            self.shift_committed(before, 0);
            self.since.store(today, Ordering::Release);
        }
        self.day.store(today, Ordering::Release);
        self.turned.store(today, Ordering::SeqCst);
        if self.reset.load(Ordering::SeqCst) != seen as u8 {
            self.turned.store(NEVER, Ordering::SeqCst);
        }
    }

    fn shift_committed(&self, before: Units, after: Units) {
        let shift = |committed: u64| Some(committed.saturating_sub(before).saturating_add(after));
        let _always = self.committed.fetch_update(Ordering::AcqRel, Ordering::Acquire, shift);
    }

    fn reset(&self) -> QuotaReset {
        let seen = self.reset.load(Ordering::Relaxed);
        let all = [QuotaReset::Daily, QuotaReset::Weekly, QuotaReset::Monthly];
        all.into_iter().find(|reset| *reset as u8 == seen).unwrap_or(QuotaReset::None)
    }

    fn resets_at_ms(&self, reset: QuotaReset, unix_ms: i64) -> Option<i64> {
        // A clock set back does not bring the end of the period back.
        let day = period::day_of(unix_ms).max(self.day.load(Ordering::Acquire));
        period::end_of(day, reset).map(period::start_ms)
    }

    fn spent(&self, limit: Units, asked: Units, unix_ms: i64) -> Refusal {
        let until = self.resets_at_ms(self.reset(), unix_ms).map(|at| at.saturating_sub(unix_ms));
        let ns = until.map(|ms| u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000));
        Refusal::QuotaSpent { limit, used: self.used(), asked, resets_in_ns: ns }
    }
}

fn reset_of(rule: Option<QuotaRule>) -> QuotaReset {
    rule.map_or(QuotaReset::None, |rule| rule.reset)
}

/// The largest hold within `left` that covers the prompt and, for every answer, at least what the endpoint takes for a limit.
fn clamped(charge: &Charge, left: Units) -> Option<Held> {
    let each = covered_output(charge, left)?;
    Some(Held { units: charge.units_for_output(each * charge.estimate.choices.max(1)), clamp: Some(each) })
}

/// Output tokens of every answer that `left` units cover beside the prompt; `None` where that is less than the endpoint takes for a limit.
pub fn covered_output(charge: &Charge, left: Units) -> Option<Tokens> {
    let besides = Usage { input: charge.estimate.prompt, ..Usage::default() };
    let covered = charge.price.before_the_split().output_covered(&besides, left).min(charge.estimate.output);
    let each = covered / charge.estimate.choices.max(1);
    (each >= charge.least_output.max(1)).then_some(each)
}

#[cfg(test)]
mod tests;
