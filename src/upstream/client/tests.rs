//! Retries and health from end to end, with a clock that stands still and backends that are scripts in memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::LocalSet;
use tokio::time::Sleep;

use super::*;
use crate::clock::{Clock, Now};
use crate::headers::Headers;
use crate::policy::DialectName;
use crate::upstream::connect::Stream;
use crate::upstream::settings::{Address, Credential, Kind, Target, UpstreamSettings};
use crate::upstream::tls;

/// What a backend does with the next connection to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Takes no connection.
    Refuse,
    /// Never has one ready.
    Stall,
    /// Answers with this status, and goes on with what is next on the same connection.
    Say(u16),
    /// Reads the request and says nothing.
    Hang,
    /// Reads the request and breaks off.
    Break,
    /// Breaks off before it has read a byte.
    Close,
    /// Reads so many pieces of the request, each after 50 seconds, and answers another 59 later; where that was not all of it, never.
    Crawl(usize),
}

const PIECE: usize = 32 * 1024;

type Acts = Rc<RefCell<VecDeque<Act>>>;

/// Where a test's connections come from: what each endpoint does, by its port, and what it was asked.
#[derive(Debug, Default)]
pub struct Script {
    acts: RefCell<Vec<(u16, Acts)>>,
    asked: Rc<RefCell<Vec<u16>>>,
    opened: Cell<usize>,
}

impl Script {
    fn of(&self, port: u16) -> Acts {
        let mut acts = self.acts.borrow_mut();
        if let Some((_, acts)) = acts.iter().find(|(own, _)| *own == port) {
            return Rc::clone(acts);
        }
        let own = Acts::default();
        acts.push((port, Rc::clone(&own)));
        own
    }

    fn then(&self, port: u16, acts: &[Act]) {
        self.of(port).borrow_mut().extend(acts);
    }

    /// A stream to `endpoint`, as its script has it; one without a script answers.
    pub async fn open(&self, endpoint: &Endpoint) -> std::io::Result<Opened> {
        let port = endpoint.address.port;
        let acts = self.of(port);
        self.opened.set(self.opened.get() + 1);
        let first = acts.borrow().front().copied();
        if let Some(act @ (Act::Refuse | Act::Stall)) = first {
            acts.borrow_mut().pop_front();
            if act == Act::Stall {
                std::future::pending::<()>().await;
            }
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn_local(serve(theirs, port, acts, Rc::clone(&self.asked)));
        Ok(Opened { stream: Stream::Script(ours), is_http2: false })
    }
}

async fn serve(mut stream: DuplexStream, port: u16, acts: Acts, asked: Rc<RefCell<Vec<u16>>>) {
    loop {
        if acts.borrow().front() == Some(&Act::Close) {
            acts.borrow_mut().pop_front();
            return;
        }
        let first = acts.borrow().front().copied();
        if let Some(Act::Crawl(pieces)) = first {
            acts.borrow_mut().pop_front();
            return crawl(stream, pieces).await;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"{}") {
            let mut byte = [0; 1];
            if stream.read_exact(&mut byte).await.is_err() {
                return;
            }
            head.extend(byte);
        }
        asked.borrow_mut().push(port);
        let act = acts.borrow_mut().pop_front();
        match act.unwrap_or(Act::Say(200)) {
            Act::Say(status) => {
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            Act::Hang => std::future::pending().await,
            _ => return,
        }
    }
}

async fn crawl(mut stream: DuplexStream, pieces: usize) {
    let (mut piece, mut last) = (vec![0; PIECE], 0);
    for _ in 0..pieces {
        sleep(Duration::from_secs(50)).await;
        let mut filled = 0;
        while filled < PIECE && last != b'}' {
            let Ok(count @ 1..) = stream.read(&mut piece[filled..]).await else { return };
            filled += count;
            last = piece[filled - 1];
        }
    }
    if last != b'}' {
        std::future::pending::<()>().await;
    }
    sleep(Duration::from_secs(59)).await;
    let _ = stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n").await;
}

/// A worker's pool, an upstream of endpoints with the ports 1, 2 ..., and their script.
struct House {
    pool: Rc<Pool>,
    upstream: Held,
    script: Rc<Script>,
}

fn settings(endpoints: u16) -> UpstreamSettings {
    let target = |port: u16| {
        let authority = format!("h:{port}").parse().unwrap();
        let address = Address { tls: false, authority, host: "h".into(), port, prefix: "".into() };
        Target { address, weight: 1 }
    };
    UpstreamSettings {
        kind: Kind::Http(DialectName::OpenAi),
        urls: (1..=endpoints).map(target).collect(),
        first_byte_timeout: Duration::from_secs(60),
        retries: 1,
        ..UpstreamSettings::sandbox()
    }
}

fn house(settings: UpstreamSettings) -> House {
    let clock = Clock::manual(Now { monotonic_ns: NS_PER_SECOND, unix_ms: 0 });
    let pool = Pool::new(&tls::client_config().unwrap(), clock);
    let script = Rc::new(Script::default());
    *pool.script.borrow_mut() = Some(Rc::clone(&script));
    House { pool, upstream: Rc::new(Arc::new(Upstream::new(settings).unwrap())), script }
}

/// A timer of the runtime's, whose time stands still.
#[derive(Default)]
struct Timer(RefCell<Option<Pin<Box<Sleep>>>>);

impl Alarm for Timer {
    fn set_in(&self, time: Duration) {
        *self.0.borrow_mut() = Some(Box::pin(sleep(time)));
    }

    fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().as_mut().expect("it is set").as_mut().poll(cx)
    }
}

const ALONE: Leave = Leave { to_repeat: true, to_insist: true };

fn outgoing() -> Box<Outgoing> {
    Box::new(Outgoing {
        method: Method::POST,
        path_and_query: "/v1/x".to_owned(),
        headers: Headers::new(),
        body: Bytes::from_static(b"{}"),
        plain_headers: None,
    })
}

impl House {
    async fn send(&self) -> Result<StatusCode, (Fault, bool)> {
        self.send_this(outgoing()).await
    }

    async fn send_this(&self, outgoing: Box<Outgoing>) -> Result<StatusCode, (Fault, bool)> {
        let limit = Limit::of(&self.upstream);
        let sent = send(&self.pool, &self.upstream, outgoing, limit, ALONE, &Timer::default()).await;
        let told = |failure: Failure| match failure.answer {
            Some(answer) => Ok(answer.head.status),
            None => Err((failure.fault, failure.unsent.is_some())),
        };
        sent.map_or_else(told, |answered| Ok(answered.head.status))
    }

    fn asked(&self) -> Vec<u16> {
        std::mem::take(&mut *self.script.asked.borrow_mut())
    }

    fn pass(&self, seconds: u64) {
        self.pool.clock.advance_ns(seconds * NS_PER_SECOND);
    }

    /// Nothing is counted as under way.
    fn is_quiet(&self) {
        assert_eq!(self.pool.in_flight.get(), 0);
        assert!((0..self.upstream.endpoints.len()).all(|index| self.upstream.health.outstanding(index) == 0));
    }
}

/// Runs a test with tokio's clock standing still: it moves on only when nothing else is left to do, and then to the next timer.
fn still<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

const OK: Result<StatusCode, (Fault, bool)> = Ok(StatusCode::OK);

#[test]
fn a_refused_connection_is_tried_elsewhere_and_told_when_nobody_is_left() {
    still(async {
        let house = house(settings(2));
        house.script.then(1, &[Act::Refuse]);
        assert_eq!((house.send().await, house.asked()), (OK, vec![2]));
        let house = self::house(settings(2));
        house.script.then(1, &[Act::Refuse]);
        house.script.then(2, &[Act::Refuse]);
        let told = house.send().await;
        assert_eq!(told, Err((Fault::UpstreamUnreachable, true)));
        house.is_quiet();
    });
}

fn large() -> Box<Outgoing> {
    let body = [vec![b' '; 10 * PIECE], b"{}".to_vec()].concat();
    Box::new(Outgoing { body: body.into(), ..*outgoing() })
}

/// Two pieces stand between the two.
#[test]
fn whoever_takes_a_large_request_steadily_is_not_late_and_whoever_stops_is() {
    let first_byte_timeout = Duration::from_secs(160);
    for (pieces, expected, seconds) in [
        (11, OK, 11 * 50 + 59..11 * 50 + 60),
        (4, Err((Fault::UpstreamTimeout, false)), 4 * 50 + 160..4 * 50 + 181),
        (0, Err((Fault::UpstreamTimeout, false)), 160..181),
    ] {
        still(async {
            let house = house(UpstreamSettings { retries: 0, first_byte_timeout, ..settings(1) });
            house.script.then(1, &[Act::Crawl(pieces)]);
            let began = Instant::now();
            assert_eq!(house.send_this(large()).await, expected);
            assert!(seconds.contains(&began.elapsed().as_secs()), "{pieces} pieces: {:?}", began.elapsed());
            house.is_quiet();
        });
    }
}

#[test]
fn no_time_of_all_attempts_together_is_passed_by_a_large_request_that_is_taken() {
    still(async {
        let request_timeout = Some(Duration::from_secs(170));
        let health = crate::upstream::HealthSettings { eject_after: 1, ..settings(1).health };
        let house = house(UpstreamSettings { retries: 0, request_timeout, health, ..settings(1) });
        house.script.then(1, &[Act::Crawl(11)]);
        let began = Instant::now();
        let sent = house.send_this(large()).await;
        assert_eq!((sent, began.elapsed().as_secs()), (Err((Fault::UpstreamTimeout, false)), 170));
        assert!(house.upstream.health.is_whole());
    });
}

#[test]
fn a_connection_that_was_closed_between_requests_costs_nothing() {
    still(async {
        let house = house(UpstreamSettings { retries: 0, ..settings(1) });
        for _ in 0..20 {
            house.script.then(1, &[Act::Say(200), Act::Close]);
            assert_eq!(house.send().await, OK);
            tokio::task::yield_now().await;
        }
        assert_eq!((house.script.opened.get(), house.asked().len()), (20, 20));
        assert!(house.upstream.health.is_whole());
    });
}

#[test]
fn what_may_have_been_read_is_sent_to_nobody_else() {
    still(async {
        for (act, fault) in [(Act::Break, Fault::UpstreamBroken), (Act::Hang, Fault::UpstreamTimeout)] {
            let house = house(UpstreamSettings { retries: 5, ..settings(3) });
            house.script.then(1, &[act]);
            let began = Instant::now();
            assert_eq!((house.send().await, house.asked()), (Err((fault, false)), vec![1]));
            let waits = if act == Act::Hang { 60 } else { 0 };
            assert_eq!(began.elapsed().as_secs(), waits, "the first byte has its time, to the tick");
            house.is_quiet();
        }
    });
}

#[test]
fn an_endpoint_that_fails_is_left_alone_and_comes_back_by_one_request() {
    still(async {
        let house = house(settings(2));
        house.script.then(1, &[Act::Refuse; 5]);
        for _ in 0..10 {
            assert_eq!(house.send().await, OK, "every one of them is served by the other");
        }
        assert!(house.upstream.health.is_ejected(0));
        let opened = house.script.opened.get();
        for _ in 0..10 {
            assert_eq!(house.send().await, OK);
        }
        assert_eq!(house.script.opened.get(), opened, "nobody knocks there");
        house.asked();
        house.pass(10);
        house.script.then(1, &[Act::Hang]);
        let mut hanging = Box::pin(house.send());
        assert!(timeout(Duration::from_secs(1), &mut hanging).await.is_err(), "one tries");
        for _ in 0..5 {
            assert_eq!(house.send().await, OK, "and one alone");
        }
        drop(hanging);
        assert_eq!(house.asked(), [1, 2, 2, 2, 2, 2]);
        assert_eq!((house.send().await, house.asked()), (OK, vec![1]), "a client that goes says nothing of it");
        assert!(house.upstream.health.is_whole());
        house.is_quiet();
    });
}

#[test]
fn timeouts_eject_and_clients_that_go_do_not() {
    still(async {
        let house = house(settings(2));
        for _ in 0..20 {
            house.script.then(1, &[Act::Hang]);
            house.script.then(2, &[Act::Hang]);
            assert!(timeout(Duration::from_secs(1), house.send()).await.is_err());
        }
        assert!(house.upstream.health.is_whole(), "twenty clients went");
        while house.upstream.health.is_whole() {
            house.script.of(1).borrow_mut().clear();
            house.script.of(2).borrow_mut().clear();
            house.script.then(1, &[Act::Hang]);
            let _ = house.send().await;
        }
        assert!(house.upstream.health.is_ejected(0) && !house.upstream.health.is_ejected(1));
    });
}

#[test]
fn an_upstreams_own_errors_never_eject_it() {
    still(async {
        let house = house(settings(1));
        for status in [400, 401, 404, 413, 429, 500, 502, 503, 504].repeat(3) {
            house.script.then(1, &[Act::Say(status)]);
            assert_eq!(house.send().await.unwrap().as_u16(), status, "it is passed on as it is");
        }
        assert!(house.upstream.health.is_whole());
        assert_eq!(house.asked().len(), 27, "and nothing is tried again");
    });
}

#[test]
fn answers_that_mean_nothing_was_done_are_tried_again_where_the_operator_says_so() {
    still(async {
        let retry_on = vec![StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let house = house(UpstreamSettings { retries: 2, retry_on, ..settings(1) });
        house.script.then(1, &[Act::Say(429), Act::Say(503)]);
        let began = Instant::now();
        assert_eq!((house.send().await, house.asked()), (OK, vec![1, 1, 1]));
        let waited = began.elapsed().as_millis();
        assert!((12 + 25..=25 + 50).contains(&waited), "short waits, the second longer: {waited} ms");
        house.script.then(1, &[Act::Say(429), Act::Say(503), Act::Say(429), Act::Say(500)]);
        assert_eq!(house.send().await, Ok(StatusCode::TOO_MANY_REQUESTS), "the last answer is the client's");
        assert_eq!(house.send().await, Ok(StatusCode::INTERNAL_SERVER_ERROR));
        house.is_quiet();
    });
}

#[test]
fn all_attempts_together_have_their_time() {
    still(async {
        let limit = Some(Duration::from_secs(7));
        let house = house(UpstreamSettings { retries: 10, request_timeout: limit, ..settings(1) });
        house.script.then(1, &[Act::Stall; 3]);
        let began = Instant::now();
        assert_eq!(house.send().await, Err((Fault::UpstreamUnreachable, true)));
        assert_eq!(began.elapsed().as_secs(), 7, "five of the first attempt, two of the second");
        assert!(house.upstream.health.is_whole());
        house.script.of(1).borrow_mut().clear();
        house.script.then(1, &[Act::Hang]);
        let began = Instant::now();
        assert_eq!(house.send().await, Err((Fault::UpstreamTimeout, false)));
        assert_eq!(began.elapsed().as_secs(), 7);
    });
}

#[test]
fn retries_stay_within_their_budget() {
    still(async {
        let house = house(UpstreamSettings { retries: 10, retry_budget_percent: 0, ..settings(1) });
        let mut attempts = 0;
        for _ in 0..200 {
            house.script.then(1, &[Act::Refuse; 11]);
            let before = house.script.opened.get();
            assert_eq!(house.send().await, Err((Fault::UpstreamUnreachable, true)));
            house.script.of(1).borrow_mut().clear();
            attempts += house.script.opened.get() - before;
        }
        let most = retry::MOST_SAVED + u64::from(retry::FLOOR_PER_SECOND);
        assert_eq!(attempts as u64, 200 + most);
        house.is_quiet();
    });
}

#[test]
fn a_pool_that_is_full_sheds() {
    still(async {
        let health = crate::upstream::HealthSettings { max_outstanding_of_pool: Some(1), ..Default::default() };
        let house = house(UpstreamSettings { health, ..settings(1) });
        house.script.then(1, &[Act::Hang]);
        let mut hanging = Box::pin(house.send());
        assert!(timeout(Duration::from_secs(1), &mut hanging).await.is_err());
        assert!(matches!(house.send().await, Err((Fault::UpstreamBusy { .. }, true))));
        drop(hanging);
        assert_eq!(house.send().await, OK);
        house.is_quiet();
    });
}

#[test]
fn connections_are_used_again_but_not_for_ever() {
    still(async {
        let house = house(settings(1));
        for _ in 0..10 {
            assert_eq!(house.send().await, OK);
        }
        assert_eq!(house.script.opened.get(), 1);
        house.pass(590);
        assert_eq!(house.send().await, OK);
        let opened = house.script.opened.get();
        house.pass(20);
        assert_eq!((house.send().await, house.send().await), (OK, OK));
        assert!(house.script.opened.get() <= opened + 1);
        for _ in 0..5 {
            house.pass(601);
            assert_eq!((house.send().await, house.send().await), (OK, OK));
        }
        assert_eq!(house.pool.idle_count(), 1);
    });
}

#[test]
fn credentials_take_turns_and_one_that_is_turned_down_rests() {
    still(async {
        let credentials = ["first-key", "other-key"].map(|secret| Credential::new(secret).unwrap()).to_vec();
        let house = house(UpstreamSettings { credentials, ..settings(1) });
        let next = || house.upstream.keyring.next(|| house.pool.clock.monotonic_ns()).unwrap().0;
        house.script.then(1, &[Act::Say(401)]);
        assert_eq!(house.send().await, Ok(StatusCode::UNAUTHORIZED), "no other is tried unasked");
        assert_eq!((next(), next(), next()), (1, 1, 1));
        house.pass(301);
        assert_eq!(next() + next(), 1);
    });
}
