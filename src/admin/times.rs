//! Moments as operators write and read them: RFC 3339.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// The earliest moment that is told: the beginning of the year 1.
pub const EARLIEST_MS: i64 = -62_135_596_800_000;

/// The latest: the end of the year 9998. A key that ends later ends never, to anybody who could notice.
pub const LATEST_MS: i64 = 253_370_764_799_999;

/// RFC 3339 in UTC, with milliseconds where there are any; within [`EARLIEST_MS`] and [`LATEST_MS`].
pub fn rfc3339(unix_ms: i64) -> String {
    let clamped = unix_ms.clamp(EARLIEST_MS, LATEST_MS);
    Timestamp::from_millisecond(clamped).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Reads RFC 3339, any offset, to the millisecond, within [`EARLIEST_MS`] and [`LATEST_MS`]. A leap second is the one before it. A space may stand for
/// the `T`, and for the `+` of the offset, which is what a query makes of it when it is not escaped.
pub fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(clock, b':', [2, 2, 2])?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(rest.bytes().take_while(u8::is_ascii_digit).count())?,
        None => ("000", rest),
    };
    if fraction.is_empty() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local_ms =
        day_ms(date)? + i64::from(hour) * 3_600_000 + i64::from(minute) * 60_000 + i64::from(second.min(59)) * 1_000;
    let ms = fraction.bytes().chain(*b"00").take(3).fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    Some((local_ms + ms - offset_ms(rest)?).clamp(EARLIEST_MS, LATEST_MS))
}

/// Reads a moment, or a day, which is its first millisecond in UTC.
pub fn parse_moment_or_day(text: &str) -> Option<i64> {
    if text.len() == 10 { day_ms(text).map(|ms| ms.clamp(EARLIEST_MS, LATEST_MS)) } else { parse(text) }
}

fn day_ms(date: &str) -> Option<i64> {
    let [year, month, day] = numbers(date, b'-', [4, 2, 2])?;
    let [month, day] = [month, day].map(|n| i8::try_from(n).ok());
    let date = Date::new(i16::try_from(year).ok()?, month?, day?).ok()?;
    if year == 9999 {
        // Its last hours are beyond what the library has.
        return Some(LATEST_MS);
    }
    Some(DateTime::from(date).to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

fn offset_ms(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, clock) = match text.split_at_checked(1)? {
        ("+" | " ", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let [hours, minutes] = numbers(clock, b':', [2, 2])?;
    (hours <= 23 && minutes <= 59).then(|| sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60_000)
}

/// Numbers of so many digits each, with a separator between them.
fn numbers<const N: usize>(text: &str, separator: u8, digits: [usize; N]) -> Option<[u16; N]> {
    let mut out = [0; N];
    let mut parts = text.split(char::from(separator));
    for (number, digits) in out.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_it_is_read() {
        for text in ["2019-08-24T14:15:22.123Z", "2026-01-31T00:00:00Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]
        {
            assert_eq!(parse(text).map(rfc3339).as_deref(), Some(text));
        }
        assert_eq!(parse("2026-01-31T01:00:00.5+01:00"), parse("2026-01-31t00:00:00.500999z"));
        assert_eq!(parse("2026-01-30T23:59:60-00:00"), parse("2026-01-31 00:59:59 01:00"));
        assert_eq!(parse_moment_or_day("2026-01-31"), parse("2026-01-31T00:00:00Z"));
    }

    #[test]
    fn the_ends_of_time_are_moments_too() {
        for late in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "9999-01-01T00:00:00.000Z"] {
            assert_eq!(parse(late), Some(LATEST_MS), "{late}");
        }
        for early in ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"] {
            assert_eq!(parse(early), Some(EARLIEST_MS), "{early}");
        }
        assert_eq!(
            (rfc3339(i64::MAX).as_str(), rfc3339(i64::MIN).as_str()),
            ("9998-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z")
        );
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        let bad = ["", "2026-01-31", "2026-01-31T00:00:00", "tomorrow", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z"];
        let worse =
            ["2026-01-31T00:00:00Z[UTC]", "+002026-01-31T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T00:00:00.Z"];
        for text in bad.into_iter().chain(worse).chain(["2026-01-31T00:00:00+24:00", "2026-01-31T0:00:000Z", "\u{e9}"])
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
