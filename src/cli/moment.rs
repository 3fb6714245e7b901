//! Moments and durations as people write them: `30d`, `12h`, `2w`, `2027-01-01`, `2027-01-01T12:00:00Z`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::clock::Clock;

/// Which way a duration counts from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Into the future.
    Ahead,
    /// Into the past.
    Back,
}

/// The present.
pub fn now() -> Timestamp {
    Timestamp::from_millisecond(Clock::system().now().unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A moment: RFC 3339, a date or a time without a zone (UTC), or a duration from `now`. Months and years are the calendar's.
///
/// # Errors
/// What was expected, when it is none of these or lies beyond the calendar.
pub fn moment(text: &str, way: Way, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    // A zone in brackets would have to be looked up; the civil reading would pass over it.
    if let (Ok(civil), false) = (text.parse::<DateTime>(), text.contains('[')) {
        return civil
            .to_zoned(TimeZone::UTC)
            .map(|zoned| zoned.timestamp())
            .map_err(|_| format!("`{text}` lies beyond the calendar"));
    }
    let span = span(text).ok_or_else(|| {
        format!(
            "`{text}` is no moment: expected a duration such as 30d, 12h or 2w, a date such as 2027-01-01, or RFC 3339"
        )
    })?;
    let from = now.to_zoned(TimeZone::UTC);
    let moved = match way {
        Way::Ahead => from.checked_add(span),
        Way::Back => from.checked_sub(span),
    };
    moved.map(|zoned| zoned.timestamp()).map_err(|_| format!("`{text}` reaches beyond the calendar"))
}

/// Whole seconds of a duration; days have 24 hours. `0` needs no unit.
///
/// # Errors
/// What was expected.
pub fn seconds(text: &str) -> Result<u64, String> {
    if text.trim() == "0" {
        return Ok(0);
    }
    let duration = span(text.trim()).and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    duration
        .and_then(|duration| u64::try_from(duration.as_secs()).ok())
        .ok_or_else(|| format!("`{text}` is no duration: expected one such as 24h, 30m or 2d, or 0"))
}

/// A duration that does not go back: a number with a unit, or several (`1d12h`).
fn span(text: &str) -> Option<Span> {
    let is_counted = text.starts_with(|first: char| first.is_ascii_digit()) && !text.ends_with("ago");
    is_counted.then(|| text.parse::<Span>().ok()).flatten().filter(|span| !span.is_negative())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    fn from_new_year(text: &str, way: Way) -> String {
        moment(text, way, at("2027-01-31T12:00:00Z")).map_or_else(|why| why, |moment| moment.to_string())
    }

    #[test]
    fn durations_count_from_now_either_way() {
        for (text, ahead, back) in [
            ("30d", "2027-03-02T12:00:00Z", "2027-01-01T12:00:00Z"),
            ("12h", "2027-02-01T00:00:00Z", "2027-01-31T00:00:00Z"),
            ("2w", "2027-02-14T12:00:00Z", "2027-01-17T12:00:00Z"),
            ("90m", "2027-01-31T13:30:00Z", "2027-01-31T10:30:00Z"),
            ("1d12h", "2027-02-02T00:00:00Z", "2027-01-30T00:00:00Z"),
            ("1mo", "2027-02-28T12:00:00Z", "2026-12-31T12:00:00Z"),
            ("1y", "2028-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ] {
            assert_eq!(from_new_year(text, Way::Ahead), ahead, "{text}");
            assert_eq!(from_new_year(text, Way::Back), back, "{text}");
        }
    }

    #[test]
    fn dates_and_moments_are_themselves() {
        for (text, expected) in [
            ("2027-06-01", "2027-06-01T00:00:00Z"),
            ("2027-06-01T08:30:00Z", "2027-06-01T08:30:00Z"),
            ("2027-06-01T08:30:00+02:00", "2027-06-01T06:30:00Z"),
            ("2027-06-01T08:30", "2027-06-01T08:30:00Z"),
            ("2027-06-01 08:30:15", "2027-06-01T08:30:15Z"),
        ] {
            assert_eq!(from_new_year(text, Way::Ahead), expected);
            assert_eq!(from_new_year(text, Way::Back), expected);
        }
    }

    #[test]
    fn what_is_neither_is_told_what_was_expected() {
        for text in [
            "",
            "soon",
            "30",
            "-3d",
            "3d ago",
            "P3D",
            "2027-13-01",
            "2027-02-30",
            "5 parsecs",
            "never",
            "2027-01-01[Asia/Tokyo]",
            "99999999y",
        ] {
            assert!(from_new_year(text, Way::Ahead).contains('`'), "{text}: {}", from_new_year(text, Way::Ahead));
        }
    }

    #[test]
    fn seconds_are_whole_and_days_have_24_hours() {
        assert_eq!(
            (seconds("0"), seconds("24h"), seconds("2d"), seconds("1h30m")),
            (Ok(0), Ok(86_400), Ok(172_800), Ok(5_400))
        );
        for text in ["", "24", "-1h", "1mo", "tomorrow", "h"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}|[0-9]{1,20}(d|h|w|y|mo|m|s)( ago)?") {
            let now = at("2027-01-31T12:00:00Z");
            for way in [Way::Ahead, Way::Back] {
                if let Ok(found) = moment(&text, way, now) {
                    prop_assert!(text.contains('-') || text.contains("T") || (way == Way::Ahead) == (found >= now) || found == now);
                }
            }
            let _ = seconds(&text);
        }
    }
}
