//! Moments and spans as the APIs write them. Spans are nanoseconds; whatever is rounded is rounded up, so that who waits as
//! long as told has waited long enough.

use jiff::Timestamp;

use crate::clock::{NS_PER_SECOND, Now};

const NS_PER_MS: u64 = 1_000_000;

/// Whole seconds, rounded up.
pub(in crate::dialect) fn seconds(ns: u64) -> u64 {
    ns.div_ceil(NS_PER_SECOND)
}

/// Whole milliseconds, rounded up.
pub(in crate::dialect) fn milliseconds(ns: u64) -> u64 {
    ns.div_ceil(NS_PER_MS)
}

/// Seconds and milliseconds: `12s`, `0.250s`. What protobuf's JSON wants of a duration, and what people read.
pub(in crate::dialect) fn decimal(ns: u64) -> String {
    let ms = milliseconds(ns);
    match ms % 1000 {
        0 => format!("{}s", ms / 1000),
        rest => format!("{}.{rest:03}s", ms / 1000),
    }
}

/// As Go writes a duration and OpenAI its resets: `250ms`, `1s`, `6m0s`, `1h0m0s`; whole seconds from one second on.
pub(in crate::dialect) fn go(ns: u64) -> Short {
    let mut text = Short::default();
    let ms = milliseconds(ns);
    if ms > 0 && ms < 1000 {
        text.add(ms, "ms");
        return text;
    }
    let total = seconds(ns);
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    if hours > 0 {
        text.add(hours, "h");
    }
    if hours > 0 || minutes > 0 {
        text.add(minutes, "m");
    }
    text.add(seconds, "s");
    text
}

/// A few numbers with their units, where they need no allocation: each answer tells its caller some.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Short {
    bytes: [u8; 32],
    length: usize,
}

impl Short {
    /// What was written so far.
    pub(in crate::dialect) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Appends; what has no room is left out, and there is room for all that [`go`] writes.
    fn add(&mut self, number: u64, unit: &str) {
        for part in [itoa::Buffer::new().format(number), unit] {
            let end = self.length + part.len();
            if let Some(place) = self.bytes.get_mut(self.length..end) {
                place.copy_from_slice(part.as_bytes());
                self.length = end;
            }
        }
    }
}

/// RFC 3339 in UTC, in whole seconds, rounded up; what lies outside of years -9999 to 9999 is told as its end.
pub(in crate::dialect) fn rfc3339(unix_ms: i64) -> String {
    let up = i64::from(unix_ms.rem_euclid(1000) != 0);
    let seconds = unix_ms.div_euclid(1000).saturating_add(up);
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::from_second(MAX_SECOND).unwrap_or(Timestamp::MAX) };
    Timestamp::from_second(seconds).unwrap_or(end).to_string()
}

/// 9999-12-30T22:00:00Z, the last whole second jiff has in every offset.
const MAX_SECOND: i64 = 253_402_207_200;

/// A moment that has passed, rounded down: one that is told is never still to come.
pub(in crate::dialect) fn rfc3339_of_past(unix_ms: i64) -> String {
    rfc3339(unix_ms.saturating_sub(999))
}

/// The moment `ns` from `now`, as [`rfc3339`] writes it.
pub(in crate::dialect) fn rfc3339_in(now: Now, ns: u64) -> String {
    let ms = i64::try_from(milliseconds(ns)).unwrap_or(i64::MAX);
    rfc3339(now.unix_ms.saturating_add(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_rounded_up_in_each_spelling() {
        for (ns, go_form, decimal_form, whole) in [
            (0, "0s", "0s", 0),
            (1, "1ms", "0.001s", 1),
            (250_000_000, "250ms", "0.250s", 1),
            (999_000_001, "1s", "1s", 1),
            (1_000_000_000, "1s", "1s", 1),
            (1_200_000_000, "2s", "1.200s", 2),
            (60_000_000_000, "1m0s", "60s", 60),
            (360_000_000_000, "6m0s", "360s", 360),
            (3_600_000_000_000, "1h0m0s", "3600s", 3600),
        ] {
            assert_eq!(go(ns).as_bytes(), go_form.as_bytes(), "{ns}");
            assert_eq!((decimal(ns).as_str(), seconds(ns)), (decimal_form, whole), "{ns}");
        }
    }

    #[test]
    fn moments_are_whole_seconds_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(-1), "1970-01-01T00:00:00Z");
        let past = [0, 1, 999, 1_000].map(rfc3339_of_past);
        assert_eq!([&past[0], &past[1], &past[2]], ["1970-01-01T00:00:00Z"; 3]);
        assert_eq!(past[3], "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(1_767_225_600_000), "2026-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-30T22:00:00Z");
        let now = Now { monotonic_ns: 0, unix_ms: 1_767_225_600_500 };
        assert_eq!(rfc3339_in(now, 500_000_001), "2026-01-01T00:00:02Z");
        assert_eq!(rfc3339_in(now, u64::MAX), "2610-07-22T23:34:35Z");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_one_is_told_too_little(ns: u64, ms: i64) {
            prop_assert!(seconds(ns) >= ns / NS_PER_SECOND);
            prop_assert!(go(ns).as_bytes().ends_with(b"s"), "there is room for all of it");
            let _ = (go(ns), decimal(ns), rfc3339(ms), rfc3339_in(Now { monotonic_ns: 0, unix_ms: ms }, ns));
        }
    }
}
