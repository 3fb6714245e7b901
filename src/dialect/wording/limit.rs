//! What is said of limits: each names the limit, its value, what was asked, and when it is there again (POLICY 3).

use http::StatusCode;

use super::times::{decimal, rfc3339_in};
use super::{Class, LONGEST_WAIT_NS, LimitWords, Retry, SHORT_WAIT_NS, Words};
use crate::clock::NS_PER_SECOND;
use crate::dialect::Notes;
use crate::units::{Tokens, Units};

fn exceeded(class: Class, message: String, retry: Retry, limit: LimitWords) -> Words {
    let words = Words::new(class, StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message);
    Words { limit: Some(limit), ..words.retry(retry) }
}

/// The minute's requests. "Please try again in ..." is the phrase clients read the wait from when they read no header.
pub(super) fn requests(limit: u32, retry_after_ns: u64) -> Words {
    let message = format!(
        "Rate limit reached for requests per minute (rpm_limit): Limit {limit}, Remaining 0, Requested 1. Please try again in {}.",
        decimal(retry_after_ns)
    );
    let limit = LimitWords { id: "KeywardRequestsPerMinute", value: limit.into() };
    exceeded(Class::Requests, message, Retry::after(retry_after_ns), limit)
}

/// The minute's tokens.
pub(super) fn tokens(limit: Tokens, remaining: Tokens, asked: Tokens, retry_after_ns: u64) -> Words {
    let message = format!(
        "Rate limit reached for tokens per minute (tpm_limit): Limit {limit}, Remaining {remaining}, Requested {asked}. Please \
         try again in {}.",
        decimal(retry_after_ns)
    );
    let limit = LimitWords { id: "KeywardTokensPerMinute", value: limit };
    exceeded(Class::Tokens, message, Retry::after(retry_after_ns), limit)
}

/// A prompt that no minute covers.
pub(super) fn prompt(limit: Tokens, asked: Tokens) -> Words {
    let message = format!(
        "Request too large for tokens per minute (tpm_limit): Limit {limit}, Requested {asked} for the prompt alone. Waiting \
         does not help: shorten the prompt, or ask the key's issuer for a higher limit."
    );
    let limit = LimitWords { id: "KeywardTokensPerMinute", value: limit };
    exceeded(Class::Tokens, message, Retry::NEVER, limit)
}

/// The slots. When one is free again nobody knows, so the wait is a short one.
pub(super) fn parallel(limit: u32) -> Words {
    let message = format!(
        "Rate limit reached for requests at once (max_parallel): Limit {limit}, Remaining 0, Requested 1. Please try again in \
         {}, or when a running request has ended.",
        decimal(SHORT_WAIT_NS)
    );
    let limit = LimitWords { id: "KeywardParallelRequests", value: limit.into() };
    exceeded(Class::Requests, message, Retry::after(SHORT_WAIT_NS), limit)
}

/// A refusal is told so soon after it was decided.
const RECKONED_WITHIN_NS: u64 = NS_PER_SECOND / 2;

/// Where a quota stands, units.
pub(super) struct Quota {
    pub(super) limit: Units,
    pub(super) used: Units,
    pub(super) asked: Units,
}

/// The quota. Never worth an SDK's retry; the wait is told only when it is short and the request then fits.
pub(super) fn quota(quota: &Quota, resets_in_ns: Option<u64>, notes: &Notes<'_>) -> Words {
    let Quota { limit, used, asked } = *quota;
    let reset = match resets_in_ns {
        // A period ends with a whole second, and what is left of it was reckoned a little before it is told.
        Some(ns) => format!("It resets at {}.", rfc3339_in(notes.now, ns.saturating_sub(RECKONED_WITHIN_NS))),
        None => "It does not reset by itself.".to_owned(),
    };
    let message = format!(
        "You exceeded your current quota (quota_limit): Limit {limit} units, Used {used}, Requested {asked}, and what is neither \
         used nor held by running requests does not cover it. {reset}"
    );
    let after_ns = resets_in_ns.filter(|ns| *ns < LONGEST_WAIT_NS && asked <= limit);
    // Days, weeks and months are all a day or longer; the id says so to clients that stop at "PerDay" and retry otherwise.
    let limit = LimitWords { id: "KeywardUnitsPerDayOrLonger", value: limit };
    let words = Words::new(Class::Quota, notes.quota_status, "insufficient_quota", message);
    Words { limit: Some(limit), ..words.retry(Retry { should: Some(false), after_ns }) }
}
