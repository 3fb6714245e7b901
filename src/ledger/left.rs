//! Journals that a killed process left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::ledger::journal::{self, EXTENSION, Entries, Found};

/// One of them, with what of it is not in the store yet.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) id: Uuid,
    pub(super) path: PathBuf,
    pub(super) entries: Entries,
    /// How many the numbers of the others tell of that cannot be read any more.
    pub(super) missing: u64,
}

/// Finds those in `folder` that no process holds, and holds none of them open, however many there are: whoever asks holds the folder.
/// `drained` says how far the store has taken each that it knows.
///
/// # Errors
/// The folder or a file cannot be read.
pub(super) fn find(folder: &Path, drained: &[(Uuid, u64)]) -> io::Result<Vec<Left>> {
    let mut found = Vec::new();
    for path in journals(folder)? {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::options().read(true).write(true).open(&path).map_err(named)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(named(error)),
        }
        match undrained(&file, drained).map_err(named)? {
            Content::Entries { id, entries, missing } => {
                found.push(Left { id, path, entries, missing });
            }
            // Killed while it was being made: nothing was ever written to it.
            Content::Blank => journal::remove(&path).map_err(named)?,
            Content::Unknown => set_aside(&path).map_err(named)?,
        }
    }
    Ok(found)
}

/// How many entries of all journals in `folder` are not in the store yet.
///
/// # Errors
/// The folder or a file cannot be read.
pub(super) fn pending(folder: &Path, drained: &[(Uuid, u64)]) -> io::Result<u64> {
    let mut count = 0;
    for path in journals(folder)? {
        let file = match File::open(&path) {
            // Drained to its end in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        count += match undrained(&file, drained)? {
            Content::Entries { entries, .. } => entries.len() as u64,
            Content::Blank | Content::Unknown => 0,
        };
    }
    Ok(count)
}

/// What no program of this version can read may still be what somebody owes: it is kept, under a name that nobody looks for.
fn set_aside(path: &Path) -> io::Result<()> {
    let aside = path.with_added_extension("unreadable");
    fs::rename(path, &aside)?;
    tracing::error!(path = %aside.display(), "a journal of settled requests cannot be read, and is set aside: it was damaged, or a newer version made it");
    Ok(())
}

fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(paths),
        other => other?,
    };
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// What a file turns out to hold.
enum Content {
    Entries { id: Uuid, entries: Entries, missing: u64 },
    Blank,
    Unknown,
}

fn undrained(file: &File, drained: &[(Uuid, u64)]) -> io::Result<Content> {
    Ok(match journal::read(file)? {
        Found::Journal(id, mut entries) => {
            let through = drained.iter().find(|(known, _)| *known == id).map_or(0, |(_, through)| *through);
            entries.retain(|(sequence, _)| *sequence > through);
            let missing = entries.last().map_or(0, |(last, _)| last - through - entries.len() as u64);
            Content::Entries { id, entries, missing }
        }
        Found::Blank => Content::Blank,
        Found::Unknown => Content::Unknown,
    })
}
