//! A websocket between its client and its upstream: messages pass whole, one by one, each way only as fast as it is taken.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::conversation::{Conversation, ENDPOINT, Interrupt, Verdict};
use super::side::{Got, Side};
use crate::clock::NS_PER_SECOND;
use crate::dialect::websocket::frame::Flaw;
use crate::dialect::websocket::{Closing, Item, Opcode};
use crate::dialect::{self, realtime};
use crate::policy::{CutReason, Fault};
use crate::proxy::account::Account;
use crate::proxy::answer::Stop;
use crate::proxy::body::Share;
use crate::proxy::deadline::{Deadline, Due};
use crate::proxy::plane::{UnderWay, Worker};
use crate::proxy::wire::WireNotes;
use crate::telemetry::metrics::Reason;
use crate::upstream::websocket::Opened;

/// The longest message, bytes: what the API itself takes of sound, and some.
const MOST_MESSAGE: u64 = 16 * 1024 * 1024;
/// What is held is counted in steps of so many bytes.
const STEP: u64 = 16 * 1024;
/// How long a side may take to say goodbye.
const FAREWELL_NS: u64 = NS_PER_SECOND;
/// How long before the end of the drain a websocket is told, at most.
const EARLY: Duration = Duration::from_secs(1);

/// Rounds of one message each way after which the worker's other connections get their turn.
const MOST_ROUNDS: u32 = 32;

const CLIENT_GONE: &str = "client_gone";
const IDLE: &str = "idle";
const DRAINED: &str = "drained";
const MALFORMED: &str = "malformed_frame";
const REFUSED: &str = "too_many_refused";
const BEYOND: &str = "beyond_limits";
const OVERLOADED: &str = "overloaded";

/// A websocket that was opened, before its client's connection is handed over.
#[derive(Debug)]
pub struct Tunnel {
    conversation: Conversation,
    account: Box<Account>,
    worker: Rc<Worker>,
    deadline: Deadline,
    upstream: Box<Opened>,
    idle_ns: u64,
    /// Last: whoever waits for it finds everything charged.
    under_way: UnderWay,
}

impl Tunnel {
    pub(super) fn new(
        worker: &Rc<Worker>,
        conversation: Conversation,
        account: Box<Account>,
        upstream: Box<Opened>,
        deadline: Deadline,
        under_way: UnderWay,
    ) -> Self {
        let idle_ns = u64::try_from(conversation.idle_timeout().as_nanos()).unwrap_or(u64::MAX);
        Self { conversation, account, worker: Rc::clone(worker), deadline, upstream, idle_ns, under_way }
    }

    /// Relays until one side or we end it. `io` is the client's connection, of which `early` was read already.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        self: Box<Self>,
        io: S,
        early: Vec<u8>,
        notes: &WireNotes,
        draining: &mut watch::Receiver<bool>,
    ) {
        let Self { conversation, account, worker, deadline, upstream, idle_ns, under_way } = *self;
        let settings = worker.live();
        let most = settings.settings.max_body.min(MOST_MESSAGE);
        let grace = settings.settings.drain_timeout;
        let Opened { io: upstream_io, .. } = *upstream;
        let mut relay = Relay {
            conversation,
            account,
            client: Side::client(io, &early, most),
            upstream: Side::server(upstream_io, MOST_MESSAGE),
            share: Share::new(&worker),
            budget: settings.settings.body_budget,
            worker,
            deadline,
            idle_ns,
            idle_at_ns: 0,
            ends_at_ns: u64::MAX,
            is_draining: false,
            goodbye: Closing::default(),
        };
        relay.stir();
        let mut told = pin!(draining.wait_for(|draining| *draining));
        let mut last_call: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if !relay.is_draining && told.as_mut().poll(cx).is_ready() {
                relay.drain();
                last_call = Some(Box::pin(sleep(grace.saturating_sub(EARLY.min(grace / 2)))));
            }
            if last_call.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
                last_call = None;
                relay.end(1001, "going away", DRAINED);
            }
            // A client that takes nothing for too long.
            if notes.poll_cut(cx).is_ready() {
                relay.cut(CLIENT_GONE);
                return Poll::Ready(());
            }
            relay.poll(cx)
        })
        .await;
        relay.deadline.unwatch();
        relay.deadline.set_in(FAREWELL_NS);
        poll_fn(|cx| match relay.deadline.poll_due(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => {
                relay.client.write(cx);
                if relay.client.is_flushed_or_gone() { relay.client.poll_shutdown(cx) } else { Poll::Pending }
            }
        })
        .await;
        drop(relay);
        drop(under_way);
    }
}

/// A websocket under way.
struct Relay<S> {
    conversation: Conversation,
    account: Box<Account>,
    client: Side<S>,
    upstream: Side<TokioIo<Upgraded>>,
    share: Share,
    /// Bytes that all messages and bodies together may hold.
    budget: u64,
    worker: Rc<Worker>,
    deadline: Deadline,
    idle_ns: u64,
    idle_at_ns: u64,
    /// When whoever still has not said goodbye is left, once the end has begun.
    ends_at_ns: u64,
    is_draining: bool,
    /// What the client said when it closed.
    goodbye: Closing,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..MOST_ROUNDS {
            // Asked again after each: what is set anew must wake us, too, where both sides are silent.
            while let Poll::Ready(due) = self.deadline.poll_due(cx) {
                match due {
                    Due::Revoked(reason) => self.revoked(reason),
                    Due::TimeUp if self.is_left() => return Poll::Ready(()),
                    Due::TimeUp => {}
                }
            }
            self.client.write(cx);
            self.upstream.write(cx);
            if self.is_over() {
                return Poll::Ready(());
            }
            let mut moved = false;
            // One after the other, so that neither side starves the other.
            if self.upstream.has_room()
                && self.client.takes_words()
                && self.client.is_heard()
                && let Poll::Ready(got) = self.client.poll_item(cx)
            {
                moved = true;
                self.client_said(got);
            }
            if self.client.has_room()
                && self.upstream.takes_words()
                && self.upstream.is_heard()
                && let Poll::Ready(got) = self.upstream.poll_item(cx)
            {
                moved = true;
                self.upstream_said(got);
            }
            self.hold();
            if !moved {
                // What was put meanwhile is offered once; then it is the sockets that wake us.
                self.client.write(cx);
                self.upstream.write(cx);
                return if self.is_over() { Poll::Ready(()) } else { Poll::Pending };
            }
            self.stir();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Something came or the end began: the times begin anew.
    fn stir(&mut self) {
        self.idle_at_ns = self.deadline.now_ns().saturating_add(self.idle_ns);
        self.deadline.set_at(self.idle_at_ns.min(self.ends_at_ns));
    }

    fn is_ending(&self) -> bool {
        self.ends_at_ns != u64::MAX
    }

    fn begin_end(&mut self) {
        if !self.is_ending() {
            self.ends_at_ns = self.deadline.now_ns().saturating_add(FAREWELL_NS);
            self.stir();
        }
    }

    /// Whether everybody has said and taken what there was.
    fn is_over(&self) -> bool {
        let client =
            self.client.is_gone || (self.client.sent_close && self.client.got_close && self.client.is_flushed());
        let upstream = self.upstream.is_gone || (self.upstream.sent_close && self.upstream.is_flushed());
        self.is_ending() && client && upstream
    }

    /// The time is up: true when that is the end.
    fn is_left(&mut self) -> bool {
        if self.is_ending() {
            self.client.close(&self.goodbye);
            return true;
        }
        self.end(1001, "idle", IDLE);
        false
    }

    fn client_said(&mut self, got: Got) {
        match got {
            Got::Item(Item::Message { is_text: true, payload }) if !self.is_ending() => {
                match self.conversation.asked(&payload) {
                    Verdict::Pass(event) => self.upstream.put(Opcode::Text, &event),
                    Verdict::Refuse(event) => self.client.answer(Opcode::Text, &event),
                    Verdict::End(event) => {
                        self.client.put(Opcode::Text, &event);
                        self.end(1008, "the API key works no longer", CutReason::Disabled.as_str());
                    }
                    Verdict::Leave => self.end(1008, "too many messages were refused", REFUSED),
                }
            }
            // Events are text; what is not would go past the rules.
            Got::Item(Item::Message { is_text: false, .. }) => self.end(1003, "events are text", MALFORMED),
            Got::Item(Item::Message { .. }) => {}
            Got::Item(Item::Ping(payload)) => self.upstream.put(Opcode::Ping, &payload),
            Got::Item(Item::Pong(payload)) => self.upstream.put(Opcode::Pong, &payload),
            Got::Item(Item::Close(closing)) => {
                self.client.got_close = true;
                self.upstream.close(&closing);
                self.goodbye = closing;
                self.begin_end();
            }
            Got::Flaw(flaw) => self.end(flaw.code(), &flaw.to_string(), MALFORMED),
            Got::End => self.client_gone(),
        }
    }

    fn upstream_said(&mut self, got: Got) {
        match got {
            Got::Item(Item::Message { is_text, payload }) => {
                // Charged before the client has it.
                let interrupt = self.conversation.told(&payload);
                self.client.put(if is_text { Opcode::Text } else { Opcode::Binary }, &payload);
                if let Some(Interrupt { cancel, error, is_last }) = interrupt {
                    cancel.iter().for_each(|cancel| self.upstream.answer(Opcode::Text, cancel));
                    self.client.put(Opcode::Text, &error);
                    if is_last {
                        self.end(1008, "beyond the key's limits again and again", BEYOND);
                    }
                }
                if self.conversation.is_idle() && (self.is_draining || self.client.is_gone) {
                    self.end(1001, "going away", if self.is_draining { DRAINED } else { CLIENT_GONE });
                }
            }
            Got::Item(Item::Ping(payload)) if self.client.is_gone => self.upstream.answer(Opcode::Pong, &payload),
            Got::Item(Item::Ping(payload)) => self.client.put(Opcode::Ping, &payload),
            Got::Item(Item::Pong(payload)) => self.client.put(Opcode::Pong, &payload),
            Got::Item(Item::Close(closing)) => {
                self.upstream.got_close = true;
                self.upstream.close(&closing);
                self.client.close(&closing);
                self.cut_turns(if self.is_ending() { CLIENT_GONE } else { CutReason::Upstream.as_str() });
                self.begin_end();
            }
            Got::Flaw(flaw) => {
                tracing::warn!(error = %flaw, "upstream broke the websocket protocol");
                self.upstream.close(&Closing::new(flaw.code(), ""));
                self.upstream_broke(Some(flaw));
            }
            Got::End => self.upstream_broke(None),
        }
    }

    /// Without a goodbye: the client sees that it is no clean end.
    fn upstream_broke(&mut self, flaw: Option<Flaw>) {
        self.upstream.is_gone |= flaw.is_none();
        if self.client.got_close {
            // It had said goodbye first.
            self.client.close(&self.goodbye);
        }
        if !self.is_ending() {
            let event = dialect::of(self.conversation.dialect()).cut_event(ENDPOINT, CutReason::Upstream);
            self.client.put(Opcode::Text, &event);
        }
        self.end(1011, "upstream broke off", CutReason::Upstream.as_str());
    }

    fn client_gone(&mut self) {
        if self.is_ending() {
            return;
        }
        if self.conversation.reads_on() {
            self.note(CLIENT_GONE);
            return;
        }
        self.end(1001, "", CLIENT_GONE);
    }

    fn revoked(&mut self, reason: CutReason) {
        self.deadline.unwatch();
        if !self.is_ending() {
            let event = dialect::of(self.conversation.dialect()).cut_event(ENDPOINT, reason);
            self.client.put(Opcode::Text, &event);
            self.end(1008, "the API key works no longer", reason.as_str());
        }
    }

    fn drain(&mut self) {
        self.is_draining = true;
        if self.conversation.is_idle() {
            self.end(1001, "going away", DRAINED);
        }
    }

    /// Ends it on both sides, for `reason`; what is under way is charged as far as it came.
    fn end(&mut self, code: u16, words: &str, reason: &'static str) {
        if !self.is_ending() {
            self.note(reason);
        }
        self.cut_turns(reason);
        self.client.close(&Closing::new(code, words));
        self.upstream.close(&Closing::new(1001, ""));
        self.begin_end();
    }

    /// Nobody is told anything any more.
    fn cut(&mut self, reason: &'static str) {
        self.client.is_gone = true;
        self.note(reason);
        self.cut_turns(reason);
    }

    fn cut_turns(&mut self, reason: &'static str) {
        self.conversation.cut(reason);
    }

    /// Writes down why it ends; the first reason is the one.
    fn note(&mut self, reason: &'static str) {
        if self.account.line.cut.is_none() {
            self.account.line.cut = Some(reason);
            self.worker.plane.metrics.cuts.get_or_create(&Reason { reason }).inc();
        }
    }

    /// Counts what is held of messages, either way, among all bodies; where that is too much, it has to go.
    fn hold(&mut self) {
        let bytes = (self.client.held() + self.upstream.held()) / STEP * STEP;
        if let Err(Stop::Fault(Fault::Overloaded { retry_after_ns })) = self.share.hold(bytes, self.budget) {
            self.client.put(Opcode::Text, &realtime::fault(Fault::Overloaded { retry_after_ns }));
            self.end(1013, "try again later", OVERLOADED);
        }
    }
}
