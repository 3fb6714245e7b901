//! A stream as its client sees it: opened, and read event by event, each with the time it took.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::moment::Moment;
use crate::request::{self, TIME_DIGITS, TIME_MARK, Wish};

/// Streams opened every [`OPENING`]: a thousand a second.
const OPENED_AT_ONCE: usize = 5;
const OPENING: Duration = Duration::from_millis(5);

/// What the readers tell.
pub trait Sees {
    /// A read that brought something: for each event in it, nanoseconds from its emission.
    fn events(&self, number: usize, delays_ns: &[u64]);
    /// A stream that ended or broke, which none should.
    fn broke(&self, error: anyhow::Error);
}

/// Opens streams `numbers`, evenly in time, and lets them run; they end when their tasks are dropped.
pub async fn open<S: Sees + 'static>(
    target: SocketAddr,
    secrets: &[String],
    numbers: std::ops::Range<usize>,
    wish: Wish,
    sees: &Rc<S>,
) -> anyhow::Result<()> {
    let requests = secrets.iter().map(|secret| request::chat(secret, 1200, Some(wish)).into());
    let requests = requests.collect::<Vec<Rc<[u8]>>>();
    ensure!(!requests.is_empty(), "no secret to ask with");
    for number in numbers {
        let (sees, request) = (Rc::clone(sees), Rc::clone(&requests[number % requests.len()]));
        tokio::task::spawn_local(async move {
            if let Err(error) = read(target, &request, number, &*sees).await {
                sees.broke(error);
            }
        });
        if number % OPENED_AT_ONCE == 0 {
            sleep(OPENING).await;
        }
    }
    Ok(())
}

/// Ends only with an error.
async fn read(target: SocketAddr, request: &[u8], number: usize, sees: &impl Sees) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(target).await.context("connecting")?;
    stream.set_nodelay(true)?;
    stream.write_all(request).await.context("sending")?;
    let mut bytes = Vec::new();
    let mut delays = Vec::new();
    let mut is_begun = false;
    loop {
        stream.readable().await?;
        let mut scratch = [0; 8192];
        let read = match stream.try_read(&mut scratch) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            read => read.context("reading")?,
        };
        let now = Moment::now().0;
        ensure!(read > 0, "a stream ended");
        bytes.extend_from_slice(&scratch[..read]);
        if !is_begun && bytes.len() >= 13 {
            ensure!(bytes.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&bytes));
            is_begun = true;
        }
        let done = find_events(&bytes, now, &mut delays);
        bytes.drain(..done);
        if !delays.is_empty() {
            sees.events(number, &delays);
            delays.clear();
        }
    }
}

/// Appends the delay of every whole event and says how many bytes are done with.
fn find_events(bytes: &[u8], now: u64, delays: &mut Vec<u64>) -> usize {
    let mut done = 0;
    for at in memmem::find_iter(bytes, TIME_MARK) {
        let digits = at + TIME_MARK.len();
        let Some(text) = bytes.get(digits..digits + TIME_DIGITS) else { return at };
        done = digits + TIME_DIGITS;
        let emitted = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        // A proxy may cut a chunk anywhere, also within a number; such an event is not counted, and seldom.
        delays.extend(emitted.map(|emitted| now.saturating_sub(emitted)));
    }
    // A mark may be cut in two.
    done.max(bytes.len().saturating_sub(TIME_MARK.len() - 1))
}
