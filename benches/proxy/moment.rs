//! CLOCK_MONOTONIC, which is the same for all processes of a machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    #[expect(clippy::disallowed_methods, reason = "processes are compared by it, and no `Now` is of another process")]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
        // Neither is ever below zero.
        Self(seconds.unwrap_or(0) * 1_000_000_000 + nanoseconds.unwrap_or(0))
    }

    /// The moment `later` than this one.
    pub fn after(self, later: Duration) -> Self {
        Self(self.0 + u64::try_from(later.as_nanos()).unwrap_or(0))
    }

    /// From this moment until now; zero when it is still to come.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }

    /// From now until this moment; zero when it is over.
    pub fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(Self::now().0))
    }
}
