//! What a request wants, what it may cost, what it did cost.

use crate::policy::endpoint::{DialectName, Endpoint};
use crate::policy::price::Price;
use crate::units::{ModelName, Tokens, Units};

/// Everything the rules need to know of a request, found without changing a byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFacts {
    /// Whose API.
    pub dialect: DialectName,
    /// Which call.
    pub endpoint: Endpoint,
    /// The one model the backend will read, as the client wrote it; `None` where a call has none.
    pub model: Option<ModelName>,
    /// Further models the body lets the backend fall back to; each must be allowed too.
    pub other_models: Vec<ModelName>,
    /// Whether the operator marked this passthrough path as one that reaches no model.
    pub model_free: bool,
    /// Whether the answer is asked for as a stream.
    pub stream: bool,
    /// What it may cost in tokens.
    pub estimate: Estimate,
}

/// A request's cost in tokens before it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Prompt tokens, leaning high.
    pub prompt: Tokens,
    /// Output tokens of the whole answer: what the request allows itself times its choices, or the learnt default.
    pub output: Tokens,
    /// How many answers one prompt asks for (`n`, `best_of`, `candidateCount`); at least 1.
    pub choices: u64,
    /// Whether `output` was stated by the request rather than assumed.
    pub output_is_stated: bool,
    /// The lowest limit of one answer's output that the API takes of this request, as far as that says so.
    pub least_output: Tokens,
}

impl Estimate {
    /// Prompt and output together.
    pub fn total(self) -> Tokens {
        self.prompt.saturating_add(self.output)
    }
}

/// What is reserved before a request is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// The estimate it was made from.
    pub estimate: Estimate,
    /// What a unit of usage costs.
    pub price: Price,
    /// Whether quota is billed at all: not for sandbox keys and not for calls that are free.
    pub bills_quota: bool,
    /// Whether the output can be lowered to what a quota still covers.
    pub can_clamp: bool,
    /// The lowest limit of one choice's output that the endpoint takes; at least 1.
    pub least_output: Tokens,
}

impl Charge {
    /// Tokens to reserve.
    pub fn tokens(&self) -> Tokens {
        self.estimate.total()
    }

    /// Units to reserve for the prompt and `output` tokens of answer: enough for any split of the prompt between plain, cached and
    /// cache-writing tokens.
    pub fn units_for_output(&self, output: Tokens) -> Units {
        if !self.bills_quota {
            return 0;
        }
        self.price.before_the_split().units(&Usage { input: self.estimate.prompt, output, ..Usage::default() })
    }

    /// Units to reserve.
    pub fn units(&self) -> Units {
        self.units_for_output(self.estimate.output)
    }

    /// Units that `usage` costs.
    pub fn units_of(&self, usage: &Usage) -> Units {
        if self.bills_quota { self.price.units(usage) } else { 0 }
    }
}

/// What an answer used, in one meaning for every dialect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Every prompt token, the cached and the cache-writing ones included.
    pub input: Tokens,
    /// Those of `input` that were read from a cache.
    pub cached_input: Tokens,
    /// Those of `input` that were written to a cache.
    pub cache_write: Tokens,
    /// Every generated token, the reasoning ones included.
    pub output: Tokens,
    /// Those of `output` that were reasoning.
    pub reasoning: Tokens,
    /// Seconds of audio, where a backend bills by them (milliseconds).
    pub audio_ms: u64,
    /// True when any number here was estimated by us rather than reported by the backend, or was clamped.
    pub estimated: bool,
}

impl Usage {
    /// Input and output together: what a token limit counts.
    pub fn total(&self) -> Tokens {
        self.input.saturating_add(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn usage_within_the_estimate_never_costs_more_than_was_reserved(
            prices in (0_u64..1 << 40, 0_u64..1 << 40, 0_u64..1 << 40, 0_u64..1 << 40, 0_u64..1_000),
            estimate in (0_u64..1 << 30, 0_u64..1 << 30),
            used in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let (input, cached_input, cache_write, output, request) = prices;
            let estimate = Estimate { prompt: estimate.0, output: estimate.1, choices: 1, output_is_stated: true, least_output: 1 };
            let price = Price { input, cached_input, cache_write, output, request };
            let charge = Charge { estimate, price, bills_quota: true, can_clamp: true, least_output: 1 };
            let most = |tokens: Tokens| usize::try_from(tokens).unwrap() + 1;
            let input = used.0.index(most(estimate.prompt)) as u64;
            let cached_input = used.1.index(most(input)) as u64;
            let cache_write = used.2.index(most(input - cached_input)) as u64;
            let output = used.3.index(most(estimate.output)) as u64;
            let usage = Usage { input, cached_input, cache_write, output, ..Usage::default() };
            prop_assert!(charge.units_of(&usage) <= charge.units());
        }
    }
}
