//! What a request holds from admission to its end, all limits or none.

use std::borrow::Borrow;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::clock::{Clock, Now};
use crate::limits::bucket::Taken;
use crate::limits::concurrency::Slots;
use crate::limits::quota::{Held, QuotaCount, QuotaState};
use crate::limits::requests::{Counted, Requests};
use crate::limits::settings::{LimitSettings, OnLowQuota};
use crate::limits::tokens::TokenBucket;
use crate::policy::{
    Charge, KeyPolicy, ParallelStanding, QuotaReset, QuotaRule, QuotaStanding, Rates, Refusal, Standing, Usage,
};
use crate::units::{Tokens, Tpm, Units};

/// The most tokens of a kind that one answer is believed to have used. A backend that says more is clamped and the usage marked
/// estimated (SECURITY 3).
pub const MOST_TOKENS: Tokens = 1_000_000_000;

/// The longest audio that one answer is believed to have, in milliseconds: eleven days.
pub const MOST_AUDIO_MS: u64 = 1_000_000_000;

/// The running state of one key's limits, shared by every request with any of its secrets. It holds no limits, so replacing a
/// policy keeps it.
#[derive(Debug, Default)]
pub struct KeyLimits {
    quota: QuotaState,
    tokens: TokenBucket,
    requests: Requests,
    slots: Slots,
}

impl KeyLimits {
    /// The state of a key never used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the key stands in every limit that `policy` sets, at a time that is certain. Takes nothing.
    pub fn standing(&self, policy: &KeyPolicy, now: Now) -> Standing {
        let Rates { requests, tokens } = self.rates(policy, now);
        Standing {
            requests,
            tokens,
            quota: policy.quota.map(|rule| self.quota.standing(rule, now.unix_ms)),
            parallel: policy
                .max_parallel
                .map(|limit| ParallelStanding { limit: limit.get(), in_use: self.slots.in_use() }),
        }
    }

    /// The same of the rate limits alone.
    pub fn rates(&self, policy: &KeyPolicy, now: Now) -> Rates {
        Rates {
            requests: policy.rpm.map(|limit| self.requests.gauge(limit, now.monotonic_ns)),
            tokens: policy.tpm.map(|limit| self.tokens.gauge(limit, now.monotonic_ns)),
        }
    }

    /// Requests under way, whether or not there is a limit.
    pub fn in_use(&self) -> u32 {
        self.slots.in_use()
    }

    /// Units settled in the period of the last touch. Counted without a quota too.
    pub fn quota_used(&self) -> Units {
        self.quota.used()
    }

    /// Where the quota stands under `rule`, which need not be the key's own, at a time that is certain. Takes nothing.
    pub fn quota_standing(&self, rule: QuotaRule, now: Now) -> QuotaStanding {
        self.quota.standing(rule, now.unix_ms)
    }

    /// Units settled and held by requests under way.
    pub fn quota_committed(&self) -> Units {
        self.quota.committed()
    }

    /// Where the quota's count stands: what a store remembers.
    pub fn quota_count(&self) -> QuotaCount {
        self.quota.count()
    }

    /// Sets the quota's count as a store remembers it. What is held stays; no period is reopened.
    pub fn restore_quota(&self, count: QuotaCount) {
        self.quota.restore(count);
    }

    /// Adds what another process has settled for the same key.
    pub fn count_elsewhere(&self, counted: QuotaCount) {
        self.quota.count_elsewhere(counted);
    }

    /// Holds units of the quota for requests that another process has admitted.
    pub fn hold_elsewhere(&self, units: Units) {
        self.quota.hold_elsewhere(units);
    }

    /// Lets go of units that were held so.
    pub fn release_elsewhere(&self, units: Units) {
        self.quota.release_elsewhere(units);
    }

    /// Takes note of a new policy, so that requests still running under an old one settle by the new reset rule.
    pub fn adopt(&self, policy: &KeyPolicy) {
        self.quota.adopt(policy.quota.map_or(QuotaReset::None, |rule| rule.reset));
    }
}

/// Takes from every limit, or from none: quota, a slot, tokens, and last the request itself. Whatever refuses, what was taken before it is void, exactly.
/// `state` is whatever holds the key's limits for as long as the request lasts.
///
/// # Errors
/// [`Refusal::QuotaSpent`], [`Refusal::TooManyParallel`], [`Refusal::PromptOverTokenLimit`], [`Refusal::TokensExceeded`],
/// [`Refusal::RequestsExceeded`].
pub fn reserve<S: Borrow<KeyLimits>>(
    state: S,
    policy: &KeyPolicy,
    charge: Charge,
    settings: &LimitSettings,
    clock: &Clock,
    now: Now,
) -> Result<Box<Reservation<S>>, Refusal> {
    all_or_none(state, policy, charge, settings, clock, now, true)
}

/// The same for what happens within a request that is under way and holds the slot: everything but another one.
///
/// # Errors
/// As [`reserve`], but for [`Refusal::TooManyParallel`].
pub fn reserve_within<S: Borrow<KeyLimits>>(
    state: S,
    policy: &KeyPolicy,
    charge: Charge,
    settings: &LimitSettings,
    clock: &Clock,
    now: Now,
) -> Result<Box<Reservation<S>>, Refusal> {
    all_or_none(state, policy, charge, settings, clock, now, false)
}

/// For what a backend has begun unasked: takes nothing, so that nothing can refuse it, and leaves all of what it will have used to be
/// settled as debt.
pub fn owe<S: Borrow<KeyLimits>>(
    state: S,
    policy: &KeyPolicy,
    charge: Charge,
    clock: &Clock,
    now: Now,
) -> Box<Reservation<S>> {
    let nothing = Charge { bills_quota: false, can_clamp: false, ..charge };
    // A charge of nothing is never refused.
    let held = state.borrow().quota.reserve(policy.quota, &nothing, false, clock.certain_ms(now)).ok();
    Reservation::begin(state, policy, charge, clock, held)
}

fn all_or_none<S: Borrow<KeyLimits>>(
    state: S,
    policy: &KeyPolicy,
    charge: Charge,
    settings: &LimitSettings,
    clock: &Clock,
    now: Now,
    takes_slot: bool,
) -> Result<Box<Reservation<S>>, Refusal> {
    let may_clamp = charge.can_clamp && settings.on_low_quota == OnLowQuota::Clamp;
    let held = state.borrow().quota.reserve(policy.quota, &charge, may_clamp, clock.certain_ms(now))?;
    // From here on dropping it gives everything back.
    let mut reservation = Reservation::begin(state, policy, charge, clock, Some(held));
    match reservation.take_rates(policy, takes_slot, now) {
        Ok(()) => Ok(reservation),
        Err(refusal) => {
            reservation.void(now);
            Err(refusal)
        }
    }
}

/// What a request under way holds. Exactly one of [`Reservation::settle`], [`Reservation::void`], [`Reservation::undo`] or a drop
/// ends it; a drop, also by panic, settles with what was seen. `S` holds the limits of the key.
#[derive(Debug)]
#[must_use = "a reservation is settled, voided, or charged as metered so far when it is dropped"]
pub struct Reservation<S: Borrow<KeyLimits> = Arc<KeyLimits>> {
    state: S,
    /// The token limit that it came under.
    tpm: Option<Tpm>,
    charge: Charge,
    /// `None` once it has ended, and then there is nothing to give back.
    held: Option<Held>,
    slot: bool,
    taken: Option<Taken>,
    counted: Option<Counted>,
    clamp: Option<Tokens>,
    observed: Option<Usage>,
    is_forwarded: bool,
    /// For the drop only, where nobody can say what time it is.
    clock: Clock,
}

/// What a request was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Settled {
    /// The usage it was charged for: as given, within [`MOST_TOKENS`].
    pub usage: Usage,
    /// Units counted in the quota.
    pub units: Units,
    /// The same, and to which count of the quota they were added.
    pub counted: QuotaCount,
    /// Tokens counted in the token limit.
    pub tokens: Tokens,
}

impl<S: Borrow<KeyLimits>> Reservation<S> {
    /// On the heap, and made there: it is handed on from stage to stage.
    fn begin(state: S, policy: &KeyPolicy, charge: Charge, clock: &Clock, held: Option<Held>) -> Box<Self> {
        Box::write(
            Box::new_uninit(),
            Self {
                clamp: held.as_ref().and_then(Held::clamp),
                held,
                slot: false,
                taken: None,
                counted: None,
                state,
                tpm: policy.tpm,
                charge,
                observed: None,
                is_forwarded: false,
                clock: clock.clone(),
            },
        )
    }

    /// What holds the key's limits.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// When the quota covers only part of the output that was asked for: how many output tokens each answer (choice) may have.
    pub fn clamp(&self) -> Option<Tokens> {
        self.clamp
    }

    /// Marks that the request goes to a backend, so that from now on a drop costs at least its prompt.
    pub fn forwarded(&mut self) {
        self.is_forwarded = true;
    }

    /// Notes what was metered so far; the last one counts.
    pub fn observe(&mut self, usage: Usage) {
        self.is_forwarded = true;
        self.observed = Some(usage);
    }

    /// What was last observed.
    pub fn observed(&self) -> Option<Usage> {
        self.observed
    }

    /// What was to be reserved.
    pub fn charge(&self) -> &Charge {
        &self.charge
    }

    /// Ends it: `usage` is charged, a surplus goes back, an overrun is debt, the slot is free.
    #[expect(clippy::boxed_local, reason = "by value it would be copied to be ended")]
    pub fn settle(mut self: Box<Self>, usage: Usage, now: Now) -> Settled {
        self.end(usage, now)
    }

    /// Ends it without a charge: tokens and quota go back, the slot is free; the request stays counted in rpm.
    #[expect(clippy::boxed_local, reason = "by value it would be copied to be ended")]
    pub fn void(mut self: Box<Self>, now: Now) {
        self.give_back(now);
    }

    /// Ends it as if it had never been made: as [`Reservation::void`], and it is not counted in rpm either, as far as time has not
    /// repaid that already. For what no backend has answered (POLICY 6).
    #[expect(clippy::boxed_local, reason = "by value it would be copied to be ended")]
    pub fn undo(mut self: Box<Self>, now: Now) {
        self.give_back(now);
        if let Some(counted) = self.counted.take() {
            self.limits().requests.give_back(&counted, now.monotonic_ns);
        }
    }

    /// What a request that stops here is charged for: what was observed, and at least the estimated prompt when no report of it
    /// came; nothing when it was never forwarded.
    pub fn seen(&self) -> Option<Usage> {
        if !self.is_forwarded {
            return None;
        }
        let prompt = self.charge.estimate.prompt;
        let seen = self.observed.unwrap_or(Usage { estimated: true, ..Usage::default() });
        Some(if (seen.estimated || seen.input == 0) && seen.input < prompt {
            Usage { input: prompt, estimated: true, ..seen }
        } else {
            seen
        })
    }

    fn limits(&self) -> &KeyLimits {
        self.state.borrow()
    }

    fn take_rates(&mut self, policy: &KeyPolicy, takes_slot: bool, now: Now) -> Result<(), Refusal> {
        let state = self.state.borrow();
        self.slot = takes_slot && state.slots.take(policy.max_parallel);
        if takes_slot && !self.slot {
            let limit = policy.max_parallel.map_or(u32::MAX, |limit| limit.get());
            return Err(Refusal::TooManyParallel { limit });
        }
        if let Some(limit) = policy.tpm.filter(|_| self.charge.tokens() > 0) {
            let prompt = self.charge.estimate.prompt;
            self.taken = Some(state.tokens.take(limit, prompt, self.wanted_tokens(), now.monotonic_ns)?);
        }
        if let Some(limit) = policy.rpm {
            let counted = state.requests.take(limit, now.monotonic_ns);
            let refused =
                |wait: NonZeroU64| Refusal::RequestsExceeded { limit: limit.get(), retry_after_ns: wait.get() };
            self.counted = Some(counted.map_err(refused)?);
        }
        Ok(())
    }

    /// Tokens to reserve: of a clamped output only what it may have.
    fn wanted_tokens(&self) -> Tokens {
        let estimate = self.charge.estimate;
        match self.clamp {
            Some(each) => estimate.prompt.saturating_add(each.saturating_mul(estimate.choices.max(1))),
            None => estimate.total(),
        }
    }

    fn end(&mut self, usage: Usage, now: Now) -> Settled {
        let usage = believable(usage);
        let tokens = if self.is_free() { 0 } else { usage.total() };
        match self.taken.take() {
            Some(taken) => self.limits().tokens.settle(taken, tokens, now.monotonic_ns),
            None => {
                if let Some(limit) = self.tpm {
                    self.limits().tokens.owe(limit, tokens, now.monotonic_ns);
                }
            }
        }
        let counted = match self.held.take() {
            Some(held) => self.limits().quota.settle(held, self.charge.units_of(&usage), self.clock.certain_ms(now)),
            None => QuotaCount::default(),
        };
        self.free_slot();
        Settled { usage, units: counted.used, counted, tokens }
    }

    fn give_back(&mut self, now: Now) {
        if let Some(taken) = self.taken.take() {
            self.limits().tokens.settle(taken, 0, now.monotonic_ns);
        }
        if let Some(held) = self.held.take() {
            let _nothing = self.limits().quota.settle(held, 0, self.clock.certain_ms(now));
        }
        self.free_slot();
    }

    fn free_slot(&mut self) {
        if std::mem::take(&mut self.slot) {
            self.limits().slots.free();
        }
    }

    /// A call that costs nothing by its nature (a token count, the proxy's own answers), whatever a backend reports for it.
    fn is_free(&self) -> bool {
        !self.charge.bills_quota && self.charge.tokens() == 0
    }
}

impl<S: Borrow<KeyLimits>> Drop for Reservation<S> {
    fn drop(&mut self) {
        if self.held.is_none() {
            return;
        }
        let now = self.clock.now();
        match self.seen() {
            Some(usage) => {
                let _nobody_asks = self.end(usage, now);
            }
            None => self.give_back(now),
        }
    }
}

/// `usage` within what an answer can have used; marked estimated where it was not.
fn believable(usage: Usage) -> Usage {
    let input = usage.input.min(MOST_TOKENS);
    let output = usage.output.min(MOST_TOKENS);
    let cached_input = usage.cached_input.min(input);
    let cache_write = usage.cache_write.min(input - cached_input);
    let reasoning = usage.reasoning.min(output);
    let audio_ms = usage.audio_ms.min(MOST_AUDIO_MS);
    let clamped = Usage { input, cached_input, cache_write, output, reasoning, audio_ms, estimated: usage.estimated };
    Usage { estimated: usage.estimated || clamped != usage, ..clamped }
}

#[cfg(test)]
mod tests;
