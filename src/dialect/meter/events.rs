//! Reads an event stream, event by event. An event that lies whole in one piece is read where it lies; one that is cut is
//! gathered; one that is longer than [`LONGEST_EVENT`] is read as it comes and never held.

use std::mem;

use crate::dialect::meter::bulk::Bulk;
use crate::dialect::meter::glance::{self, Lookout};
use crate::dialect::meter::name::Texts;
use crate::dialect::meter::scan::{Members, Scan};
use crate::dialect::meter::tally::Tally;
use crate::dialect::sse::{BYTE_ORDER_MARK, Cutter, DataLines};

/// The longest event that is gathered, and so the longest that can be held back, in bytes. Text and usage events have a
/// few hundred; what is longer carries media.
pub const LONGEST_EVENT: usize = 64 * 1024;
/// Room for cut events that is kept from one to the next, in bytes.
const KEPT_ROOM: usize = 2048;

/// What comes next in a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// One byte: the LF of the event that ended last.
    Lf,
    /// An event ends after `length` bytes.
    Event {
        /// Bytes of the event that are in this piece.
        length: usize,
        /// It is openai's extra usage event.
        is_usage: bool,
    },
    /// All the rest belongs to an event that goes on.
    Open {
        /// It is too long to be the usage event.
        is_long: bool,
    },
}

/// An event that is too long to be held, as far as it came.
struct Long {
    lines: DataLines,
    bulk: Bulk,
    /// The text that was counted before it.
    before: u64,
    /// Whether more of it may be generated than its known text.
    is_worth: bool,
}

/// The reader of one stream.
pub(super) struct Events {
    cutter: Cutter,
    lookout: Lookout,
    scan: Scan,
    /// The event that goes on, as far as it came.
    held: Vec<u8>,
    /// Set while the event that goes on is too long to be held.
    long: Option<Long>,
    is_first: bool,
    /// Whether what is held is handed back at the end of its event.
    gives_back: bool,
    given: Vec<u8>,
}

impl Events {
    pub(super) fn new(lookout: Lookout, members: Members, gives_back: bool) -> Self {
        Self {
            cutter: Cutter::new(),
            lookout,
            scan: Scan::new(members, Texts::NONE),
            held: Vec::new(),
            long: None,
            is_first: true,
            gives_back,
            given: Vec::new(),
        }
    }

    /// There are several answers, one beside the other.
    pub(super) fn are_of_several(&mut self) {
        self.lookout.is_of_several = true;
    }

    /// Reads all of a piece.
    pub(super) fn read(&mut self, piece: &[u8], tally: &mut Tally) {
        let mut rest = piece;
        while !rest.is_empty() {
            let length = match self.step(rest, tally) {
                Step::Lf => 1,
                Step::Event { length, .. } => length,
                Step::Open { .. } => return,
            };
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// Reads to the next end of an event. `rest` is not empty.
    pub(super) fn step(&mut self, rest: &[u8], tally: &mut Tally) -> Step {
        if self.cutter.takes_lf(rest) {
            return Step::Lf;
        }
        match self.cutter.next_end(rest) {
            Some(length) => {
                let is_usage = self.end_event(rest.get(..length).unwrap_or(rest), tally);
                Step::Event { length, is_usage }
            }
            None => Step::Open { is_long: self.hold(rest, tally) },
        }
    }

    /// Whether what was passed on so far ends where an event ends. `holds_back` says that an event that goes on was not passed on.
    pub(super) fn is_between(&self, holds_back: bool) -> bool {
        self.long.is_none() && (holds_back || self.held.is_empty())
    }

    /// What earlier pieces held of the event that just ended or grew too long. Empty unless the reader gives back.
    pub(super) fn take_given(&mut self) -> Vec<u8> {
        mem::take(&mut self.given)
    }

    /// The stream ended: reads what is held as if it were a whole event (many clients do) and gives it back. True when it is
    /// openai's extra usage event.
    pub(super) fn finish(&mut self, tally: &mut Tally) -> bool {
        if self.long.take().is_some() {
            tally.end_document();
            return false;
        }
        let held = mem::take(&mut self.held);
        let is_usage = !held.is_empty() && self.whole(&held, tally);
        self.given = held;
        is_usage
    }

    fn end_event(&mut self, last: &[u8], tally: &mut Tally) -> bool {
        if self.long.is_none() && self.held.len() + last.len() <= LONGEST_EVENT {
            if self.held.is_empty() {
                return self.whole(last, tally);
            }
            let earlier = self.held.len();
            self.held.extend_from_slice(last);
            let mut held = mem::take(&mut self.held);
            let is_usage = self.whole(&held, tally);
            held.truncate(earlier);
            self.let_go(held);
            return is_usage;
        }
        self.read_long(last, tally);
        self.long = None;
        tally.end_document();
        false
    }

    /// Holds a part of an event that goes on; true when it is too long for that, and only read.
    fn hold(&mut self, part: &[u8], tally: &mut Tally) -> bool {
        if self.long.is_some() || self.held.len() + part.len() > LONGEST_EVENT {
            self.read_long(part, tally);
            return true;
        }
        self.held.extend_from_slice(part);
        false
    }

    /// Reads a part of a long event; before its first, what was held of it.
    fn read_long(&mut self, part: &[u8], tally: &mut Tally) {
        let (mut rest, begun) = (part, self.long.take());
        let mut long = match begun {
            Some(long) => long,
            None => {
                let mut held = mem::take(&mut self.held);
                let earlier = held.len();
                // So that a byte-order mark is seen whole wherever it was cut.
                let (head, tail) = part.split_at_checked(BYTE_ORDER_MARK.len()).unwrap_or((part, &[]));
                held.extend_from_slice(head);
                let start = self.unmarked(&held);
                let is_found = self.lookout.is_found(start) || self.lookout.is_found(part);
                self.scan.begin(if is_found { Texts::NONE } else { self.lookout.event_text });
                let (before, is_worth) = (tally.text_bytes(), self.lookout.has_media() && !is_found);
                let mut long = Long { lines: DataLines::default(), bulk: Bulk::default(), before, is_worth };
                long.bulk.push(start);
                long.lines.push(start, &mut |data| self.scan.push(data, tally));
                held.truncate(earlier);
                self.let_go(held);
                rest = tail;
                long
            }
        };
        long.bulk.push(rest);
        long.lines.push(rest, &mut |data| self.scan.push(data, tally));
        let counted = tally.text_bytes() - long.before;
        if long.is_worth {
            tally.text(long.bulk.worth().saturating_sub(counted));
        }
        self.long = Some(long);
    }

    /// An event without the byte-order mark that the first one may begin with.
    fn unmarked<'a>(&mut self, event: &'a [u8]) -> &'a [u8] {
        let is_first = mem::replace(&mut self.is_first, false);
        if is_first { event.strip_prefix(BYTE_ORDER_MARK).unwrap_or(event) } else { event }
    }

    fn let_go(&mut self, mut held: Vec<u8>) {
        if self.gives_back {
            self.given = held;
        } else if held.capacity() <= KEPT_ROOM {
            held.clear();
            self.held = held;
        }
    }

    /// Reads a whole event; true when it is openai's extra usage event.
    fn whole(&mut self, event: &[u8], tally: &mut Tally) -> bool {
        let event = self.unmarked(event);
        tally.text(self.lookout.text_in(event));
        if !self.lookout.wants(event) {
            if glance::is_done(event) {
                tally.end_stream();
            }
            return false;
        }
        self.scan.begin(Texts::NONE);
        DataLines::default().push(event, &mut |data| self.scan.push(data, tally));
        tally.end_document();
        self.scan.is_usage_event()
    }
}
