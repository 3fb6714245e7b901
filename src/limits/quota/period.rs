//! Days, weeks and months in UTC, as counts of days since 1970.

use jiff::civil::{Date, date};
use jiff::{ToSpan, Unit};

use crate::policy::QuotaReset;

const MS_PER_DAY: i64 = 86_400_000;

/// The day `unix_ms` lies in. Days beyond five million years are that far day.
pub fn day_of(unix_ms: i64) -> i32 {
    let day = unix_ms.div_euclid(MS_PER_DAY);
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN + 1 } else { i32::MAX - 31 })
}

/// The first millisecond of a day.
pub fn start_ms(day: i32) -> i64 {
    i64::from(day) * MS_PER_DAY
}

/// The first day of the period `day` lies in; `None` when there is only one period.
pub fn start_of(day: i32, reset: QuotaReset) -> Option<i32> {
    match reset {
        QuotaReset::None => None,
        QuotaReset::Daily => Some(day),
        QuotaReset::Weekly => Some(monday(day)),
        QuotaReset::Monthly => number(civil(day)?.first_of_month()),
    }
}

/// The first day of the next period.
pub fn end_of(day: i32, reset: QuotaReset) -> Option<i32> {
    match reset {
        QuotaReset::None => None,
        QuotaReset::Daily => day.checked_add(1),
        QuotaReset::Weekly => monday(day).checked_add(7),
        QuotaReset::Monthly => number(civil(day)?.first_of_month().checked_add(1.month()).ok()?),
    }
}

/// 1970 began on a Thursday, three days after a Monday.
fn monday(day: i32) -> i32 {
    let after_monday = (i64::from(day) + 3).rem_euclid(7);
    i32::try_from(i64::from(day) - after_monday).unwrap_or(i32::MIN)
}

const EPOCH: Date = date(1970, 1, 1);

fn civil(day: i32) -> Option<Date> {
    EPOCH.checked_add(jiff::Span::new().try_days(i64::from(day)).ok()?).ok()
}

fn number(date: Date) -> Option<i32> {
    Some(EPOCH.until((Unit::Day, date)).ok()?.get_days())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(y: i16, m: i8, d: i8) -> i32 {
        number(date(y, m, d)).unwrap()
    }

    #[test]
    fn periods_start_at_midnight_on_monday_and_on_the_first() {
        let thursday = day(2024, 2, 29);
        assert_eq!(start_of(thursday, QuotaReset::Daily), Some(thursday));
        assert_eq!(start_of(thursday, QuotaReset::Weekly), Some(day(2024, 2, 26)));
        assert_eq!(start_of(thursday, QuotaReset::Monthly), Some(day(2024, 2, 1)));
        assert_eq!(end_of(thursday, QuotaReset::Daily), Some(day(2024, 3, 1)));
        assert_eq!(end_of(thursday, QuotaReset::Weekly), Some(day(2024, 3, 4)));
        assert_eq!(end_of(day(2024, 12, 31), QuotaReset::Monthly), Some(day(2025, 1, 1)));
        assert_eq!(start_of(thursday, QuotaReset::None), None);
    }

    #[test]
    fn the_day_turns_on_the_millisecond() {
        assert_eq!(day_of(-1), -1);
        assert_eq!((day_of(0), day_of(MS_PER_DAY - 1), day_of(MS_PER_DAY)), (0, 0, 1));
    }

    proptest! {
        #[test]
        fn a_day_lies_in_its_period_and_no_moment_panics(unix_ms: i64, near in -4_000_000_000_000_i64..4_000_000_000_000) {
            for reset in [QuotaReset::None, QuotaReset::Daily, QuotaReset::Weekly, QuotaReset::Monthly] {
                let _ = (start_of(day_of(unix_ms), reset), end_of(day_of(unix_ms), reset));
                let day = day_of(near);
                if let (Some(start), Some(end)) = (start_of(day, reset), end_of(day, reset)) {
                    prop_assert!(start <= day && day < end);
                    prop_assert_eq!(end_of(end - 1, reset), Some(end));
                    prop_assert_eq!(start_of(end, reset), Some(end));
                }
            }
        }
    }
}
