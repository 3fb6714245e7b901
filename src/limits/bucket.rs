//! The arithmetic of a continuously refilled bucket, exact in what it gives back.
//!
//! The bucket is a queue of debt, measured in time: capacity takes a minute to refill, so `n` of it is a stretch of
//! `n / capacity` minutes. Its level is the end of the queue, the moment at which everything would be repaid. Refill eats the
//! queue from the front as time passes; a request appends its stretch at the back and may do so while the queue is not
//! longer than a minute.
//!
//! **Giving back.** The queue remembers where the stretch of each request under way begins. When the request turns out to
//! have used less, what is left of the unused tail is cut out of the queue and the stretches behind it move up. A part that
//! refill has eaten already is not given back: it would be paid twice, and a request that reserved 500 of 1,000, waited
//! half a minute and was voided would leave 1,500 to be taken at once. So what a key can take in any span of time is at
//! most what an ideal bucket would give that had known from the start what each request would use.
//!
//! **Time is the state**, not tokens. When the limit changes the queue stays as it is, so that the *fraction* in use is kept:
//! no change of a limit hands out a fresh bucket. But for debt, what stands in the queue behind a minute, which is so many tokens: under a higher
//! limit they are repaid sooner, or a key whose answer was far longer than expected could not be helped by raising it. A lower limit leaves its
//! end where it is.

use crate::clock::NS_PER_MINUTE;
use crate::units::{Tokens, Tpm};

/// Ticks in a nanosecond. At the largest limit a token is still 384 of them.
const TICKS_PER_NS: u64 = 64;

/// Ticks in a minute: the longest queue a request may be appended to the end of.
const SPAN: u64 = NS_PER_MINUTE * TICKS_PER_NS;

/// The latest moment that is told apart from later ones: nine years of uptime. After it nothing is refilled any more, which
/// refuses and never lets pass.
const LATEST: u64 = u64::MAX - 4 * SPAN;

/// A bucket; starts full. Not shared by itself: `tokens` keeps it behind a lock.
#[derive(Debug, Default)]
pub struct Bucket {
    level: Level,
    /// The limit that was last asked by, or a higher one by which there is still debt; `None` before the first.
    limit: Option<Tpm>,
    /// Names stretches; rises.
    next: u64,
    /// The stretches that may still shrink, in the order of the queue, which is the order of their names.
    open: Vec<Stretch>,
}

/// How full a bucket is: the end of its queue, in ticks of the monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level(pub u64);

#[derive(Debug, Clone, Copy)]
struct Stretch {
    name: u64,
    start: u64,
}

/// What a request took; to be handed to [`Bucket::settle`] exactly once.
#[derive(Debug)]
#[must_use]
pub struct Taken {
    name: u64,
    tokens: Tokens,
    limit: Tpm,
}

impl Taken {
    /// How many tokens it is.
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }
}

/// Too little is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// What could be taken now.
    pub remaining: Tokens,
    /// Nanoseconds until what was asked for is there, if nothing else takes it. Exact: one earlier it is refused.
    pub retry_after_ns: u64,
}

impl Bucket {
    /// Takes `tokens`, at most all of `limit`, if they are there.
    ///
    /// # Errors
    /// [`Short`], and nothing is taken.
    pub fn take(&mut self, limit: Tpm, tokens: Tokens, now_ns: u64) -> Result<Taken, Short> {
        self.level = self.level.under(self.limit, limit, now_ns);
        self.limit = self.limit.filter(|before| *before > limit && self.level.is_in_debt(now_ns)).or(Some(limit));
        let tokens = tokens.min(limit.get());
        let (now, cost) = (ticks(now_ns), cost(tokens, limit));
        let start = self.level.0.max(now);
        let free = SPAN.saturating_sub(start - now);
        if cost > free {
            let wait = (start - now).saturating_add(cost) - SPAN;
            return Err(Short {
                remaining: self.level.remaining(limit, now_ns),
                retry_after_ns: wait.div_ceil(TICKS_PER_NS),
            });
        }
        let name = self.next;
        self.next += 1;
        self.open.push(Stretch { name, start });
        self.level = Level(start.saturating_add(cost));
        Ok(Taken { name, tokens, limit })
    }

    /// Ends a request that used `used`: gives back what is unused and not yet repaid; an overrun is debt from now.
    pub fn settle(&mut self, taken: Taken, used: Tokens, now_ns: u64) {
        let Ok(at) = self.open.binary_search_by_key(&taken.name, |stretch| stretch.name) else { return };
        let start = self.open.remove(at).start;
        if used < taken.tokens {
            let end = start.saturating_add(cost(taken.tokens, taken.limit));
            let kept_to = start.saturating_add(cost(used, taken.limit)).max(ticks(now_ns));
            let back = end.saturating_sub(kept_to);
            self.level = Level(self.level.0.saturating_sub(back));
            for behind in self.open.iter_mut().skip(at) {
                behind.start = behind.start.saturating_sub(back);
            }
        } else {
            self.owe(taken.limit, used - taken.tokens, now_ns);
        }
        if self.open.is_empty() && self.open.capacity() > 1024 {
            self.open = Vec::new();
        }
    }

    /// Adds debt of `tokens` from now on, whatever is left: by `limit`, or by a higher one that came since.
    pub fn owe(&mut self, limit: Tpm, tokens: Tokens, now_ns: u64) {
        let limit = self.limit.map_or(limit, |latest| latest.max(limit));
        if tokens > 0 {
            self.level = Level(self.level.0.max(ticks(now_ns)).saturating_add(cost(tokens, limit)));
        }
    }

    /// How full it is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The limit that is by; `None` before it was asked.
    pub fn limit(&self) -> Option<Tpm> {
        self.limit
    }
}

impl Level {
    /// What was so much by the limit `before`, by `limit`.
    pub fn under(self, before: Option<Tpm>, limit: Tpm, now_ns: u64) -> Self {
        let Some(before) = before.filter(|before| *before < limit) else { return self };
        let full = ticks(now_ns).saturating_add(SPAN);
        let debt = u128::from(self.0.saturating_sub(full)) * u128::from(before.get()) / u128::from(limit.get());
        // Less than it was.
        u64::try_from(debt).map_or(self, |debt| Self(self.0.min(full.saturating_add(debt))))
    }

    /// Whether more is to be repaid than a minute gives.
    fn is_in_debt(self, now_ns: u64) -> bool {
        self.0 > ticks(now_ns).saturating_add(SPAN)
    }

    /// The most that could be taken now; 0 while in debt.
    pub fn remaining(self, limit: Tpm, now_ns: u64) -> Tokens {
        let now = ticks(now_ns);
        let free = SPAN.saturating_sub(self.0.max(now) - now);
        // The largest n with floor(n * SPAN / limit) <= free.
        let n = ((u128::from(free) + 1) * u128::from(limit.get())).div_ceil(u128::from(SPAN)) - 1;
        u64::try_from(n).unwrap_or(u64::MAX).min(limit.get())
    }

    /// Nanoseconds until all of it is there again, if nothing is taken.
    pub fn full_in_ns(self, now_ns: u64) -> u64 {
        self.0.saturating_sub(ticks(now_ns)).div_ceil(TICKS_PER_NS)
    }
}

fn ticks(ns: u64) -> u64 {
    ns.saturating_mul(TICKS_PER_NS).min(LATEST)
}

/// The stretch that `tokens` are, rounded down: in the requester's favour by less than one tick (1/64 ns of refill) a request,
/// so that a limit of `n` can be taken in `n` single tokens, which rounding up would deny.
fn cost(tokens: Tokens, limit: Tpm) -> u64 {
    match tokens.checked_mul(SPAN) {
        Some(product) => product / limit.get(),
        None => {
            let product = u128::from(tokens) * u128::from(SPAN);
            u64::try_from(product / u128::from(limit.get())).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests;
