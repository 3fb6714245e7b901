//! How much of what costs us and not the peer a peer may do. Pure: the time is an argument.

use crate::clock::NS_PER_SECOND;

/// So many at once, and one more every so often.
#[derive(Debug)]
pub struct Allowance {
    left: u32,
    most: u32,
    every_ns: u64,
    /// Up to when `left` has grown.
    at_ns: u64,
}

impl Allowance {
    /// Whole at `now_ns`; it grows by `per_second`, which is not 0, up to `most`.
    pub fn new(most: u32, per_second: u64, now_ns: u64) -> Self {
        Self { left: most, most, every_ns: NS_PER_SECOND / per_second, at_ns: now_ns }
    }

    /// Takes one; false when there is none.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let grown = now_ns.saturating_sub(self.at_ns) / self.every_ns;
        self.at_ns = self.at_ns.saturating_add(grown.saturating_mul(self.every_ns));
        self.earn(u32::try_from(grown).unwrap_or(u32::MAX));
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_there
    }

    /// Adds `count`, up to what there may be.
    pub fn earn(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_comes_back_with_time() {
        const SECOND: u64 = NS_PER_SECOND;
        let mut allowance = Allowance::new(1, 1, 0);
        assert!(allowance.take(0) && !allowance.take(SECOND - 1) && allowance.take(SECOND));
        assert!(!allowance.take(SECOND * 2 - 1) && allowance.take(u64::MAX) && !allowance.take(u64::MAX));
    }
}
