//! The only reader of time. Everything else is given a [`Now`].
#![expect(clippy::disallowed_methods, reason = "this module is the one place that may")]

mod guard;
mod mark;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustix::time::ClockId;

use guard::Guard;
pub use guard::Lead;
pub use mark::{Mark, NoMark, SinceBoot};

/// Nanoseconds in a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds in a minute, the period of every rate limit.
pub const NS_PER_MINUTE: u64 = 60 * NS_PER_SECOND;

/// One reading of both clocks. Rate limits and timeouts run on the first, expiry and quota periods on the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since one minute before the clock was made; never goes back.
    pub monotonic_ns: u64,
    /// Milliseconds since 1970 by the wall clock; an operator may set it back. A guarded clock does not go back with it.
    pub unix_ms: i64,
}

impl Now {
    /// Whole seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.unix_ms.div_euclid(1000)
    }

    /// The reading `ns` nanoseconds later.
    pub fn plus_ns(self, ns: u64) -> Self {
        let ms = i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
        Self { monotonic_ns: self.monotonic_ns.saturating_add(ns), unix_ms: self.unix_ms.saturating_add(ms) }
    }
}

/// A source of [`Now`]; clones share it. Tests make one they move by hand.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    /// For the life of the process, as its clock is: every request holds a clock, and none is to count who does.
    guard: Option<&'static Guard>,
}

#[derive(Debug, Clone)]
enum Source {
    /// `origin_ns` is what the system's monotonic clock said when this one was made.
    System {
        origin_ns: u64,
    },
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    monotonic_ns: AtomicU64,
    unix_ms: AtomicI64,
}

impl Clock {
    /// The machine's clocks. The monotonic reading starts at one minute, so that a limiter's "full since" can lie before it.
    pub fn system() -> Self {
        Self { source: Source::System { origin_ns: read_ns(ClockId::Monotonic) }, guard: None }
    }

    /// A clock that stands still until moved.
    pub fn manual(start: Now) -> Self {
        let hands = Hands { monotonic_ns: AtomicU64::new(start.monotonic_ns), unix_ms: AtomicI64::new(start.unix_ms) };
        Self { source: Source::Manual(Arc::new(hands)), guard: None }
    }

    /// The same clock, whose time by the wall does not go back when the wall clock is set back: see [`Clock::keep`]. `mark` is what an earlier process has
    /// left: where the system has run ever since, that process's time goes on, and a wall clock that is ahead of it is believed no sooner than it would
    /// have been; where it was started anew, nobody knows for how long it was off, and the later of both is believed. What keeps it is never given back:
    /// a process has one such clock. `boot` is what this run of the system is known by.
    #[must_use]
    pub fn guarded(self, boot: Option<&str>, mark: Option<Mark>) -> Self {
        let (raw, now) = (self.raw(), self.since_boot(boot));
        let certain =
            mark.map_or(raw.unix_ms, |mark| mark.at(now.as_ref()).unwrap_or_else(|| mark.unix_ms.max(raw.unix_ms)));
        let guard = Box::leak(Box::new(Guard::new(raw.monotonic_ns, certain, boot)));
        Self { guard: Some(guard), ..self }
    }

    /// Compares both hands of a guarded clock; to be called about every second.
    pub fn keep(&self) -> Lead {
        let raw = self.raw();
        self.guard.as_ref().map_or(Lead::None, |guard| guard.keep(raw))
    }

    /// The latest time that is certain, for [`Clock::guarded`] of a later process; `None` where the clock is not guarded.
    pub fn mark(&self) -> Option<Mark> {
        let guard = self.guard.as_ref()?;
        let unix_ms = guard.line_ms(self.monotonic_ns());
        // In this order: what passes in between is not counted twice.
        Some(Mark { unix_ms, at: self.since_boot(guard.boot()) })
    }

    /// What of `now` is certain, milliseconds since 1970: a wall clock that was set forward just now does not count. Quota periods turn by this, since a
    /// period that a mistake has begun cannot be taken back.
    pub fn certain_ms(&self, now: Now) -> i64 {
        self.guard.as_ref().map_or(now.unix_ms, |guard| now.unix_ms.min(guard.most_ms(now.monotonic_ns)))
    }

    /// The time, and of the wall clock's what is certain: see [`Clock::certain_ms`].
    pub fn certain(&self) -> Now {
        let now = self.now();
        Now { unix_ms: self.certain_ms(now), ..now }
    }

    /// Reads the time.
    pub fn now(&self) -> Now {
        let raw = self.raw();
        match &self.guard {
            Some(guard) => Now { unix_ms: raw.unix_ms.max(guard.least_ms(raw.monotonic_ns)), ..raw },
            None => raw,
        }
    }

    fn raw(&self) -> Now {
        match &self.source {
            Source::System { origin_ns } => {
                Now { monotonic_ns: since(*origin_ns, ClockId::Monotonic), unix_ms: unix_ms() }
            }
            Source::Manual(hands) => Now {
                monotonic_ns: hands.monotonic_ns.load(Ordering::SeqCst),
                unix_ms: hands.unix_ms.load(Ordering::SeqCst),
            },
        }
    }

    fn since_boot(&self, boot: Option<&str>) -> Option<SinceBoot> {
        let ns = match &self.source {
            Source::System { .. } => read_ns(ClockId::Boottime),
            Source::Manual(hands) => hands.monotonic_ns.load(Ordering::SeqCst),
        };
        Some(SinceBoot { boot: boot?.into(), ms: i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX) })
    }

    /// Reads the monotonic clock alone, for time limits: half the cost of [`Clock::now`].
    pub fn monotonic_ns(&self) -> u64 {
        match &self.source {
            Source::System { origin_ns } => since(*origin_ns, ClockId::Monotonic),
            Source::Manual(hands) => hands.monotonic_ns.load(Ordering::SeqCst),
        }
    }

    /// The same as it was at the kernel's last tick, up to 10 ms ago, for what is looked at ten times a second: a tenth of the cost.
    pub fn coarse_ns(&self) -> u64 {
        match &self.source {
            Source::System { origin_ns } => since(*origin_ns, ClockId::MonotonicCoarse),
            Source::Manual(hands) => hands.monotonic_ns.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock on by `ns`, both hands; a system clock does not listen.
    pub fn advance_ns(&self, ns: u64) {
        if let Source::Manual(hands) = &self.source {
            let before = hands.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
            let ms = (before + ns) / 1_000_000 - before / 1_000_000;
            hands.unix_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Sets the wall hand of a manual clock, as an operator or NTP would; a system clock does not listen.
    pub fn step_wall_ms(&self, unix_ms: i64) {
        if let Source::Manual(hands) = &self.source {
            hands.unix_ms.store(unix_ms, Ordering::SeqCst);
        }
    }
}

/// Nanoseconds for which the calling thread has had a core.
pub fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

fn since(origin_ns: u64, clock: ClockId) -> u64 {
    NS_PER_MINUTE.saturating_add(read_ns(clock).saturating_sub(origin_ns))
}

/// Read as the system gives it: the standard library's moments cost twice that, and have no coarse one.
fn read_ns(clock: ClockId) -> u64 {
    let read = rustix::time::clock_gettime(clock);
    let part = |value| u64::try_from(value).unwrap_or_default();
    part(read.tv_sec).saturating_mul(NS_PER_SECOND).saturating_add(part(read.tv_nsec))
}

fn unix_ms() -> i64 {
    let read = rustix::time::clock_gettime(ClockId::Realtime);
    // Of a moment before 1970 the nanoseconds count forward all the same.
    read.tv_sec.saturating_mul(1_000).saturating_add(read.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Now { monotonic_ns: 5, unix_ms: 1_000 });
        assert_eq!(clock.now(), clock.now());
        clock.advance_ns(2 * NS_PER_SECOND);
        assert_eq!(clock.now(), Now { monotonic_ns: 5 + 2 * NS_PER_SECOND, unix_ms: 3_000 });
        clock.step_wall_ms(-7);
        assert_eq!(clock.now().unix_ms, -7);
        assert_eq!(clock.now().unix_seconds(), -1);
    }

    #[test]
    fn a_thread_that_sleeps_uses_no_core() {
        let before = thread_cpu_ns();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let after = thread_cpu_ns();
        assert!((before..before + 25_000_000).contains(&after), "{before} {after}");
    }

    #[test]
    fn the_system_clock_starts_above_zero_and_does_not_go_back() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(first.monotonic_ns >= NS_PER_MINUTE);
        assert!(clock.now().monotonic_ns >= first.monotonic_ns);
        let behind_ns = clock.monotonic_ns().saturating_sub(clock.coarse_ns());
        assert!(behind_ns < NS_PER_SECOND / 2, "{behind_ns}");
    }

    #[test]
    fn the_time_by_the_wall_is_that_of_the_standard_library() {
        let theirs = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            i64::try_from(since.as_millis()).unwrap()
        };
        let (before, ours, after) = (theirs(), Clock::system().now().unix_ms, theirs());
        assert!((before..=after).contains(&ours), "{before} {ours} {after}");
    }
}
