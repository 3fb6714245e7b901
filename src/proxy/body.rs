//! Reading a request's body: bounded in size, in time and in what all bodies together may hold.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use hyper::body::Incoming;

use crate::clock::{NS_PER_SECOND, Now};
use crate::policy::{BodyFlaw, Fault, Refusal};
use crate::proxy::answer::Stop;
use crate::proxy::deadline::Deadline;
use crate::proxy::http1;
use crate::proxy::plane::{Plane, Worker};
use crate::proxy::settings::Settings;

/// When to come back when all bodies together are too much.
const BUDGET_RETRY_NS: u64 = NS_PER_SECOND;
/// How many times what has arrived is set aside at once for a body of known length: a length that is only told costs nothing.
const FORESIGHT: usize = 4;

/// A request's body on its way, by either protocol.
#[derive(Debug)]
pub enum Arriving {
    /// On a connection of its own.
    Http1(http1::Body),
    /// On a stream.
    Http2(Incoming),
}

/// A body that ended before its end.
#[derive(Debug)]
struct Broken;

impl Arriving {
    /// How long it is, where its head says so.
    fn declared(&self) -> Option<u64> {
        match self {
            Self::Http1(body) => body.declared(),
            Self::Http2(body) => body.size_hint().exact(),
        }
    }

    /// Whether nothing more is to come.
    fn is_over(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_over(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    /// The next of its content, which is never empty; `None` at its end. Trailers are dropped.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let body = match self {
            Self::Http1(body) => return body.poll_data(cx).map_err(|_| Broken),
            Self::Http2(body) => body,
        };
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(Broken))),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}

/// A body held in memory; its share of the budget is given back when this is dropped.
#[derive(Debug)]
pub struct HeldBody {
    /// The body, whole.
    pub bytes: Bytes,
    /// When all of it was there.
    pub whole_at: Now,
    share: Share,
}

impl HeldBody {
    /// Holds `bytes`, made of the body, in its place. What they are longer is counted too, even beyond the budget: the request is
    /// paid for, and it is a few bytes.
    pub fn replace(&mut self, bytes: Bytes) {
        let (old, new) = (self.bytes.len() as u64, bytes.len() as u64);
        self.bytes = bytes;
        self.share.resize(self.share.bytes.saturating_sub(old) + new);
    }

    /// Counts `original` and, where that is a copy, what was made of it to be `sent`. As in [`HeldBody::replace`], whatever the budget.
    pub fn count_both(&mut self, original: &Bytes, sent: &Bytes) {
        let is_copy = original.as_ptr() != sent.as_ptr();
        self.share.resize(original.len() as u64 + if is_copy { sent.len() as u64 } else { 0 });
    }
}

/// What somebody holds of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    worker: Rc<Worker>,
    bytes: u64,
}

impl Share {
    /// Of nothing.
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        Self { worker: Rc::clone(worker), bytes: 0 }
    }

    /// Holds `bytes` from now on.
    ///
    /// # Errors
    /// [`Fault::Overloaded`]; as much is held as before.
    pub(super) fn hold(&mut self, bytes: u64, limit: u64) -> Result<(), Stop> {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes, limit);
        }
        if bytes < self.bytes {
            self.resize(bytes);
        }
        Ok(())
    }

    fn grow(&mut self, bytes: u64, limit: u64) -> Result<(), Stop> {
        if !self.worker.plane.body_budget.take(bytes, limit) {
            return Err(Stop::Fault(Fault::Overloaded { retry_after_ns: BUDGET_RETRY_NS }));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Counts `bytes` from now on, whatever the limit.
    fn resize(&mut self, bytes: u64) {
        self.worker.plane.body_budget.change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.worker.plane.body_budget.change(self.bytes, 0);
    }
}

/// Reads the body whole, which may come since `began`. Its declared length is checked before a byte is read.
///
/// # Errors
/// [`Refusal::BodyTooLarge`], [`Refusal::BodyTooSlow`], [`BodyFlaw::Incomplete`], or [`Fault::Overloaded`].
pub async fn read(
    worker: &Rc<Worker>,
    settings: &Settings,
    (deadline, began): (&Deadline, Now),
    mut body: Arriving,
) -> Result<HeldBody, Stop> {
    let declared = body.declared();
    let too_large = Stop::Refusal(Refusal::BodyTooLarge { limit: settings.max_body });
    if declared.is_some_and(|length| length > settings.max_body) {
        return Err(too_large);
    }
    let mut share = Share::new(worker);
    let pace = Pace::new(began, settings);
    // What is there already takes no time.
    let mut has_waited = false;
    let mut gathered = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while !body.is_over() {
        let received = share.bytes;
        let wait = || {
            has_waited = true;
            pace.due_ns(deadline.now_ns(), received)
        };
        let Some(data) = next(&mut body, deadline, wait).await? else { break };
        let length = share.bytes + data.len() as u64;
        if length > settings.max_body {
            return Err(too_large);
        }
        share.grow(data.len() as u64, settings.body_budget)?;
        if has_waited {
            pace.check(&worker.plane, length)?;
        }
        match (first.take(), gathered.is_empty()) {
            (None, true) => first = Some(data), // a body that came in one piece is never copied
            (Some(start), _) => {
                let expected = declared.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                let arrived = start.len() + data.len();
                gathered.reserve(expected.min(arrived * FORESIGHT).max(arrived));
                gathered.extend_from_slice(&start);
                gathered.extend_from_slice(&data);
            }
            (None, false) => gathered.extend_from_slice(&data),
        }
    }
    if has_waited {
        deadline.clear();
    }
    let bytes = first.unwrap_or_else(|| gathered.freeze());
    let whole_at = if has_waited { worker.plane.clock.now() } else { began };
    Ok(HeldBody { bytes, whole_at, share })
}

/// The next data. `wait` says until when it is waited for, once it has to be.
async fn next(body: &mut Arriving, deadline: &Deadline, wait: impl FnOnce() -> u64) -> Result<Option<Bytes>, Stop> {
    let mut wait = Some(wait);
    poll_fn(|cx| {
        let Poll::Ready(data) = body.poll_data(cx) else {
            if let Some(wait) = wait.take() {
                deadline.set_at(wait());
            }
            return deadline.poll_due(cx).map(|_| Err(Stop::Refusal(Refusal::BodyTooSlow)));
        };
        let data = data.transpose();
        Poll::Ready(data.map_err(|Broken| Stop::Refusal(Refusal::Body(BodyFlaw::Incomplete))))
    })
    .await
}

/// The slowest a body may come.
struct Pace {
    began_ns: u64,
    idle_ns: u64,
    min_rate: u64,
}

impl Pace {
    fn new(began: Now, settings: &Settings) -> Self {
        Self {
            began_ns: began.monotonic_ns,
            idle_ns: u64::try_from(settings.body_idle_timeout.as_nanos()).unwrap_or(u64::MAX),
            min_rate: settings.body_min_rate,
        }
    }

    /// When the body will have been silent for too long, or too slow for what has come of it, if nothing more comes.
    fn due_ns(&self, now_ns: u64, received: u64) -> u64 {
        let too_slow_in = (received / self.min_rate.max(1) + 1).saturating_mul(NS_PER_SECOND).max(self.idle_ns);
        now_ns.saturating_add(self.idle_ns).min(self.began_ns.saturating_add(too_slow_in))
    }

    /// A byte every ten seconds keeps the idle time happy for ever; the rate over all of it does not.
    fn check(&self, plane: &Plane, received: u64) -> Result<(), Stop> {
        let elapsed_ns = plane.clock.monotonic_ns().saturating_sub(self.began_ns);
        let due = u128::from(self.min_rate) * u128::from(elapsed_ns / NS_PER_SECOND);
        if elapsed_ns > self.idle_ns && u128::from(received) < due {
            return Err(Stop::Refusal(Refusal::BodyTooSlow));
        }
        Ok(())
    }
}
