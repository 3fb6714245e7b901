//! What is ready together leaves together. A thread's tasks have their turns one after the other; what one of them has to write waits until those whose
//! turn it is as well have had it, and is then written with theirs, one behind the other: whoever reads it is woken once for all of it, and no task is
//! woken only to write.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Weak;
use std::task::{Poll, Waker};

/// So many leave without waiting for more: the first of a thousand is not to wait for the last.
const MANY: usize = 32;

/// Something with bytes to be written.
pub trait Leaves {
    /// Writes them. Whoever waits for that learns here what became of it.
    fn leave(&self);
}

/// Those of one thread who wait to leave.
#[derive(Default)]
pub struct Turn {
    waiting: RefCell<Vec<Weak<dyn Leaves>>>,
    /// Wakes the task that ends each turn; `None` where there is none.
    end: RefCell<Option<Waker>>,
}

impl Turn {
    /// Has `who` leave at the end of this turn, unless it is gone by then. False where nobody ends it: then it is to leave by itself.
    pub fn wait(&self, who: Weak<dyn Leaves>) -> bool {
        let end = self.end.borrow();
        let Some(end) = &*end else { return false };
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            // It comes behind all who can go on now.
            end.wake_by_ref();
        }
        waiting.push(who);
        true
    }

    /// Has those leave who wait, where they are many. Not to be called by one of them.
    pub fn relieve(&self) {
        if self.waiting.borrow().len() >= MANY {
            self.leave();
        }
    }

    /// Ends each turn, for as long as it is polled.
    pub async fn run(&self) -> Infallible {
        poll_fn(|cx| {
            self.end.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            self.leave();
            Poll::Pending
        })
        .await
    }

    fn leave(&self) {
        let mut leaving = self.waiting.take();
        for who in leaving.drain(..) {
            if let Some(who) = who.upgrade() {
                who.leave();
            }
        }
        let mut waiting = self.waiting.borrow_mut();
        // The room is used again, where nobody came meanwhile.
        if waiting.is_empty() {
            *waiting = leaving;
        }
    }
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("waiting", &self.waiting.borrow().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Context;

    use super::*;

    #[derive(Default)]
    struct Guest(Cell<usize>);

    impl Leaves for Guest {
        fn leave(&self) {
            self.0.set(self.0.get() + 1);
        }
    }

    fn weak(guest: &Rc<Guest>) -> Weak<dyn Leaves> {
        let weak: Weak<Guest> = Rc::downgrade(guest);
        weak
    }

    #[test]
    fn who_waits_leaves_once_and_who_is_gone_does_not() {
        let (turn, guest) = (Turn::default(), Rc::new(Guest::default()));
        assert!(!turn.wait(weak(&guest)), "nobody ends the turn");
        let mut cx = Context::from_waker(Waker::noop());
        let mut run = pin!(turn.run());
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert!(turn.wait(weak(&guest)) && turn.wait(weak(&Rc::default())));
        assert_eq!(guest.0.get(), 0);
        for _ in 0..2 {
            assert!(run.as_mut().poll(&mut cx).is_pending());
            assert_eq!(guest.0.get(), 1);
        }
    }

    #[test]
    fn many_do_not_wait_for_more() {
        let (turn, guest) = (Turn::default(), Rc::new(Guest::default()));
        assert!(pin!(turn.run()).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        for number in 1..=MANY {
            assert_eq!(guest.0.get(), 0, "{number}");
            assert!(turn.wait(weak(&guest)));
            turn.relieve();
        }
        assert_eq!(guest.0.get(), MANY);
    }
}
