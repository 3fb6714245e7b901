//! How long things took: counts in buckets whose width grows with the value, so that a quantile is off by 1/16 at most.
//!
//! Values below 8 have a bucket each; above, every doubling is cut in eight.

use crate::store::StoreFault;
use crate::store::embedded::varint;

/// Buckets of one doubling.
const STEPS: u64 = 8;

/// How many buckets values fall into.
const BUCKETS: usize = 496;

/// Values that wait at most to be counted.
const MOST_RECENT: usize = 1_024;

/// So few are counted one by one.
const FEW: usize = 8;

/// Counts by bucket. Kept as pairs of variable-length numbers: the distance to the last bucket, the count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    /// Those that have a count, in their order.
    buckets: Vec<u16>,
    counts: Vec<u64>,
    /// Buckets of values that are not counted yet. Which of them a value falls into nobody can foresee: many together are counted in a
    /// fraction of the time that it takes to look for the place of each.
    recent: Vec<u16>,
}

impl Histogram {
    /// Counts `times` values of `value`.
    pub(super) fn add(&mut self, value: u64, times: u64) {
        match times {
            0 => {}
            1 => {
                self.recent.push(bucket(value));
                if self.recent.len() >= MOST_RECENT {
                    self.settle();
                }
            }
            _ => self.count(bucket(value), times),
        }
    }

    fn count(&mut self, bucket: u16, times: u64) {
        let found = self.buckets.binary_search(&bucket);
        match found.map(|at| self.counts.get_mut(at)) {
            Ok(Some(count)) => *count = count.saturating_add(times),
            Ok(None) => {}
            Err(at) => {
                self.buckets.insert(at, bucket);
                self.counts.insert(at, times);
            }
        }
    }

    /// Counts those that wait for it.
    fn settle(&mut self) {
        let mut recent = std::mem::take(&mut self.recent);
        if recent.len() < FEW {
            recent.iter().for_each(|bucket| self.count(*bucket, 1));
        } else {
            let mut counts = [0_u64; BUCKETS];
            let (mut first, mut last) = (u16::MAX, 0);
            for bucket in &recent {
                if let Some(count) = counts.get_mut(usize::from(*bucket)) {
                    *count += 1;
                }
                (first, last) = (first.min(*bucket), last.max(*bucket));
            }
            let mut settled = Self::with_room(self.buckets.len() + recent.len().min(BUCKETS));
            for bucket in first..=last {
                settled.append((bucket, counts.get(usize::from(bucket)).copied().unwrap_or(0)));
            }
            self.take_in(&settled);
        }
        recent.clear();
        self.recent = recent;
    }

    /// Counts all that `other` has counted.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.settle();
        other.settle();
        self.take_in(&other);
    }

    fn take_in(&mut self, other: &Self) {
        let mut merged = Self::with_room(self.buckets.len() + other.buckets.len());
        let (mut ours, mut theirs) = (self.pairs().peekable(), other.pairs().peekable());
        while let Some(next) = match (ours.peek(), theirs.peek()) {
            (Some(our), Some(their)) if their.0 < our.0 => theirs.next(),
            (Some(_), _) => ours.next(),
            (None, _) => theirs.next(),
        } {
            merged.append(next);
        }
        drop((ours, theirs));
        (self.buckets, self.counts) = (merged.buckets, merged.counts);
    }

    fn with_room(room: usize) -> Self {
        Self { buckets: Vec::with_capacity(room), counts: Vec::with_capacity(room), recent: Vec::new() }
    }

    fn pairs(&self) -> impl Iterator<Item = (u16, u64)> {
        self.buckets.iter().copied().zip(self.counts.iter().copied())
    }

    /// The smallest value that `percent` in a hundred do not exceed, as the middle of its bucket; none when nothing was counted.
    pub(super) fn quantile(&mut self, percent: u64) -> Option<f64> {
        self.settle();
        let total = self.counts.iter().copied().map(u128::from).sum::<u128>();
        let rank = (total * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in self.pairs() {
            seen += u128::from(count);
            if seen >= rank {
                return Some(middle(bucket));
            }
        }
        None
    }

    /// As it is kept.
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        self.settle();
        let mut bytes = Vec::with_capacity(self.counts.len() * 3);
        let mut last = 0;
        for (bucket, count) in self.pairs() {
            match (u8::try_from(bucket - last), u8::try_from(count)) {
                // Most are of one byte, and written together.
                (Ok(gap @ 0..0x80), Ok(count @ 0..0x80)) => bytes.extend_from_slice(&[gap, count]),
                _ => {
                    varint::write(&mut bytes, u64::from(bucket - last));
                    varint::write(&mut bytes, count);
                }
            }
            last = bucket;
        }
        bytes
    }

    /// As it was.
    ///
    /// # Errors
    /// These bytes are no histogram.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Result<Self, StoreFault> {
        let mut histogram = Self::with_room(bytes.len() / 2);
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
        match self.counts.last_mut().filter(|_| self.buckets.last() == Some(&bucket)) {
            Some(count) => *count = count.saturating_add(times),
            None if times > 0 => {
                self.buckets.push(bucket);
                self.counts.push(times);
            }
            None => {}
        }
    }
}

/// The bucket of a value: below [`BUCKETS`].
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
            let [mut one, mut other] = halves;
            one.merge(Histogram::from_bytes(&other.bytes()).unwrap());
            prop_assert!((one.quantile(percent).unwrap() - exact).abs() <= exact * 0.07);
        }

        #[test]
        fn bytes_give_the_same_back(values in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20)) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|(value, times)| histogram.add(*value, *times));
            prop_assert_eq!(Histogram::from_bytes(&histogram.bytes()), Ok(histogram));
        }

        #[test]
        fn many_are_counted_as_each_by_itself(values in prop::collection::vec((0_u64..4_000, 1_u64..3), 0..3_000)) {
            let (mut together, mut alone) = (Histogram::default(), Histogram::default());
            for (at, (value, times)) in values.iter().enumerate() {
                together.add(*value, *times);
                alone.count(bucket(*value), *times);
                if at % 700 == 0 {
                    together.settle();
                }
            }
            together.settle();
            prop_assert_eq!((together.buckets, together.counts), (alone.buckets, alone.counts));
        }
    }
}
