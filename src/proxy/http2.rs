//! HTTP/2 towards clients, over TLS and, for whoever begins with it, in clear. h2 is the parser; here stand the bounds of what a connection may
//! hold, the strict edge for heads, the times of streams, and the watch on how the peer behaves.

pub mod conduct;
pub mod frames;
mod head;
mod stream;
mod watched;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, request};
use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::clock::NS_PER_SECOND;
use crate::dialect::route;
use crate::headers::RequestHead;
use crate::proxy::body::Arriving;
use crate::proxy::carrier::Carrier;
use crate::proxy::handle::handle;
use crate::proxy::plane::Worker;
use crate::proxy::wire::WireNotes;

use conduct::{Conduct, Misconduct};
pub use stream::StreamNotes;
use watched::Watched;

/// Requests at once on a connection.
const MAX_STREAMS: u32 = 100;
/// Bytes of a body that may come before it is read, of one stream and of all together.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that may wait for the client to take them, of one stream.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// The largest frame that is taken, bytes.
const MAX_FRAME: u32 = 16 * 1024;
/// The largest head, bytes as RFC 9113 6.5.2 counts them; h2 answers a larger one with a bare 431.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Streams that were reset before anybody saw them, and that h2 had to reset itself, before it ends the connection. (`conduct` is stricter over
/// time, and these over nothing.)
const MAX_UNSEEN_RESETS: usize = 20;
const MAX_OWN_RESETS: usize = 64;
/// How often a peer is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How long a peer that was told to go may begin streams: what was on its way, and what it sends until it has heard.
const GOODBYE_NS: u64 = 5 * NS_PER_SECOND;

/// What is noted about a connection, for all of its streams.
#[derive(Debug)]
pub struct ConnectionNotes {
    wire: Rc<WireNotes>,
    worker: Rc<Worker>,
    conduct: RefCell<Conduct>,
    /// Requests under way.
    running: Cell<usize>,
    write_stall_ns: u64,
    /// Set when the peer has done something too often: nothing more is taken from it.
    misconduct: Cell<Option<Misconduct>>,
    /// When the peer was told to go, nanoseconds of the monotonic clock.
    goodbye_ns: Cell<Option<u64>>,
}

impl ConnectionNotes {
    fn new(worker: &Rc<Worker>, wire: &Rc<WireNotes>) -> Rc<Self> {
        let stall = worker.plane.live.load().settings.write_stall_timeout;
        Rc::new(Self {
            wire: Rc::clone(wire),
            conduct: RefCell::new(Conduct::new(worker.plane.clock.monotonic_ns())),
            worker: Rc::clone(worker),
            running: Cell::new(0),
            write_stall_ns: u64::try_from(stall.as_nanos()).unwrap_or(u64::MAX),
            misconduct: Cell::new(None),
            goodbye_ns: Cell::new(None),
        })
    }

    /// A request has been read up to its body: the connection is not idle.
    pub fn request_began(&self) {
        self.running.set(self.running.get() + 1);
        self.wire.request_began();
    }

    /// An answer has ended; with the last of them the connection is idle.
    pub fn request_ended(&self) {
        self.running.set(self.running.get().saturating_sub(1));
        if self.running.get() == 0 {
            self.wire.request_ended();
        }
    }

    /// Ready when the peer has taken what the connection last offered.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.poll_room(cx)
    }

    /// Whether the peer takes nothing at all.
    pub fn is_stalled(&self) -> bool {
        self.wire.is_stalled()
    }

    /// How long a client may leave a piece of an answer waiting, nanoseconds.
    pub fn write_stall_ns(&self) -> u64 {
        self.write_stall_ns
    }

    /// The head of a request was refused at the edge.
    fn head_refused(&self) {
        // Whoever goes on is met at its next frame.
        let _ = self.judge(|conduct, now_ns| conduct.head_refused(now_ns));
    }

    fn said_goodbye(&self) {
        if self.goodbye_ns.get().is_none() {
            self.goodbye_ns.set(Some(self.worker.plane.clock.monotonic_ns()));
        }
    }

    /// A stream has begun. What was on its way when the peer was told to go is served. Whoever acknowledges nothing could go on for as long as
    /// another stream runs, by keys and quotas that are another process's by then.
    fn stream_began(&self) {
        if let Some(goodbye_ns) = self.goodbye_ns.get() {
            let is_late = |now_ns: u64| now_ns.saturating_sub(goodbye_ns) > GOODBYE_NS;
            // It is met at its next frame.
            let _ = self.judge(|_, now_ns| if is_late(now_ns) { Err(Misconduct::Stays) } else { Ok(()) });
        }
    }

    fn received(&self, bytes: &[u8]) -> Result<(), Misconduct> {
        self.judge(|conduct, now_ns| conduct.receive(bytes, now_ns))?;
        match self.conduct.borrow().head_is_open() {
            true => self.wire.head_began(),
            false => self.wire.head_ended(),
        }
        Ok(())
    }

    fn sent(&self, bytes: &[u8]) -> Result<(), Misconduct> {
        self.judge(|conduct, now_ns| conduct.send(bytes, now_ns))
    }

    fn judge(&self, look: impl FnOnce(&mut Conduct, u64) -> Result<(), Misconduct>) -> Result<(), Misconduct> {
        if let Some(misconduct) = self.misconduct.get() {
            return Err(misconduct);
        }
        let plane = &self.worker.plane;
        look(&mut self.conduct.borrow_mut(), plane.clock.monotonic_ns()).inspect_err(|misconduct| {
            self.misconduct.set(Some(*misconduct));
            plane.metrics.edge.count_misconduct(misconduct.as_str());
        })
    }
}

/// Serves one connection to its end; `start` was read from `line` already.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    (start, line): (Vec<u8>, impl AsyncRead + AsyncWrite + Unpin + 'static),
    peer: SocketAddr,
    wire: &Rc<WireNotes>,
    draining: &mut watch::Receiver<bool>,
) {
    let notes = ConnectionNotes::new(worker, wire);
    let io = TokioIo::new(Watched::new(start, line, Rc::clone(&notes)));
    let newest = Rc::new(Cell::new(None));
    let asked = Cell::new(false);
    let service = service_fn(|request| {
        asked.set(true);
        notes.stream_began();
        answer(worker, &notes, peer, request, &newest)
    });
    let mut serving = pin!(builder(Spawner { newest: Rc::clone(&newest) }).serve_connection(io, service));
    let mut is_draining = pin!(draining.wait_for(|draining| *draining));
    let (mut told, mut announced, mut parting) = (false, false, false);
    let outcome = poll_fn(|cx| {
        if !told && is_draining.as_mut().poll(cx).is_ready() {
            told = true;
            notes.said_goodbye();
            serving.as_mut().graceful_shutdown();
        }
        // What has arrived is read before it is judged to be late.
        if let Poll::Ready(ended) = serving.as_mut().poll(cx) {
            return Poll::Ready(ended.map_err(|error| tracing::debug!(%error, %peer, "client connection ended")));
        }
        // No answer over HTTP/2 can say that it is the last, so the connection does. Not before a first request: hyper would drop it unheard.
        if !announced && asked.get() && worker.plane.is_draining.load(Ordering::Relaxed) {
            announced = true;
            notes.said_goodbye();
            serving.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        // A peer that was told to go and has nothing to wait for is not waited for.
        if told && !parting && notes.running.get() == 0 {
            parting = true;
            wire.farewell();
        }
        match wire.poll_cut(cx) {
            Poll::Pending if !wire.head_is_overdue() => Poll::Pending,
            Poll::Ready(()) if !parting && !wire.is_stalled() && !wire.head_is_overdue() => {
                parting = true;
                wire.farewell();
                serving.as_mut().graceful_shutdown();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending | Poll::Ready(()) => Poll::Ready(Err(())),
        }
    })
    .await;
    if outcome.is_err() {
        tracing::trace!(%peer, "connection cut");
    }
}

fn builder(spawner: Spawner) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(spawner);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE);
    builder
}

type Newest = Rc<Cell<Option<Rc<StreamNotes>>>>;

/// Answers the request of one stream, which is `newest` until its task is made.
fn answer(
    worker: &Rc<Worker>,
    notes: &Rc<ConnectionNotes>,
    peer: SocketAddr,
    request: Request<Incoming>,
    newest: &Newest,
) -> impl Future<Output = Result<http::Response<stream::StreamBody>, Infallible>> + 'static {
    let (request::Parts { method, uri, version, headers, .. }, body) = request.into_parts();
    let mut head = Box::new(RequestHead { method, target: uri.into(), version, headers: headers.into() });
    let flaw = head::check(&head, !body.is_end_stream()).err();
    let flaw = flaw.map(|flaw| (flaw, route::nearest(head.target.path(), &head.headers)));
    head::set_host(&mut head);
    let is_head = head.method == Method::HEAD;
    let stream = StreamNotes::new(flaw, worker.deadlines.register(), Rc::clone(notes));
    newest.set(Some(Rc::clone(&stream)));
    let carrier = Carrier::Stream(Rc::clone(&stream));
    let answering = handle(Rc::clone(worker), carrier, peer.ip(), None, head, Arriving::Http2(body));
    async move { Ok(stream::answer(answering.await, stream, is_head)) }
}

/// Makes a task of every stream, on the worker's own thread, under the stream's own times.
#[derive(Clone)]
struct Spawner {
    newest: Newest,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Spawner {
    fn execute(&self, answering: F) {
        match self.newest.take() {
            Some(stream) => tokio::task::spawn_local(stream::until_cut(stream, answering)),
            None => tokio::task::spawn_local(answering),
        };
    }
}
