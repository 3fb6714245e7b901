//! Which bytes of a journal hold entries that are not in the store yet.
//!
//! ```text
//! not wrapped:   FIRST ....... [start pending end) ................... capacity
//! wrapped:       FIRST [ pending end) ....... [start pending wrap) ... capacity
//! ```
//!
//! The front is written again as soon as enough of it is free, so that a journal that is drained in time touches little memory.

use std::ops::Range;

/// Where the first frame stands; before it is the journal's own head.
pub(super) const FIRST: usize = 64;

/// How much must be free in front before it is written again, bytes.
const EAGER: usize = 256 * 1024;

/// The pending part of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    capacity: usize,
    start: usize,
    end: usize,
    wrap: Option<usize>,
}

impl Extent {
    /// Of an empty journal of `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, start: FIRST, end: FIRST, wrap: None }
    }

    /// Takes a place for a frame of `length` bytes; `None` when there is none.
    pub(super) fn place(&mut self, length: usize) -> Option<usize> {
        if self.wrap.is_none() {
            if self.start == self.end {
                (self.start, self.end) = (FIRST, FIRST);
            }
            let free_in_front = self.start - FIRST;
            let is_worth_it = free_in_front >= EAGER && free_in_front > self.end - self.start;
            let is_needed = self.end + length > self.capacity;
            if (is_worth_it || is_needed) && length <= free_in_front {
                self.wrap = Some(self.end);
                self.end = FIRST;
            } else if is_needed {
                return None;
            }
        }
        if self.wrap.is_some() && self.end + length > self.start {
            return None;
        }
        let at = self.end;
        self.end += length;
        Some(at)
    }

    /// The oldest pending bytes that lie in one piece; empty when nothing is pending.
    pub(super) fn oldest(&self) -> Range<usize> {
        self.start..self.wrap.unwrap_or(self.end)
    }

    /// `done`, the beginning of the piece that [`Extent::oldest`] gave, is in the store now.
    pub(super) fn advance(&mut self, done: Range<usize>) {
        // Nothing was pending, and what was appended since then stands at the front: the end of that piece means nothing any more.
        if done.is_empty() {
            return;
        }
        self.start = done.end;
        if self.wrap == Some(done.end) {
            (self.start, self.wrap) = (FIRST, None);
        }
    }

    /// Bytes that are pending.
    pub(super) fn pending(&self) -> usize {
        match self.wrap {
            Some(wrap) => wrap - self.start + self.end - FIRST,
            None => self.end - self.start,
        }
    }

    /// Bytes for frames in all.
    pub(super) fn capacity(&self) -> usize {
        self.capacity - FIRST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn a_journal_that_is_drained_in_time_stays_at_its_front() {
        let mut extent = Extent::new(32 << 20);
        for _ in 0..100_000 {
            let at = extent.place(256).unwrap();
            assert!(at < FIRST + 2 * EAGER);
            if at % 4_096 < 256 {
                let oldest = extent.oldest();
                extent.advance(oldest);
            }
        }
    }

    #[test]
    fn what_is_full_takes_nothing_until_something_is_drained() {
        let mut extent = Extent::new(FIRST + 10 * 64);
        assert!((0..10).all(|_| extent.place(64).is_some()));
        assert_eq!((extent.place(64), extent.pending(), extent.capacity()), (None, 640, 640));
        extent.advance(FIRST..FIRST + 64);
        assert_eq!((extent.place(128), extent.place(64)), (None, Some(FIRST)));
        assert_eq!(extent.place(64), None);
    }

    proptest! {
        #[test]
        fn frames_never_overlap_and_come_out_in_order(
            steps in prop::collection::vec((1_usize..12, any::<bool>(), any::<prop::sample::Index>()), 1..400),
            capacity in 12_usize..200,
        ) {
            let mut extent = Extent::new(FIRST + capacity * 64);
            let mut pending: VecDeque<(usize, usize)> = VecDeque::new();
            for (frames, drains, upto) in steps {
                if let Some(at) = extent.place(frames * 64) {
                    let end = at + frames * 64;
                    prop_assert!(at >= FIRST && end <= FIRST + capacity * 64);
                    prop_assert!(pending.iter().all(|(from, to)| end <= *from || at >= *to));
                    pending.push_back((at, end));
                }
                prop_assert_eq!(extent.pending(), pending.iter().map(|(from, to)| to - from).sum::<usize>());
                if drains && !pending.is_empty() {
                    let oldest = extent.oldest();
                    prop_assert_eq!(oldest.start, pending[0].0);
                    let whole = pending.iter().take_while(|(from, to)| *from >= oldest.start && *to <= oldest.end).count();
                    let taken = upto.index(whole) + 1;
                    let (_, to) = pending.drain(..taken).next_back().unwrap();
                    extent.advance(oldest.start..to);
                }
            }
            while !pending.is_empty() {
                let oldest = extent.oldest();
                while pending.front().is_some_and(|(from, to)| *from >= oldest.start && *to <= oldest.end) {
                    pending.pop_front();
                }
                extent.advance(oldest);
            }
            prop_assert_eq!(extent.pending(), 0);
        }
    }
}
