//! What the kernel tells of directories: only what may lead a file's name to other content.
//!
//! It is asked for writes that have ended and not for each write: a database that stands beside the files is written to all the time, and
//! every write of its own would wake whoever watches. One who writes and never closes is found by the next look.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The directories that are watched.
#[derive(Debug)]
pub(super) struct Hints {
    inotify: OwnedFd,
    watched: BTreeSet<i32>,
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::mem::MaybeUninit;

    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};

    use super::*;

    /// A file is written and closed, comes, goes, is renamed to or away; it, or the directory, may be read or may not any more.
    const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
        .union(WatchFlags::CREATE)
        .union(WatchFlags::DELETE)
        .union(WatchFlags::MOVED_FROM)
        .union(WatchFlags::MOVED_TO)
        .union(WatchFlags::DELETE_SELF)
        .union(WatchFlags::MOVE_SELF)
        .union(WatchFlags::ATTRIB)
        .union(WatchFlags::ONLYDIR);

    impl Hints {
        /// None where the system has no more to give: see `fs.inotify.max_user_instances`.
        pub(in super::super) fn new() -> Option<Self> {
            let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
            Some(Self { inotify, watched: BTreeSet::new() })
        }

        /// Watches these directories and no other.
        pub(in super::super) fn follow(&mut self, directories: &BTreeSet<PathBuf>) {
            // Watching again what is watched already is how a directory that was made anew under its old name is not lost. One that was
            // there before has the number it had, also where two paths lead to it.
            let watch = |directory: &PathBuf| add_watch(&self.inotify, directory.as_path(), CHANGES).ok();
            let wanted = directories.iter().filter_map(watch).collect::<BTreeSet<_>>();
            for gone in self.watched.difference(&wanted) {
                // It fails where the directory itself is gone, and the watch with it.
                let _ = remove_watch(&self.inotify, *gone);
            }
            self.watched = wanted;
        }

        /// Whether it has told of anything since this was asked last.
        pub(in super::super) fn take(&self) -> bool {
            let mut room = [MaybeUninit::uninit(); 4_096];
            let mut events = Reader::new(&self.inotify, &mut room);
            let mut is_told = false;
            // It ends with the last one; of any other error it is not known what was missed, and the next look finds it.
            while let Ok(event) = events.next() {
                // That a watch has ended is no change.
                is_told |= event.events() != ReadFlags::IGNORED;
            }
            is_told
        }
    }
}

/// Elsewhere nothing is told, and looking finds it.
#[cfg(not(target_os = "linux"))]
impl Hints {
    pub(super) fn new() -> Option<Self> {
        None
    }

    pub(super) fn follow(&mut self, _directories: &BTreeSet<PathBuf>) {}

    pub(super) fn take(&self) -> bool {
        false
    }
}

impl AsFd for Hints {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
