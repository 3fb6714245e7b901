//! What the wire tells the service about its connection, and when the peer must have sent or taken something.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::header::HOST;

use crate::admission::Caller;
use crate::clock::NS_PER_SECOND;
use crate::headers::Headers;
use crate::policy::{DialectName, HeadFlaw};
use crate::proxy::deadline::{Deadline, Due};

/// How long a connection that is over reads what its client still sends. See [`super::Wire`].
const LINGER_NS: u64 = 2 * NS_PER_SECOND;
/// How long the answer to a head that came too slowly may take.
const FAREWELL_NS: u64 = 2 * NS_PER_SECOND;

/// The slowest that a peer may take what it was sent, bytes per second: less, for [`WireTimes::write_stall_ns`], is nothing.
const TAKING_RATE: u64 = 1024;
/// How soon a look is asked for again that nobody took.
const LOOK_AGAIN_NS: u64 = NS_PER_SECOND;

const NEVER: u64 = u64::MAX;

/// What the wire tells the service about its connection, and how long the peer may take. Sending and taking are timed apart: a
/// client that sends in time may still leave its answers unread.
#[derive(Debug)]
pub struct WireNotes {
    /// Why the head was refused, and the dialect its path was nearest to.
    flaw: Cell<Option<(HeadFlaw, DialectName)>>,
    /// The earliest of the three moments below.
    deadline: Deadline,
    send_due_ns: Cell<u64>,
    take_due_ns: Cell<u64>,
    /// When to look at what the kernel keeps for the peer: written, and not taken.
    look_due_ns: Cell<u64>,
    wants_a_look: Cell<bool>,
    /// What the peer had left when that was last looked at.
    unread: Cell<Option<Unread>>,
    /// The same when it last took nothing more, and whether it was looked at since its time for that was over.
    stall: Cell<Option<Unread>>,
    stall_is_judged: Cell<bool>,
    is_unread: Cell<bool>,
    is_cut: Cell<bool>,
    is_broken_off: Cell<bool>,
    in_request: Cell<bool>,
    /// A head has begun to arrive and is not whole.
    head_is_open: Cell<bool>,
    /// A body has not arrived whole.
    body_is_open: Cell<bool>,
    head_is_overdue: Cell<bool>,
    is_over: Cell<bool>,
    /// Who waits for the peer to take something again.
    waits_for_room: RefCell<Vec<Waker>>,
    limits: WireTimes,
}

/// What the kernel kept for a peer at a look.
#[derive(Debug, Clone, Copy)]
struct Unread {
    /// Bytes.
    untaken: u64,
    /// Bytes written by then, of which those are the last.
    written: u64,
    /// When the peer was last seen to go on taking, or first to leave anything.
    since_ns: u64,
}

impl Unread {
    /// Whether by `now`, so long after, the peer has taken it, or as much as the slowest may.
    fn is_taken(&self, now: &Self, after_ns: u64) -> bool {
        let taken = (now.written - self.written + self.untaken).saturating_sub(now.untaken);
        let least = after_ns / NS_PER_SECOND * TAKING_RATE;
        taken >= least.min(self.untaken).max(1)
    }
}

/// How long a peer may take, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct WireTimes {
    /// For a head, from its first byte.
    pub head_ns: u64,
    /// Between requests.
    pub keep_alive_ns: u64,
    /// To take written bytes.
    pub write_stall_ns: u64,
}

impl WireNotes {
    /// Notes for a new connection; its first head is due within the head time.
    pub fn new(deadline: Deadline, limits: WireTimes) -> Rc<Self> {
        let notes = Self {
            flaw: Cell::new(None),
            deadline,
            send_due_ns: Cell::new(NEVER),
            take_due_ns: Cell::new(NEVER),
            look_due_ns: Cell::new(NEVER),
            wants_a_look: Cell::new(false),
            unread: Cell::new(None),
            stall: Cell::new(None),
            stall_is_judged: Cell::new(false),
            is_unread: Cell::new(false),
            is_cut: Cell::new(false),
            is_broken_off: Cell::new(false),
            in_request: Cell::new(false),
            head_is_open: Cell::new(false),
            body_is_open: Cell::new(false),
            head_is_overdue: Cell::new(false),
            is_over: Cell::new(false),
            waits_for_room: RefCell::default(),
            limits,
        };
        notes.due(&notes.send_due_ns, limits.head_ns);
        Rc::new(notes)
    }

    /// A TLS handshake has been made: the first head has its own time.
    pub fn opened(&self) {
        self.due(&self.send_due_ns, self.limits.head_ns);
    }

    /// Why the request with these headers is refused, and the dialect its path was nearest to. A refused head reaches the service as the
    /// marker, which is known by the `Host` it lacks: the wire lets no other request without one through, and a flaw that was
    /// read while an earlier request is answered is not that request's.
    pub fn flaw_of(&self, headers: &Headers) -> Option<(HeadFlaw, DialectName)> {
        if headers.contains_key(HOST) { None } else { self.flaw.get() }
    }

    /// Whether part of a request's body is still to come.
    pub fn body_is_open(&self) -> bool {
        self.body_is_open.get()
    }

    /// A request has been read whole up to its body: the service's own times apply from here.
    pub fn request_began(&self) {
        self.in_request.set(true);
        self.due(&self.send_due_ns, NEVER);
    }

    /// An answer has ended: the next request may take its time.
    pub fn request_ended(&self) {
        self.in_request.set(false);
        self.deadline.unwatch();
        let next = if self.head_is_open.get() { self.limits.head_ns } else { self.limits.keep_alive_ns };
        self.will_look();
        self.due(&self.send_due_ns, next);
    }

    /// Ready when the peer has taken too long and the connection is to be dropped. A head that is overdue is refused first, as far as the peer
    /// takes the answer.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        let verdict = if self.is_unread.get() { Poll::Ready(()) } else { self.poll_overdue(cx) };
        self.is_cut.set(verdict.is_ready() && (self.is_unread.get() || self.is_stalled()));
        verdict
    }

    fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.deadline.poll_due(cx)) {
            Due::TimeUp => {}
            Due::Revoked(_) => return Poll::Pending, // the answer ends of itself, as far as the peer takes it
        }
        let now_ns = self.deadline.now_ns();
        if now_ns >= self.look_due_ns.get() && now_ns < self.send_due_ns.get().min(self.take_due_ns.get()) {
            self.wants_a_look.set(true);
            self.due(&self.look_due_ns, LOOK_AGAIN_NS);
            cx.waker().wake_by_ref(); // the look is taken with the next read
            return self.deadline.poll_due(cx).map(|_| ());
        }
        let takes = now_ns < self.take_due_ns.get();
        if !takes && !self.stall_is_judged.replace(true) {
            // The system takes more only once a good part of what it has is taken: whether any is, is to be seen.
            self.wants_a_look.set(true);
            self.due(&self.take_due_ns, LOOK_AGAIN_NS);
            cx.waker().wake_by_ref();
            return self.deadline.poll_due(cx).map(|_| ());
        }
        let is_head = self.head_is_open.get() && !self.in_request.get() && !self.is_over.get();
        if !takes || !is_head || self.head_is_overdue.replace(true) {
            return Poll::Ready(());
        }
        self.due(&self.send_due_ns, FAREWELL_NS);
        cx.waker().wake_by_ref(); // the marker is read now
        self.deadline.poll_due(cx).map(|_| ())
    }

    /// The answer that runs now ends with the secret it was asked for with.
    pub fn watch(&self, caller: Caller) {
        self.deadline.watch(caller);
    }

    /// Ready when the answer is at its end by that, and the peer takes nothing of it: the upstream is not kept waiting for the peer.
    pub fn poll_unheard(&self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.deadline.poll_due(cx)) {
            Due::Revoked(_) if self.is_stalled() => {
                self.is_cut.set(true);
                Poll::Ready(())
            }
            Due::Revoked(_) | Due::TimeUp => Poll::Pending,
        }
    }

    /// Whether the connection ends because the peer does not take what it is sent.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// An answer that has neither a length nor chunks ends before its end: its peer is told by a reset, since it would look whole.
    pub fn break_off(&self) {
        self.is_broken_off.set(true);
    }

    /// Whether one did.
    pub(super) fn is_broken_off(&self) -> bool {
        self.is_broken_off.get()
    }

    /// How long a peer may leave what is written to it.
    pub(super) fn stall_time(&self) -> Duration {
        Duration::from_nanos(self.limits.write_stall_ns)
    }

    /// Whether [`Self::looked`] is to be told.
    pub(super) fn wants_a_look(&self) -> bool {
        self.wants_a_look.get()
    }

    /// So many bytes were written since the connection began, and so many of them are kept by the kernel for a peer that has not taken them.
    /// A peer that is seen, for as long as a write may stall, to take neither [`TAKING_RATE`] nor what the look before found, is cut as if one
    /// had. What is on its way to a peer that takes everything was written since.
    pub(super) fn looked(&self, written: u64, untaken: u64) {
        self.wants_a_look.set(false);
        let now = Unread { untaken, written, since_ns: self.deadline.now_ns() };
        if self.stall_is_judged.get() {
            self.judge(now);
        }
        if untaken == 0 {
            self.unread.set(None);
            self.due(&self.look_due_ns, NEVER);
            return;
        }
        let since_ns = match self.unread.get() {
            Some(before) if !before.is_taken(&now, self.look_time_ns()) => before.since_ns,
            _ => now.since_ns,
        };
        self.unread.set(Some(Unread { since_ns, ..now }));
        if now.since_ns.saturating_sub(since_ns) >= self.limits.write_stall_ns {
            self.is_unread.set(true);
        } else {
            self.due(&self.look_due_ns, self.look_time_ns());
        }
    }

    /// Whether a peer that has had its time to have more written to it was taking what it had.
    fn judge(&self, now: Unread) {
        match self.stall.get() {
            Some(before) if before.is_taken(&now, self.limits.write_stall_ns) => self.stalls_at(now),
            _ => self.is_unread.set(true),
        }
    }

    fn stalls_at(&self, now: Unread) {
        self.stall.set(Some(now));
        self.stall_is_judged.set(false);
        self.due(&self.take_due_ns, self.limits.write_stall_ns);
    }

    /// From one look to the next.
    fn look_time_ns(&self) -> u64 {
        self.limits.write_stall_ns / 3
    }

    /// Looks after a while, unless that stands already.
    fn will_look(&self) {
        if self.look_due_ns.get() == NEVER {
            self.look_due_ns.set(self.deadline.now_ns().saturating_add(self.look_time_ns()));
        }
    }

    /// Ready when the peer has taken what it was last offered.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_stalled() {
            return Poll::Ready(());
        }
        let mut waiting = self.waits_for_room.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The peer has not taken what it was last offered.
    pub fn is_stalled(&self) -> bool {
        self.take_due_ns.get() != NEVER
    }

    pub(super) fn refuse(&self, flaw: HeadFlaw, nearest: DialectName) {
        self.flaw.set(Some((flaw, nearest)));
    }

    /// A head that has begun did not come in time.
    pub fn head_is_overdue(&self) -> bool {
        self.head_is_overdue.get()
    }

    /// A head has begun; while a request is answered its time has not.
    pub fn head_began(&self) {
        if !self.head_is_open.replace(true) && !self.in_request.get() {
            self.due(&self.send_due_ns, self.limits.head_ns);
        }
    }

    /// It is whole.
    pub fn head_ended(&self) {
        self.head_is_open.set(false);
    }

    pub(super) fn set_body_is_open(&self, is_open: bool) {
        self.body_is_open.set(is_open);
    }

    /// Nothing more can be written for the peer: of so many bytes written the system has so many that it has not taken.
    pub(super) fn write_stalled(&self, written: u64, untaken: u64) {
        self.will_look();
        self.stalls_at(Unread { untaken, written, since_ns: self.deadline.now_ns() });
    }

    /// The peer took something again.
    pub(super) fn write_resumed(&self) {
        self.stall_is_judged.set(false);
        self.due(&self.take_due_ns, NEVER);
        self.waits_for_room.take().into_iter().for_each(Waker::wake);
    }

    /// Everything is said; what the peer still sends is read away for a moment.
    pub(super) fn lingers(&self) {
        self.is_over.set(true);
        self.send_due_ns.set(self.deadline.now_ns().saturating_add(LINGER_NS));
        self.take_due_ns.set(NEVER);
        self.look_due_ns.set(NEVER);
        self.deadline.set_at(self.send_due_ns.get());
    }

    /// The connection ends of itself, or is ended shortly.
    pub fn farewell(&self) {
        self.due(&self.send_due_ns, FAREWELL_NS);
    }

    fn due(&self, which: &Cell<u64>, in_ns: u64) {
        if self.is_over.get() {
            return;
        }
        which.set(if in_ns == NEVER { NEVER } else { self.deadline.now_ns().saturating_add(in_ns) });
        self.deadline.set_at(self.send_due_ns.get().min(self.take_due_ns.get()).min(self.look_due_ns.get()));
    }
}

#[cfg(test)]
mod tests;
