//! Moments as the native API writes and reads them.

use jiff::Timestamp;

/// The latest moment that can be set: the end of the year 9998, so that it can be told in every offset.
pub const LATEST_MS: i64 = 253_370_764_799_999;

/// RFC 3339 in UTC; with milliseconds where there are any. What lies outside of the years that can be written is told as their end.
pub fn rfc3339(unix_ms: i64) -> String {
    let clamped = unix_ms.clamp(Timestamp::MIN.as_millisecond(), LATEST_MS);
    Timestamp::from_millisecond(clamped).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Reads RFC 3339, any offset, to the millisecond. A date without a time or an offset is none; so is what lies before 1970 or after
/// [`LATEST_MS`].
pub fn parse(text: &str) -> Option<i64> {
    // The parser takes more than RFC 3339 does: weekdays, brackets, years of six digits.
    let is_plain = text.len() <= 35 && text.bytes().all(|b| b.is_ascii_digit() || b"-+:.TtZz ".contains(&b));
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 20
        && bytes.get(4) == Some(&b'-')
        && bytes.get(7) == Some(&b'-')
        && matches!(bytes.get(10), Some(b'T' | b't' | b' '))
        && bytes.get(13) == Some(&b':')
        && bytes.get(16) == Some(&b':');
    if !is_plain || !shape {
        return None;
    }
    let ms = text.parse::<Timestamp>().ok()?.as_millisecond();
    (0..=LATEST_MS).contains(&ms).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_it_is_read() {
        for text in ["2019-08-24T14:15:22.123Z", "2026-01-31T00:00:00Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(parse(text).map(rfc3339).as_deref(), Some(text));
        }
        assert_eq!(parse("2026-01-31T01:00:00.5+01:00"), parse("2026-01-31T00:00:00.500Z"));
        assert_eq!(rfc3339(i64::MAX), "9998-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        let bad = ["", "2026-01-31", "2026-01-31T00:00:00", "tomorrow", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z"];
        for text in
            bad.into_iter().chain(["2026-01-31T00:00:00Z[UTC]", "+002026-01-31T00:00:00Z", "9999-06-01T00:00:00Z"])
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
