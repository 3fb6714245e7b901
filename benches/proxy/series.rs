//! Numbers of several rounds, and percentiles of many samples.

/// One number a round; `None` where the window was thrown away.
#[derive(Debug, Clone, Default)]
pub struct Series(pub Vec<Option<f64>>);

impl Series {
    /// The good rounds, in ascending order.
    fn good(&self) -> Vec<f64> {
        let mut good = self.0.iter().flatten().copied().collect::<Vec<_>>();
        good.sort_by(f64::total_cmp);
        good
    }

    /// The middle one of the good rounds.
    pub fn median(&self) -> Option<f64> {
        let good = self.good();
        let upper = *good.get(good.len() / 2)?;
        Some(if good.len() % 2 == 1 { upper } else { (good[good.len() / 2 - 1] + upper) / 2.0 })
    }

    /// The least and the most.
    pub fn spread(&self) -> Option<(f64, f64)> {
        let good = self.good();
        Some((*good.first()?, *good.last()?))
    }

    /// Round by round, where both are good.
    pub fn pair(&self, other: &Self, both: impl Fn(f64, f64) -> f64) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(one, two)| one.zip(*two).map(|(one, two)| both(one, two))).collect())
    }

    /// This over the other, as the median of each round's ratio: what slows down a whole round cancels out. A difference that
    /// noise made zero or less has no ratio.
    pub fn ratio(&self, other: &Self) -> Option<f64> {
        let positive = |series: &Self| Self(series.0.iter().map(|n| n.filter(|n| *n > 0.0)).collect());
        positive(self).pair(&positive(other), |one, two| one / two).median()
    }
}

impl FromIterator<Option<f64>> for Series {
    fn from_iter<I: IntoIterator<Item = Option<f64>>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

/// The sample below which `share` of them lie; `samples` are sorted. `None` without samples.
pub fn percentile(samples: &[u64], share: f64) -> Option<u64> {
    let last = samples.len().checked_sub(1)?;
    // Nearest rank.
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples.get(rank.saturating_sub(1).min(last)).copied()
}
