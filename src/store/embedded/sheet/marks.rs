//! What the status of the keys of a block depends on: a bit for each key, and what only few have.

use crate::limits::QuotaCount;
use crate::limits::quota::period;
use crate::policy::{KeyStatus, QuotaRule};
use crate::store::StatusFilter;

/// The marks of a block; a key's bit is its place in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Not removed. All else is true of those alone.
    pub live: u128,
    /// Switched off.
    pub disabled: u128,
    /// For the sandbox.
    pub sandbox: u128,
    /// When they end, milliseconds since 1970.
    pub ends: Few<i64>,
    /// Until which day, this one not included, their quota counts as spent.
    pub spent_until: Few<i32>,
}

/// A value for some of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Few<T> {
    having: u128,
    /// In the order of the keys.
    values: Vec<T>,
}

impl<T: Copy> Few<T> {
    /// Sets or clears that of one key.
    pub(crate) fn set(&mut self, place: u32, value: Option<T>) {
        let bit = 1_u128 << place;
        let at = (self.having & (bit - 1)).count_ones() as usize;
        match (self.having & bit != 0, value) {
            (true, Some(value)) => self.values[at] = value,
            (true, None) => drop(self.values.remove(at)),
            (false, Some(value)) => self.values.insert(at, value),
            (false, None) => {}
        }
        self.having = if value.is_some() { self.having | bit } else { self.having & !bit };
    }

    /// The keys of whose value this is true.
    fn which(&self, is: impl Fn(T) -> bool) -> u128 {
        let (mut rest, mut found) = (self.having, 0);
        for value in &self.values {
            let bit = rest & rest.wrapping_neg();
            rest ^= bit;
            found |= if is(*value) { bit } else { 0 };
        }
        found
    }
}

impl Marks {
    /// From a row; `None` when it is none.
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        let mut rest = data;
        let mut mask = || {
            let (taken, left) = rest.split_first_chunk()?;
            rest = left;
            Some(u128::from_le_bytes(*taken))
        };
        let (live, disabled, sandbox, ending, spent) = (mask()?, mask()?, mask()?, mask()?, mask()?);
        let (ends, days) = rest.split_at_checked(ending.count_ones() as usize * size_of::<i64>())?;
        let ends = ends.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        let (days, end) = days.split_at_checked(spent.count_ones() as usize * size_of::<i32>())?;
        let days = days.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
        end.is_empty().then_some(Self {
            live,
            disabled,
            sandbox,
            ends: Few { having: ending, values: ends },
            spent_until: Few { having: spent, values: days },
        })
    }

    /// As a row.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let masks = [self.live, self.disabled, self.sandbox, self.ends.having, self.spent_until.having];
        let masks = masks.iter().flat_map(|mask| mask.to_le_bytes());
        let ends = self.ends.values.iter().flat_map(|end| end.to_le_bytes());
        masks.chain(ends).chain(self.spent_until.values.iter().flat_map(|day| day.to_le_bytes())).collect()
    }

    /// Sets or clears a key's bit.
    pub(crate) fn set(mask: &mut u128, place: u32, is_set: bool) {
        let bit = 1 << place;
        *mask = if is_set { *mask | bit } else { *mask & !bit };
    }

    /// The keys that have the status that is asked for, as [`KeyStatus::of`] says.
    pub(crate) fn of_status(&self, asked: StatusFilter) -> u128 {
        let StatusFilter { status, at_ms, certain_ms } = asked;
        let enabled = self.live & !self.disabled;
        let expired = || self.ends.which(|end| at_ms >= end);
        let today = period::day_of(certain_ms);
        let exhausted = || self.spent_until.which(|until| today < until);
        match status {
            KeyStatus::Disabled => self.live & self.disabled,
            KeyStatus::Expired => enabled & expired(),
            KeyStatus::Exhausted => enabled & !expired() & exhausted(),
            KeyStatus::Active => enabled & !expired() & !exhausted(),
        }
    }
}

/// Until which day, this one not included, a quota of which so much is used counts as spent; `None` when it does not. A period that is over
/// counts as unused.
pub(crate) fn spent_until(rule: Option<QuotaRule>, counted: QuotaCount) -> Option<i32> {
    let rule = rule.filter(|rule| counted.used >= rule.limit)?;
    if rule.limit == 0 {
        return Some(i32::MAX);
    }
    let end = match period::end_of(counted.since_day, rule.reset) {
        // Before all calendars every period of theirs is to come; after them, and without periods, none is.
        None if rule.reset != crate::policy::QuotaReset::None && counted.since_day < 0 => None,
        end => Some(end.unwrap_or(i32::MAX)),
    };
    // A clock set back reopens nothing, and so does not bring back a period that was seen to be over.
    end.filter(|end| *end > counted.touched_day || *end == i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{KeyPolicy, QuotaReset};
    use crate::units::KeyId;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn policy() -> impl Strategy<Value = KeyPolicy> {
        let quota = prop::option::of((0_u64..4, prop::sample::select(QuotaReset::ALL.to_vec())));
        (any::<bool>(), any::<bool>(), prop::option::of(-3_i64..400), quota).prop_map(
            |(off, is_sandbox, end, quota)| KeyPolicy {
                is_disabled: off,
                is_sandbox,
                expires_at_ms: end.map(|day| day * 86_400_000),
                quota: quota.map(|(limit, reset)| QuotaRule { limit, reset }),
                ..KeyPolicy::unlimited(KeyId(Uuid::nil()), "k", "sk")
            },
        )
    }

    proptest! {
        #[test]
        fn a_status_read_from_the_marks_is_that_of_the_key(
            keys in prop::collection::vec((0_u32..128, policy(), 0_u64..5, -3_i32..400), 1..200),
            asked in -3_i64..400,
            ahead in 0_i64..3,
        ) {
            let (mut marks, mut kept) = (Marks::default(), std::collections::HashMap::new());
            for (place, policy, used, day) in keys {
                // One in five was never used.
                let touched_day = if used == 4 { QuotaCount::NEVER } else { day };
                // One in three began some days before that.
                let since_day = if used % 3 == 0 { touched_day.saturating_sub(place as i32 % 60) } else { touched_day };
                let counted = QuotaCount { used, since_day, touched_day };
                Marks::set(&mut marks.live, place, true);
                Marks::set(&mut marks.disabled, place, policy.is_disabled);
                Marks::set(&mut marks.sandbox, place, policy.is_sandbox);
                marks.ends.set(place, policy.expires_at_ms);
                marks.spent_until.set(place, spent_until(policy.quota, counted));
                kept.insert(place, (policy, counted));
            }
            let marks = Marks::read(&marks.to_bytes()).unwrap();
            let (at_ms, certain_ms) = ((asked + ahead) * 86_400_000, asked * 86_400_000);
            for (place, (policy, counted)) in kept {
                let today = period::day_of(certain_ms).max(counted.touched_day);
                let start = policy.quota.and_then(|rule| period::start_of(today, rule.reset));
                let used = if start.is_some_and(|start| start > counted.since_day) { 0 } else { counted.used };
                let is_of = |status| marks.of_status(StatusFilter { status, at_ms, certain_ms }) >> place & 1 == 1;
                let found = KeyStatus::ALL.into_iter().filter(|status| is_of(*status)).collect::<Vec<_>>();
                prop_assert_eq!(found, [KeyStatus::of(&policy, used, at_ms)]);
                prop_assert_eq!(marks.sandbox >> place & 1 == 1, policy.is_sandbox);
            }
        }

        #[test]
        fn days_beyond_all_calendars_are_before_or_after_every_other(
            day in prop_oneof![Just(i32::MIN), Just(i32::MAX), any::<i32>()],
            at_ms in -60_000_000_000_000_i64..250_000_000_000_000,
        ) {
            for reset in QuotaReset::ALL {
                let counted = QuotaCount { used: 1, since_day: day, touched_day: day };
                let today = period::day_of(at_ms);
                let is_over = period::start_of(today, reset).is_some_and(|start| start > day);
                let until = spent_until(Some(QuotaRule { limit: 1, reset }), counted);
                prop_assert_eq!(until.is_some_and(|until| today < until), !is_over, "{:?}", reset);
            }
        }
    }

    #[test]
    fn a_row_that_is_none_is_not_read() {
        let mut marks = Marks::default();
        marks.ends.set(5, Some(7));
        let bytes = marks.to_bytes();
        assert_eq!(Marks::read(&bytes), Some(marks));
        assert_eq!((Marks::read(&bytes[1..]), Marks::read(&bytes[..80])), (None, None));
        assert_eq!(Marks::read(&[&*bytes, &[0]].concat()), None);
    }
}
