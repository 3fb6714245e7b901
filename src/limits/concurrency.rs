//! Requests at once.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::units::Parallel;

/// The slots of one key in use. Counted without a limit too, so that a limit set later finds the truth.
#[derive(Debug, Default)]
pub struct Slots(AtomicU32);

impl Slots {
    /// Takes one slot; false, and nothing taken, when `limit` are in use. To be [`Slots::free`]d exactly once.
    #[must_use]
    pub fn take(&self, limit: Option<Parallel>) -> bool {
        let limit = limit.map_or(u32::MAX, Parallel::get);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |in_use| (in_use < limit).then(|| in_use + 1)).is_ok()
    }

    /// Frees one slot.
    pub fn free(&self) {
        let freed = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |in_use| in_use.checked_sub(1));
        debug_assert!(freed.is_ok(), "a slot is freed once");
    }

    /// Slots in use.
    pub fn in_use(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_is_the_last() {
        let (slots, limit) = (Slots::default(), Parallel::new(2));
        assert!(slots.take(limit) && slots.take(limit));
        assert!(!slots.take(limit));
        slots.free();
        assert!(slots.take(limit));
        assert_eq!(slots.in_use(), 2);
    }

    #[test]
    fn requests_without_a_limit_count_for_one_set_later() {
        let slots = Slots::default();
        assert!(slots.take(None) && slots.take(None));
        assert!(!slots.take(Parallel::new(2)));
    }
}
