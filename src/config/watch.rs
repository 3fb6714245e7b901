//! Says when the content of a file has changed, however it was changed: written in place, renamed over by an editor, or
//! swapped below a symbolic link as a mounted config map is.
//!
//! A watch on the file itself dies with the first rename, so the directories are watched: that of the file, and that of
//! every link on the way to it. Events are only a hint to look; what counts is a hash of the content. A look every half
//! second finds what no event told of, so a change is seen within a second even where watching is not to be had.

mod hints;
mod signals;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::background;
use crate::clock::Clock;
use crate::config::secret::open_regular;
use crate::config::watch::hints::Hints;
use crate::config::watch::signals::{Orders, Signal, Signals};

/// How long it must be quiet before a change counts as finished.
const QUIET: Duration = Duration::from_millis(100);

/// How long a change may go on before it is looked at although it is not quiet.
const LONGEST_WAIT_NS: u64 = 400_000_000;

/// How often the files are looked at without being told to.
const POLL: Duration = Duration::from_millis(500);

/// Files up to so many bytes are read at every look.
const SMALL: u64 = 1 << 20;

/// Links followed on the way to a file, as many as Linux does.
const MOST_LINKS: usize = 40;

/// Ends the watch when dropped; after that `on_change` is not called again.
#[derive(Debug)]
pub struct WatchGuard {
    orders: Orders,
    /// Whether it has ended. Locked while `on_change` runs.
    is_over: Arc<Mutex<bool>>,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        // The thread is not waited for: it may be held up by the file system that it looks at.
        self.orders.send(Signal::Stop);
    }
}

impl WatchGuard {
    /// Watches these files from now on. One that was not watched before counts as changed, since nobody knows what became of it
    /// between its reading and now.
    pub fn follow(&self, paths: Vec<PathBuf>) {
        self.orders.send(Signal::Follow(paths));
    }
}

/// Files, and what they held at one moment.
#[derive(Debug)]
pub struct Seen(Vec<(PathBuf, Content)>);

/// Looks at `paths`: what a later [`watch`] compares with. Look first, then load, and no change is lost.
pub fn look(paths: impl IntoIterator<Item = PathBuf>) -> Seen {
    Seen(paths.into_iter().map(|path| (path.clone(), Content::of(&path))).collect())
}

/// Calls `on_change`, on a thread of its own, after the content of any of the files is not what was `seen` any more (a file that
/// goes or comes has changed too). Where the system offers no watch, looking at the files every half second must do.
///
/// # Errors
/// The thread could not be started, or not be told anything.
pub fn watch(seen: Seen, on_change: impl Fn() + Send + 'static) -> io::Result<WatchGuard> {
    let (orders, signals) = signals::pair()?;
    let (paths, seen) = seen.0.into_iter().unzip();
    let mut look = Look { paths, hints: Hints::new(), seen };
    look.follow();
    // What changed since it was seen is told by no event.
    orders.send(Signal::Touched);
    let is_over = Arc::new(Mutex::new(false));
    let ended = Arc::clone(&is_over);
    let tell = move || {
        let is_over = ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_over {
            on_change();
        }
    };
    std::thread::Builder::new().name("keyward-watch".to_owned()).spawn(move || {
        // What it finds is put in force on this thread, and somebody may be waiting for a key to be shut out.
        background::give_way(background::BOOKS);
        run(&mut look, &signals, &tell);
    })?;
    Ok(WatchGuard { orders, is_over })
}

fn run(look: &mut Look, signals: &Signals, on_change: &impl Fn()) {
    let clock = Clock::system();
    loop {
        match signals.next(look.hints.as_ref(), POLL) {
            Some(Signal::Touched) => {}
            Some(Signal::Follow(paths)) => look.turn_to(paths),
            Some(Signal::Stop) => return,
            None if look.differs() => {}
            None => continue,
        }
        if !wait_until_quiet(look, signals, &clock) {
            return;
        }
        look.follow();
        if look.has_changed() {
            on_change();
        }
    }
}

/// False when the watch is to end.
fn wait_until_quiet(look: &mut Look, signals: &Signals, clock: &Clock) -> bool {
    let start_ns = clock.monotonic_ns();
    while clock.monotonic_ns().saturating_sub(start_ns) < LONGEST_WAIT_NS {
        match signals.next(look.hints.as_ref(), QUIET) {
            Some(Signal::Touched) => {}
            Some(Signal::Follow(paths)) => look.turn_to(paths),
            Some(Signal::Stop) => return false,
            None => return true,
        }
    }
    true
}

/// A file as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    /// `None` when it cannot be read.
    sha256: Option<[u8; 32]>,
    stamp: Option<Stamp>,
    /// The stamp was old when it was taken. One that was new may also be that of a write that came right after.
    is_settled: bool,
}

impl Content {
    fn of(path: &Path) -> Self {
        let stamp = stamp(path);
        let is_settled = stamp.as_ref().is_some_and(Stamp::is_old);
        Self { stamp, is_settled, sha256: hash(path) }
    }

    /// What is there now. A large file is read only where its stamp does not say that nothing has changed: files beside it, a database's
    /// above all, may be written all the time.
    fn again(&self, path: &Path) -> Self {
        let is_known =
            self.is_settled && stamp(path).is_some_and(|stamp| stamp.bytes > SMALL && Some(stamp) == self.stamp);
        if is_known { self.clone() } else { Self::of(path) }
    }

    /// Of a file that nobody has looked at: no content has this hash, so whatever is found there has changed.
    fn unseen() -> Self {
        Self { stamp: None, is_settled: false, sha256: Some([0; 32]) }
    }
}

/// What changes with the content on any ordinary file system, and costs no reading.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<std::time::SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamp {
    /// Whether it was not made within the last second, which is many times what a file system's clock takes to move on.
    fn is_old(&self) -> bool {
        let modified_ms =
            |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis().try_into().ok();
        let made_ms: Option<i64> = self.modified.and_then(modified_ms);
        #[cfg(unix)]
        let made_ms = made_ms.map(|made_ms| made_ms.max(self.inode.2.saturating_mul(1_000) + self.inode.3 / 1_000_000));
        made_ms.is_some_and(|made_ms| Clock::system().now().unix_ms.saturating_sub(made_ms) > 1_000)
    }
}

struct Look {
    paths: Vec<PathBuf>,
    /// None where the system offers no watch.
    hints: Option<Hints>,
    seen: Vec<Content>,
}

impl Look {
    /// Watches the directories the files are reached through now, and no other.
    fn follow(&mut self) {
        let Some(hints) = &mut self.hints else { return };
        let mut wanted = BTreeSet::new();
        for path in &self.paths {
            directories(path, &mut wanted);
        }
        hints.follow(&wanted);
    }

    fn contents(&self) -> Vec<Content> {
        self.paths.iter().zip(&self.seen).map(|(path, seen)| seen.again(path)).collect()
    }

    /// Takes other files to watch; what was seen of those that stay is kept.
    fn turn_to(&mut self, paths: Vec<PathBuf>) {
        let mut known: Vec<(PathBuf, Content)> = self.paths.drain(..).zip(self.seen.drain(..)).collect();
        for path in paths {
            let at = known.iter().position(|(known, _)| *known == path);
            self.seen.push(at.map_or_else(Content::unseen, |at| known.swap_remove(at).1));
            self.paths.push(path);
        }
        self.follow();
    }

    /// Whether any content differs from what was seen; if so, it has been seen now.
    fn has_changed(&mut self) -> bool {
        let now = self.contents();
        let is_same = now.iter().zip(&self.seen).all(|(now, seen)| now.sha256 == seen.sha256);
        self.seen = now;
        !is_same
    }

    /// The same without an event to hint at it. A large file is read only when its stamp differs.
    fn differs(&self) -> bool {
        self.paths.iter().zip(&self.seen).any(|(path, seen)| {
            let stamp = stamp(path);
            let is_small = stamp.as_ref().is_some_and(|stamp| stamp.bytes <= SMALL);
            stamp != seen.stamp || (is_small && hash(path) != seen.sha256)
        })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    Some(Stamp {
        bytes: metadata.len(),
        modified: metadata.modified().ok(),
        #[cfg(unix)]
        inode: {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        },
    })
}

/// Of what is only named and read by nobody, too: what has no end is read to a bound, and nothing is waited for.
fn hash(path: &Path) -> Option<[u8; 32]> {
    let file = open_regular(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut file = file.take(length.max(SMALL));
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 16 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Some(sha256.finalize().into()),
            Ok(read) => sha256.update(buffer.get(..read)?),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// The directory of `path`, and that of every link on the way to it. Where one does not exist (yet), the nearest above it.
fn directories(path: &Path, out: &mut BTreeSet<PathBuf>) {
    let Ok(absolute) = std::path::absolute(path) else { return };
    let mut rest: Vec<PathBuf> = components(&absolute);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(step) = rest.pop() {
        if step == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        match std::fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                out.insert(at.clone());
                if target.is_absolute() {
                    at = PathBuf::new();
                }
                rest.extend(components(&target));
            }
            _ if rest.is_empty() || !next.exists() => {
                out.insert(at);
                return;
            }
            _ => at = next,
        }
    }
}

/// The steps of a path, the last one first.
fn components(path: &Path) -> Vec<PathBuf> {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    steps.map(|step| PathBuf::from(step.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests;
