//! How long things took: counts in buckets whose width grows with the value, so that a quantile is off by 1/16 at most.
//!
//! Values below 8 have a bucket each; above, every doubling is cut in eight.

use crate::store::StoreFault;
use crate::store::embedded::varint;

/// Buckets of one doubling.
const STEPS: u64 = 8;

/// Counts by bucket. Kept as pairs of variable-length numbers: the distance to the last bucket, the count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    /// Buckets that have a count, in their order: few, and looked through far more often than one is added.
    counts: Vec<(u16, u64)>,
}

impl Histogram {
    /// Counts `times` values of `value`.
    pub(super) fn add(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        let bucket = bucket(value);
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count = count.saturating_add(times);
                }
            }
            Err(at) => self.counts.insert(at, (bucket, times)),
        }
    }

    /// Counts all that `other` has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        let mut merged = Self { counts: Vec::with_capacity(self.counts.len() + other.counts.len()) };
        let (mut ours, mut theirs) = (self.counts.iter().peekable(), other.counts.iter().peekable());
        while let Some(next) = match (ours.peek(), theirs.peek()) {
            (Some(our), Some(their)) if their.0 < our.0 => theirs.next(),
            (Some(_), _) => ours.next(),
            (None, _) => theirs.next(),
        } {
            merged.append(*next);
        }
        *self = merged;
    }

    /// The smallest value that `percent` in a hundred do not exceed, as the middle of its bucket; none when nothing was counted.
    pub(super) fn quantile(&self, percent: u64) -> Option<f64> {
        let total = self.counts.iter().map(|(_, count)| u128::from(*count)).sum::<u128>();
        let rank = (total * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += u128::from(*count);
            if seen >= rank {
                return Some(middle(*bucket));
            }
        }
        None
    }

    /// As it is kept.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.counts.len() * 3);
        let mut last = 0;
        for (bucket, count) in &self.counts {
            varint::write(&mut bytes, u64::from(bucket - last));
            varint::write(&mut bytes, *count);
            last = *bucket;
        }
        bytes
    }

    /// As it was.
    ///
    /// # Errors
    /// These bytes are no histogram.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Result<Self, StoreFault> {
        let mut histogram = Self { counts: Vec::with_capacity(bytes.len() / 2) };
        let mut bucket = 0_u16;
        while !bytes.is_empty() {
            let (gap, count) = varint::read(&mut bytes).zip(varint::read(&mut bytes)).ok_or_else(damaged)?;
            bucket = u16::try_from(gap).ok().and_then(|gap| bucket.checked_add(gap)).ok_or_else(damaged)?;
            histogram.append((bucket, count));
        }
        Ok(histogram)
    }

    /// Counts in the last bucket so far, or in one behind it.
    fn append(&mut self, (bucket, times): (u16, u64)) {
        match self.counts.last_mut() {
            Some((last, count)) if *last == bucket => *count = count.saturating_add(times),
            _ if times > 0 => self.counts.push((bucket, times)),
            _ => {}
        }
    }
}

/// The bucket of a value: at most 495.
fn bucket(value: u64) -> u16 {
    let doublings = value.max(1).ilog2();
    let at = match doublings.checked_sub(STEPS.ilog2()) {
        None => value,
        // The three bits after the first say which step of its doubling it is in.
        Some(shift) => (u64::from(shift) + 1) * STEPS + (value >> shift) - STEPS,
    };
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// The middle of a bucket; the value itself where the bucket has only one.
fn middle(bucket: u16) -> f64 {
    let (doubling, step) = (u64::from(bucket) / STEPS, u64::from(bucket) % STEPS);
    let Some(shift) = doubling.checked_sub(1) else { return step as f64 };
    let width = (shift as f64).exp2();
    (STEPS + step) as f64 * width + (width - 1.0) / 2.0
}

fn damaged() -> StoreFault {
    StoreFault::Damaged("a histogram is none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_has_no_quantile_and_one_value_is_all_of_them() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(50), None);
        histogram.add(7, 1);
        assert_eq!((histogram.quantile(50), histogram.quantile(99)), (Some(7.0), Some(7.0)));
        histogram.add(1_000_000, 99);
        assert_eq!(histogram.quantile(1), Some(7.0));
        assert!((histogram.quantile(2).unwrap() / 1_000_000.0 - 1.0).abs() < 0.0626);
    }

    #[test]
    fn what_is_no_histogram_is_not_read_as_one() {
        for bytes in [&[1][..], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0x7f, 1], &[1, 0x80, 0x80]] {
            assert!(Histogram::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_near_all_its_values_and_they_are_in_order(value: u64, bits in 0_u32..64) {
            let value = value >> bits;
            let error = (middle(bucket(value)) - value as f64).abs() / (value as f64).max(1.0);
            prop_assert!(error <= 0.0626, "{value}: {}", middle(bucket(value)));
            prop_assert!(bucket(value) <= bucket(value.saturating_add(1)) && bucket(value) < 496);
        }

        #[test]
        fn quantiles_are_near_the_exact_ones(values in prop::collection::vec(0_u64..100_000_000, 1..200), percent in 1_u64..=99) {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let exact = sorted[(values.len() * percent as usize).div_ceil(100) - 1] as f64;
            let mut halves = [Histogram::default(), Histogram::default()];
            for (at, value) in values.iter().enumerate() {
                halves[at % 2].add(*value, 1);
            }
            let [mut one, other] = halves;
            one.merge(&Histogram::from_bytes(&other.to_bytes()).unwrap());
            prop_assert!((one.quantile(percent).unwrap() - exact).abs() <= exact * 0.07);
        }

        #[test]
        fn bytes_give_the_same_back(values in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20)) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|(value, times)| histogram.add(*value, *times));
            prop_assert_eq!(Histogram::from_bytes(&histogram.to_bytes()), Ok(histogram));
        }
    }
}
