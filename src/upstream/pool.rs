//! One worker's idle connections to upstreams. Thread-local: no lock, and a request stays on the core that read it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;

use crate::clock::{Clock, NS_PER_SECOND};
use crate::upstream::client::Whole;

/// A connection idle for longer is dropped: backends commonly close theirs after 5 s to 75 s, and a request sent into a
/// closing connection is lost. hyper notices a close at once, so only the flight time is at risk.
const IDLE_NS: u64 = 15 * NS_PER_SECOND;
/// Idle connections kept for one endpoint.
const IDLE_MAX: usize = 256;

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
    /// Requests under way, by endpoint number: the least loaded endpoint is chosen.
    outstanding: RefCell<HashMap<u64, Rc<Cell<usize>>>>,
    /// How TLS is spoken to upstreams.
    pub tls: Arc<ClientConfig>,
    /// The time.
    pub clock: Clock,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since_ns: u64,
}

/// A connection to an upstream; dropping it closes it at once. It has no task of its own: whoever waits for its answer drives it
/// along, so that nobody has to be woken to hand a byte over, and all that has come is passed on in one go. What is idle is driven by
/// nobody, and is looked at when it is taken.
pub struct Connection {
    sender: SendRequest<Whole>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
}

/// What reads and writes a connection's wire.
pub type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_open", &self.driver.is_some()).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection that was just made.
    pub fn new(sender: SendRequest<Whole>, driver: Driver) -> Self {
        Self { sender, driver: Some(driver) }
    }

    /// Sends `request` and waits for the head of its answer.
    ///
    /// # Errors
    /// hyper's own, with the request where nothing of it was sent.
    pub async fn send(&mut self, request: Request<Whole>) -> Result<Response<Incoming>, TrySendError<Request<Whole>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            drive(driver, cx);
            // What it waits for comes about in the line above and nowhere else, so it has nobody to wake.
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Reads and writes what can be read and written now; the task of `cx` is woken when there is more.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether it is open and waits for a request, as far as can be seen now.
    fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && let Poll::Ready(ended) = running.as_mut().poll(cx)
    {
        *driver = None;
        // An error here reaches whoever waits for the answer or reads its body.
        if let Err(error) = ended {
            tracing::debug!(%error, "upstream connection ended");
        }
    }
}

impl Pool {
    /// Without a connection.
    pub fn new(tls: Arc<ClientConfig>, clock: Clock) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), outstanding: RefCell::default(), tls, clock })
    }

    /// The connection of `endpoint` that was used last and is still open.
    pub fn take(&self, endpoint: u64) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(&endpoint)?;
        while let Some(mut candidate) = stack.pop() {
            if candidate.connection.is_free() {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer has been read to its end. One that is not ready then is closing, or its backend answered
    /// without reading the whole request and may never do so: the next request would wait behind that.
    pub fn give_back(&self, endpoint: u64, mut connection: Connection) {
        if !connection.is_free() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(endpoint).or_default();
        if stack.len() < IDLE_MAX {
            stack.push(Idle { connection, since_ns: self.clock.monotonic_ns() });
        }
    }

    /// Drops what was idle for too long or was closed by its peer.
    pub fn sweep(&self) {
        let now_ns = self.clock.monotonic_ns();
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|idle| now_ns.saturating_sub(idle.since_ns) < IDLE_NS && idle.connection.is_free());
            !stack.is_empty()
        });
        self.outstanding.borrow_mut().retain(|_, count| count.get() > 0 || Rc::strong_count(count) > 1);
    }

    /// Idle connections, all endpoints together.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// Requests under way at `endpoint`.
    pub fn outstanding(&self, endpoint: u64) -> usize {
        self.outstanding.borrow().get(&endpoint).map_or(0, |count| count.get())
    }

    /// Requests under way, all endpoints together.
    pub fn outstanding_count(&self) -> usize {
        self.outstanding.borrow().values().map(|count| count.get()).sum()
    }

    /// Counts a request at `endpoint` until the guard is dropped.
    pub fn count(&self, endpoint: u64) -> Counted {
        let count = Rc::clone(self.outstanding.borrow_mut().entry(endpoint).or_default());
        count.set(count.get() + 1);
        Counted(count)
    }
}

/// One request under way.
#[derive(Debug)]
pub struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Holds a connection while its answer is read; back to the pool only when that was read to its end.
#[derive(Debug)]
pub struct Lease {
    pool: Rc<Pool>,
    endpoint: u64,
    connection: Option<Connection>,
    _counted: Counted,
}

impl Lease {
    /// Of a connection that has just answered.
    pub fn new(pool: Rc<Pool>, endpoint: u64, connection: Connection, counted: Counted) -> Self {
        Self { pool, endpoint, connection: Some(connection), _counted: counted }
    }

    /// Drives the connection along; see [`Connection::drive`].
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection {
            connection.drive(cx);
        }
    }

    /// The answer was read to its end: the connection may be used again.
    pub fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.give_back(self.endpoint, connection);
        }
    }
}
