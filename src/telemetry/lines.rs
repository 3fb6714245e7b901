//! Log lines on their way out: a bounded queue and a thread that writes, so that whoever logs never waits for whoever reads.
//!
//! `tracing-appender` does the same; ours counts what is lost in a metric of the program and joins lines that wait into one write.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait, some megabytes at most; further ones are lost.
const QUEUE: usize = 16 * 1024;
/// Lines that wait are joined into writes of about this many bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// How long a first line waits for others, to be written with them.
const GATHER: Duration = Duration::from_millis(2);
/// How long the end of the program waits for a reader that takes nothing.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Lines lost because nobody took them in time, since the program began.
pub fn dropped() -> Counter {
    DROPPED.clone()
}

/// Where lines are handed over; clones share the queue.
#[derive(Debug, Clone)]
pub struct Lines {
    // A bounded channel of the standard library has room for all that may wait from the start, half a megabyte.
    queue: Sender<Item>,
    waiting: Arc<AtomicUsize>,
    most: usize,
    dropped: Counter,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Everything before this has been written once the answer comes.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Lines that a thread of their own writes to `out`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_queue(out, QUEUE, dropped())
    }

    fn with_queue(out: impl Write + Send + 'static, most: usize, dropped: Counter) -> io::Result<Self> {
        let (queue, items) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = Taken { items, waiting: Arc::clone(&waiting) };
        let lost = dropped.clone();
        thread::Builder::new().name("keyward-log".to_owned()).spawn(move || write_all(&taken, out, &lost))?;
        Ok(Self { queue, waiting, most, dropped })
    }

    /// Hands a line over; it is lost, and counted, where too many wait.
    pub fn hand_over(&self, line: Vec<u8>) {
        let has_room = self.waiting.fetch_add(1, Ordering::Relaxed) < self.most;
        if !has_room || self.queue.send(Item::Line(line)).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Waits until what was handed over is written, but not for ever.
    pub fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.queue.send(Item::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

/// Where they come from.
struct Taken {
    items: Receiver<Item>,
    waiting: Arc<AtomicUsize>,
}

impl Taken {
    fn counted(&self, item: Item) -> Item {
        if matches!(item, Item::Line(_)) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        item
    }

    /// The next one, once there is one; `None` when nobody can send any more.
    fn next(&self) -> Option<Item> {
        self.items.recv().ok().map(|item| self.counted(item))
    }

    /// The next one where it is there already.
    fn next_now(&self) -> Option<Item> {
        self.items.try_recv().ok().map(|item| self.counted(item))
    }
}

/// Writes what comes until nobody can send any more.
fn write_all(lines: &Taken, mut out: impl Write, dropped: &Counter) {
    let (mut joined, mut is_behind) = (Vec::new(), false);
    while let Some(first) = lines.next() {
        // Lines seldom come alone: whoever logs the next ones need not wake anybody. With more of them there than one write takes none
        // needs waiting for.
        if matches!(first, Item::Line(_)) && !is_behind {
            thread::sleep(GATHER);
        }
        let mut flushed = None;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Line(line) => joined.extend_from_slice(&line),
                Item::Flush(done) => flushed = Some(done),
            }
            next = if joined.len() < WRITE_BYTES && flushed.is_none() { lines.next_now() } else { None };
        }
        is_behind = joined.len() >= WRITE_BYTES;
        // There is nowhere to tell that the log cannot be written, but in the count of what is lost.
        if out.write_all(&joined).and_then(|()| out.flush()).is_err() {
            dropped.inc_by(memchr::memchr_iter(b'\n', &joined).count() as u64);
        }
        joined.clear();
        if let Some(done) = flushed {
            let _ = done.try_send(());
        }
    }
}

/// One line; what is written to it at once is handed over at once, as the formatter does.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.hand_over(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Takes nothing until it is let.
    struct Gated(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let dropped = Counter::default();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let lines = Lines::with_queue(full, 100, dropped.clone()).unwrap();
        (0..20).for_each(|number| lines.hand_over(format!("{number}\n").into_bytes()));
        lines.flush();
        assert_eq!(dropped.get(), 20);
    }

    #[test]
    fn a_reader_that_takes_nothing_costs_lines_and_no_time_and_the_loss_is_counted() {
        let (open, gate) = sync_channel(100);
        let (written, dropped) = (Arc::new(Mutex::new(Vec::new())), Counter::default());
        let mut lines = Lines::with_queue(Gated(gate, Arc::clone(&written)), 4, dropped.clone()).unwrap();
        for number in 0..20 {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert!(dropped.get() >= 11, "four wait, and as many may be in the writer's hands: {}", dropped.get());
        drop(open);
        Lines::flush(&lines);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count() as u64, 20 - dropped.get());
        assert!(text.starts_with("0\n1\n"), "what was taken is whole and in order: {text}");
    }
}
