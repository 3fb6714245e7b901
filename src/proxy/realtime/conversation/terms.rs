//! The most output that the session lets a response have. An update of it may be refused, and until the backend has said which it is, what is larger counts.

use std::collections::VecDeque;

use crate::dialect::realtime::Bound;
use crate::units::Tokens;

/// Updates that are kept apart until the backend has answered them.
const MOST_ASKED: usize = 16;

/// The bound that is in force, and those that may come to be.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// As the backend has told last; `None` where there is none.
    held: Option<Tokens>,
    /// Updates that it has not answered yet, the oldest first: it answers them in order.
    asked: VecDeque<Update>,
}

#[derive(Debug)]
struct Update {
    /// The id of its event.
    event: Box<str>,
    /// What it says of the bound, if anything.
    bound: Option<Bound>,
}

impl Bound {
    fn tokens(self) -> Option<Tokens> {
        match self {
            Self::Tokens(most) => Some(most),
            Self::None => None,
        }
    }
}

impl Terms {
    /// The most that a response begun now may have, where that is bounded. Without a bound it has about `usual`.
    pub(super) fn bound(&self, usual: Tokens) -> Option<Tokens> {
        let asked = self.asked.iter().filter_map(|update| update.bound).map(Bound::tokens);
        asked.chain([self.held]).max_by_key(|bound| bound.unwrap_or(usual)).flatten()
    }

    /// An update goes to the backend.
    pub(super) fn ask(&mut self, event: Box<str>, bound: Option<Bound>, usual: Tokens) {
        if self.asked.len() >= MOST_ASKED {
            self.held = self.bound(usual);
            self.asked.pop_front();
        }
        self.asked.push_back(Update { event, bound });
    }

    /// The backend has taken the oldest update, and says what holds, if it does.
    pub(super) fn updated(&mut self, told: Option<Bound>) {
        let asked = self.asked.pop_front().and_then(|update| update.bound);
        self.tell(told.or(asked));
    }

    /// The backend says what holds, if it does.
    pub(super) fn tell(&mut self, told: Option<Bound>) {
        self.held = told.map_or(self.held, Bound::tokens);
    }

    /// The backend has not taken this one.
    pub(super) fn refused(&mut self, event: &str) {
        self.asked.retain(|update| *update.event != *event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Tokens = 500;

    #[test]
    fn a_lower_bound_holds_once_it_is_taken_and_a_higher_one_at_once() {
        let mut terms = Terms::default();
        terms.ask("a".into(), Some(Bound::Tokens(5)), USUAL);
        assert_eq!(terms.bound(USUAL), None);
        terms.updated(Some(Bound::Tokens(5)));
        assert_eq!(terms.bound(USUAL), Some(5));
        terms.ask("b".into(), Some(Bound::Tokens(4_000)), USUAL);
        assert_eq!(terms.bound(USUAL), Some(4_000));
        terms.refused("b");
        assert_eq!(terms.bound(USUAL), Some(5));
        terms.ask("c".into(), Some(Bound::None), USUAL);
        assert_eq!(terms.bound(USUAL), None);
    }

    #[test]
    fn an_answer_is_that_to_the_oldest_and_takes_nothing_from_later_ones() {
        let mut terms = Terms::default();
        terms.ask("a".into(), Some(Bound::Tokens(1)), USUAL);
        terms.ask("b".into(), Some(Bound::Tokens(4_000)), USUAL);
        terms.updated(Some(Bound::Tokens(1)));
        assert_eq!(terms.bound(USUAL), Some(4_000));
        // Not every backend says it again.
        terms.updated(None);
        assert_eq!(terms.bound(USUAL), Some(4_000));
        terms.ask("c".into(), None, USUAL);
        terms.updated(None);
        assert_eq!(terms.bound(USUAL), Some(4_000));
    }

    #[test]
    fn updates_that_are_never_answered_take_no_room() {
        let mut terms = Terms::default();
        terms.ask("a".into(), Some(Bound::Tokens(9_000)), USUAL);
        for number in 0..1_000_u64 {
            terms.ask(number.to_string().into(), Some(Bound::Tokens(number % 10)), USUAL);
        }
        assert_eq!((terms.asked.len(), terms.bound(USUAL)), (MOST_ASKED, Some(9_000)));
    }
}
