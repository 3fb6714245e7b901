//! One worker's idle connections to upstreams. Thread-local: no lock, and a request stays on the core that read it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock::{Clock, NS_PER_SECOND};
use crate::upstream::multiplex::Trunks;
use crate::upstream::request::Whole;
use crate::upstream::retry::Dice;
use crate::upstream::tls::Defaults;

/// A connection idle for longer is dropped: backends commonly close theirs after 5 s to 75 s, and a request sent into a
/// closing connection is lost. hyper notices a close at once, so only the flight time is at risk.
const IDLE_NS: u64 = 15 * NS_PER_SECOND;
/// Idle connections kept for one endpoint.
const IDLE_MAX: usize = 256;
/// Read buffer of an upstream connection, bytes at most: bounds what one slow client can make us hold.
const READ_BUFFER_MAX: usize = 64 * 1024;

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
    /// Connections that take many requests at once.
    pub trunks: Trunks,
    /// Requests of this worker under way at upstreams.
    pub in_flight: Cell<usize>,
    /// How TLS is spoken to upstreams that say nothing of it.
    pub tls: Defaults,
    /// The time.
    pub clock: Clock,
    /// Chance, where it is needed: so that not all come back at once.
    pub dice: Dice,
    /// Where a test's connections come from instead of the network.
    #[cfg(test)]
    pub script: RefCell<Option<Rc<super::client::tests::Script>>>,
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
    /// When it is not to be used any more, nanoseconds of the monotonic clock.
    until_ns: u64,
}

/// What reads and writes a connection's wire.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_open", &self.driver.is_some()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Begins HTTP/1.1 on `stream`, for requests until `until_ns`.
    ///
    /// # Errors
    /// hyper's own.
    pub async fn handshake<S>(stream: S, until_ns: u64) -> std::io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(READ_BUFFER_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), until_ns })
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
    pub fn new(tls: &Arc<ClientConfig>, clock: Clock) -> Rc<Self> {
        // As random as the standard library's own tables: it only spreads things out.
        let seed = RandomState::new().hash_one(clock.monotonic_ns());
        Rc::new(Self {
            idle: RefCell::default(),
            trunks: Trunks::default(),
            in_flight: Cell::new(0),
            tls: Defaults::new(tls),
            clock,
            dice: Dice::new(seed),
            #[cfg(test)]
            script: RefCell::default(),
        })
    }

    /// When a connection made at `now_ns` is over: those that were made together end one after another, in the last eighth of their
    /// time.
    pub fn end_of_life(&self, lifetime: Duration, now_ns: u64) -> u64 {
        let whole_ns = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
        let spread_ns = self.dice.roll() % (whole_ns / 8 + 1);
        now_ns.saturating_add(whole_ns - spread_ns)
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
        let now_ns = self.clock.monotonic_ns();
        if now_ns >= connection.until_ns || !connection.is_free() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(endpoint).or_default();
        if stack.len() < IDLE_MAX {
            stack.push(Idle { connection, since_ns: now_ns });
        }
    }

    /// Drops what was idle for too long or was closed by its peer.
    pub fn sweep(&self) {
        let now_ns = self.clock.monotonic_ns();
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|idle| {
                let is_young = now_ns.saturating_sub(idle.since_ns) < IDLE_NS && now_ns < idle.connection.until_ns;
                is_young && idle.connection.is_free()
            });
            !stack.is_empty()
        });
        self.trunks.sweep(IDLE_NS, now_ns);
    }

    /// Idle connections, all endpoints together.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum::<usize>() + self.trunks.idle_count()
    }
}
