//! Durations and sizes as people write them: `250ms`, `30s`, `24h`; `512KiB`, `1GiB`.

use std::time::Duration;

/// What a duration looks like, for faults.
pub(super) const DURATION: &str = "a duration such as \"250ms\", \"30s\", \"5m\" or \"24h\"";

/// What a size looks like, for faults.
pub(super) const SIZE: &str = "a size such as \"100B\", \"512KiB\", \"32MiB\" or \"1GiB\"";

/// `None` when `text` is not a whole number with one of the units ms, s, m, h, or is too large for one.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// Bytes; `None` when `text` is not a whole number with one of the units B, KiB, MiB, GiB, or is too large for one.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit_bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit_bytes)
}

/// The same duration as it would be written, in its largest whole unit.
pub(super) fn write_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// The same size as it would be written, in its largest whole unit.
pub(super) fn write_size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fit = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fit.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_with_a_unit_and_nothing_else() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!((size("100B"), size("512KiB"), size("1GiB")), (Some(100), Some(524_288), Some(1_073_741_824)));
        for bad in ["", "5", "s", "5 s", " 5s", "-5s", "1.5s", "5S", "1m30s", "+1s", "99999999999999999999s", "٣s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for bad in ["32", "32MB", "32M", "32mib", "1.5GiB", "18446744073709551615GiB", "5000000000000GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(ms in 0_u64..100_000_000_000, bytes: u64) {
            let duration_read = duration(&write_duration(Duration::from_millis(ms)));
            prop_assert_eq!(duration_read, Some(Duration::from_millis(ms)));
            prop_assert_eq!(size(&write_size(bytes)), Some(bytes));
        }
    }
}
