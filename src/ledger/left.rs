//! Journals that a killed process left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::ledger::journal::{self, EXTENSION, Entries};

/// One of them, with what of it is not in the store yet.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) id: Uuid,
    pub(super) path: PathBuf,
    pub(super) entries: Entries,
    /// Its lock, so that no other process drains it too.
    pub(super) _file: File,
}

/// Finds those in `folder` that no process holds. `drained` says how far the store has taken each that it knows.
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
            Some((id, entries)) => found.push(Left { id, path, entries, _file: file }),
            // Killed while it was being made: nothing was ever written to it.
            None => journal::remove(&path).map_err(named)?,
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
        count += undrained(&file, drained)?.map_or(0, |(_, entries)| entries.len() as u64);
    }
    Ok(count)
}

/// Whether a process holds one of the journals in `folder`.
///
/// # Errors
/// The folder or a file cannot be read.
pub(super) fn is_held(folder: &Path) -> io::Result<bool> {
    for path in journals(folder)? {
        match File::options().read(true).write(true).open(&path)?.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
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

fn undrained(file: &File, drained: &[(Uuid, u64)]) -> io::Result<Option<(Uuid, Entries)>> {
    Ok(journal::read(file)?.map(|(id, mut entries)| {
        let through = drained.iter().find(|(known, _)| *known == id).map_or(0, |(_, through)| *through);
        entries.retain(|(sequence, _)| *sequence > through);
        (id, entries)
    }))
}
