//! Tokens per minute: reserve, settle, debt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::limits::bucket::{Bucket, Level, Taken};
use crate::policy::{Gauge, Refusal};
use crate::units::{Tokens, Tpm};

/// The tokens of one key. Made on first use; a full bucket until then. The lock is held for some tens of nanoseconds and never
/// while anything else is waited for.
#[derive(Debug, Default)]
pub struct TokenBucket(OnceLock<Box<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    bucket: Mutex<Bucket>,
    /// The bucket's level and the limit it is by (0 for none), written with the lock held: whoever only looks takes none.
    level: AtomicU64,
    limit: AtomicU64,
}

impl TokenBucket {
    /// Reserves `wanted` tokens, clipped to a minute's worth so that a small key is not refused for ever.
    ///
    /// # Errors
    /// [`Refusal::PromptOverTokenLimit`] when `prompt` alone is more than a minute gives, [`Refusal::TokensExceeded`]. Nothing is
    /// changed then.
    pub fn take(&self, limit: Tpm, prompt: Tokens, wanted: Tokens, now_ns: u64) -> Result<Taken, Refusal> {
        if prompt > limit.get() {
            return Err(Refusal::PromptOverTokenLimit { limit: limit.get(), asked: prompt });
        }
        let asked = wanted.min(limit.get());
        self.change(|bucket| bucket.take(limit, asked, now_ns)).map_err(|short| Refusal::TokensExceeded {
            limit: limit.get(),
            remaining: short.remaining,
            asked,
            retry_after_ns: short.retry_after_ns,
        })
    }

    /// Ends a reservation: a surplus goes back as far as it is not repaid, an overrun is debt from now.
    pub fn settle(&self, taken: Taken, used: Tokens, now_ns: u64) {
        self.change(|bucket| bucket.settle(taken, used, now_ns));
    }

    /// Debt for tokens that were not reserved.
    pub fn owe(&self, limit: Tpm, tokens: Tokens, now_ns: u64) {
        if tokens > 0 {
            self.change(|bucket| bucket.owe(limit, tokens, now_ns));
        }
    }

    /// Where the limit stands; changes nothing.
    pub fn gauge(&self, limit: Tpm, now_ns: u64) -> Gauge {
        let limit_tokens = limit.get();
        match self.0.get() {
            None => Gauge { limit: limit_tokens, remaining: limit_tokens, reset_ns: 0 },
            Some(shared) => {
                let before = Tpm::new(shared.limit.load(Ordering::Acquire));
                let level = Level(shared.level.load(Ordering::Acquire)).under(before, limit, now_ns);
                Gauge {
                    limit: limit_tokens,
                    remaining: level.remaining(limit, now_ns),
                    reset_ns: level.full_in_ns(now_ns),
                }
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Bucket) -> T) -> T {
        let shared = self.0.get_or_init(Box::default);
        // A panic while it is held would leave whole numbers, never half of one: the bucket stays usable.
        let mut bucket = shared.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut bucket);
        shared.level.store(bucket.level().0, Ordering::Release);
        // Changes with the policy alone, behind a level that is by it already.
        let limit = bucket.limit().map_or(0, Tpm::get);
        if shared.limit.load(Ordering::Relaxed) != limit {
            shared.limit.store(limit, Ordering::Release);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NS_PER_MINUTE;

    const T0: u64 = NS_PER_MINUTE;

    #[test]
    fn a_small_key_is_not_refused_for_ever_but_a_prompt_that_cannot_fit_is() {
        let (tokens, limit) = (TokenBucket::default(), Tpm::new(100).unwrap());
        let refused = tokens.take(limit, 101, 200, T0).map(drop);
        assert_eq!(refused, Err(Refusal::PromptOverTokenLimit { limit: 100, asked: 101 }));
        let taken = tokens.take(limit, 50, 5_000, T0).unwrap();
        assert_eq!(taken.tokens(), 100);
        let refused = tokens.take(limit, 1, 7, T0).map(drop);
        let expected = Refusal::TokensExceeded { limit: 100, remaining: 0, asked: 7, retry_after_ns: 4_200_000_000 };
        assert_eq!(refused, Err(expected));
        tokens.settle(taken, 40, T0);
        assert_eq!(tokens.gauge(limit, T0).remaining, 60);
    }

    #[test]
    fn what_was_not_reserved_is_debt() {
        let (tokens, limit) = (TokenBucket::default(), Tpm::new(60).unwrap());
        assert_eq!(tokens.gauge(limit, T0), Gauge { limit: 60, remaining: 60, reset_ns: 0 });
        tokens.owe(limit, 90, T0);
        assert_eq!(tokens.gauge(limit, T0), Gauge { limit: 60, remaining: 0, reset_ns: 90_000_000_000 });
    }
}
