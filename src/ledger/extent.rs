//! Which bytes of a journal hold entries that are not in the store yet.
//!
//! ```text
//! one piece:   FIRST ................ [pending) ................. capacity
//! two:         FIRST [2nd) .......... [1st) ..................... capacity
//! three:       FIRST [2nd           ) [1st) [3rd) ............... capacity
//! ```
//!
//! The front is written again as soon as enough of it is free, so that a journal that is drained in time touches little memory. Where that is
//! full before the piece behind it is drained, what follows goes behind both: all of the journal's room can be had at any moment.

use std::collections::VecDeque;
use std::ops::Range;

/// Where the first frame stands; before it is the journal's own head.
pub(super) const FIRST: usize = 64;

/// How much must be free in front before it is written again, bytes.
const EAGER: usize = 256 * 1024;

/// The pending part of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    capacity: usize,
    /// The oldest first; the last is the one that is appended to.
    pieces: VecDeque<Range<usize>>,
}

impl Extent {
    /// Of an empty journal of `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, pieces: VecDeque::new() }
    }

    /// Takes a place for a frame of `length` bytes; `None` when there is none.
    pub(super) fn place(&mut self, length: usize) -> Option<usize> {
        let is_single = self.pieces.len() < 2;
        if is_single && self.pending() == 0 {
            self.pieces.clear();
            self.pieces.push_back(FIRST..FIRST);
        }
        let Range { start, end } = self.pieces.back()?.clone();
        let free_in_front = start - FIRST;
        let is_worth_it = is_single && free_in_front >= EAGER && free_in_front > end - start;
        if is_worth_it && length <= free_in_front {
            self.pieces.push_back(FIRST..FIRST);
        } else if length > if is_single { self.capacity - end } else { self.room(end) } {
            let ends = self.pieces.iter().map(|piece| piece.end).chain([FIRST]);
            let at = ends.max_by_key(|end| self.room(*end)).filter(|end| length <= self.room(*end))?;
            self.pieces.push_back(at..at);
        }
        let last = self.pieces.back_mut()?;
        let at = last.end;
        last.end += length;
        Some(at)
    }

    /// How many bytes from `at` on are free.
    fn room(&self, at: usize) -> usize {
        let next =
            self.pieces.iter().filter(|piece| !piece.is_empty() && piece.end > at).map(|piece| piece.start).min();
        next.unwrap_or(self.capacity).saturating_sub(at)
    }

    /// The oldest pending bytes that lie in one piece; empty when nothing is pending.
    pub(super) fn oldest(&self) -> Range<usize> {
        self.pieces.front().cloned().unwrap_or(FIRST..FIRST)
    }

    /// `done`, the beginning of the piece that [`Extent::oldest`] gave, is in the store now.
    pub(super) fn advance(&mut self, done: Range<usize>) {
        // Nothing was pending, and what was appended since then stands at the front: the end of that piece means nothing any more.
        if done.is_empty() {
            return;
        }
        if let Some(oldest) = self.pieces.front_mut() {
            oldest.start = done.end;
        }
        if self.pieces.len() > 1 && self.oldest().is_empty() {
            self.pieces.pop_front();
        }
    }

    /// Bytes that are pending.
    pub(super) fn pending(&self) -> usize {
        self.pieces.iter().map(Range::len).sum()
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

    #[test]
    fn a_burst_finds_all_the_room_there_is() {
        let mut extent = Extent::new(32 << 20);
        for _ in 0..2_000 {
            extent.place(256).unwrap();
        }
        // While these are written to the store another one comes, and from then on more than the front has room for.
        let oldest = extent.oldest();
        let drained = oldest.len() - 256;
        extent.advance(oldest.start..oldest.start + drained);
        let places = (0..).map_while(|_| extent.place(256)).collect::<Vec<_>>();
        assert_eq!((places[0], extent.pending()), (FIRST, extent.capacity() / 256 * 256));
        let pieces = std::iter::from_fn(|| {
            let oldest = extent.oldest();
            extent.advance(oldest.clone());
            (!oldest.is_empty()).then_some(oldest)
        });
        let front = FIRST + drained;
        let end = FIRST + (((32 << 20) - FIRST) / 256 * 256);
        assert_eq!(pieces.collect::<Vec<_>>(), [front..front + 256, FIRST..front, front + 256..end]);
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
