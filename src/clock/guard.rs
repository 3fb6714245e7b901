//! A wall clock that may be stepped, and what is made of it: an expired key does not live again, and no mistake lasts for ever.
//!
//! Beside the wall clock runs a line: the last time that was certain, carried on by the monotonic clock. The time is the later of both.
//!
//! | the wall clock | the time | the line |
//! |---|---|---|
//! | runs | the wall clock's | follows it |
//! | is set forward | the wall clock's: what has expired by it is refused; quota periods turn by the line | stays as it was, and follows once the wall clock has stood by it for an hour |
//! | is set back again within that hour | the wall clock's: the mistake has left nothing | - |
//! | is set back | the line's: it goes on as if nothing had happened | goes on for a day; then it stands still until the wall clock has caught up |
//!
//! The line goes on from one process to the next ([`Mark`](super::Mark)), and the hour and the day begin anew with each; it is the wall clock's where the
//! system was started anew and there is no later mark.
//!
//! So the time never goes back behind the line, and the two are one again in the time that the wall clock was set back by, and a day, at most.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::Now;

const MS: i64 = 1_000_000;
const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600 * SECOND_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Steps no longer than this are a clock that is being adjusted.
const SLACK_MS: i64 = 2 * SECOND_MS;

/// How long a wall clock that was set forward must stand by it.
const SETTLE_MS: i64 = HOUR_MS;

/// How long the line goes on when the wall clock is behind it.
const PATIENCE_MS: i64 = DAY_MS;

/// How the wall clock stands to what is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// They agree.
    None,
    /// It was set forward by so many milliseconds, and has not stood by it for long.
    Ahead(i64),
    /// It was set back by so many milliseconds, and is not believed.
    Behind(i64),
}

/// The line.
#[derive(Debug)]
pub(super) struct Guard {
    /// What is to be added to the monotonic clock's milliseconds.
    offset_ms: AtomicI64,
    /// Where it stands still.
    ceiling_ms: AtomicI64,
    since: Mutex<Since>,
    /// What this run of the system is known by.
    boot: Option<Box<str>>,
}

/// Milliseconds of the monotonic clock at which the wall clock was first seen off the line.
#[derive(Debug, Default)]
struct Since {
    ahead_ms: Option<i64>,
    behind_ms: Option<i64>,
}

impl Guard {
    /// Of what is certain at the moment that the monotonic clock says.
    pub(super) fn new(monotonic_ns: u64, certain_ms: i64, boot: Option<&str>) -> Self {
        Self {
            offset_ms: AtomicI64::new(certain_ms.saturating_sub(ms(monotonic_ns))),
            ceiling_ms: AtomicI64::new(i64::MAX),
            since: Mutex::default(),
            boot: boot.map(Into::into),
        }
    }

    /// What this run of the system is known by.
    pub(super) fn boot(&self) -> Option<&str> {
        self.boot.as_deref()
    }

    /// The line.
    pub(super) fn line_ms(&self, monotonic_ns: u64) -> i64 {
        let line = self.offset_ms.load(Ordering::Relaxed).saturating_add(ms(monotonic_ns));
        line.min(self.ceiling_ms.load(Ordering::Relaxed))
    }

    /// The earliest that the time can be.
    pub(super) fn least_ms(&self, monotonic_ns: u64) -> i64 {
        self.line_ms(monotonic_ns).saturating_sub(SLACK_MS)
    }

    /// The latest that the time can be, as far as is certain.
    pub(super) fn most_ms(&self, monotonic_ns: u64) -> i64 {
        self.line_ms(monotonic_ns).saturating_add(SLACK_MS)
    }

    /// Looks how the wall clock stands, and moves the line.
    pub(super) fn keep(&self, now: Now) -> Lead {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let (monotonic_ms, line) = (ms(now.monotonic_ns), self.line_ms(now.monotonic_ns));
        let lead = now.unix_ms.saturating_sub(line);
        if lead < -SLACK_MS {
            since.ahead_ms = None;
            let began = *since.behind_ms.get_or_insert(monotonic_ms);
            if monotonic_ms.saturating_sub(began) >= PATIENCE_MS {
                self.ceiling_ms.store(line, Ordering::Relaxed);
            }
            return Lead::Behind(-lead);
        }
        since.behind_ms = None;
        if lead > SLACK_MS {
            let began = *since.ahead_ms.get_or_insert(monotonic_ms);
            if monotonic_ms.saturating_sub(began) < SETTLE_MS {
                self.put(line, monotonic_ms);
                return Lead::Ahead(lead);
            }
        }
        since.ahead_ms = None;
        self.put(line.max(now.unix_ms), monotonic_ms);
        Lead::None
    }

    /// The line goes on from here.
    fn put(&self, line: i64, monotonic_ms: i64) {
        // In this order: in between it stands still at most.
        self.offset_ms.store(line.saturating_sub(monotonic_ms), Ordering::Relaxed);
        self.ceiling_ms.store(i64::MAX, Ordering::Relaxed);
    }
}

fn ms(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX) / MS
}

#[cfg(test)]
mod tests;
