//! Journals of other processes on the same store: of one that was killed, and of one that has handed the store over and still runs.
//!
//! Whose process is gone (nobody holds its lock) is read whole, drained and removed. Whose process runs is read along: what it appends mostly stands
//! right behind what is known, so a look costs two small reads; what stands elsewhere is searched for after a few looks; a frame that is being written
//! is not there yet, and no later one is taken before it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::ledger::extent;
use crate::ledger::journal::{self, EXTENSION, Found, Numbered};
use crate::store::frame;

/// Looks after which a journal that is read along is searched whole, if what comes next does not stand where it is expected.
const LOOKS_BETWEEN_SEARCHES: u32 = 10;

/// One of them.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) id: Uuid,
    pub(super) path: PathBuf,
    /// What is not in the store yet.
    pub(super) entries: Numbered,
    /// Whether its process is gone, so that nothing more will be in it.
    pub(super) is_left: bool,
    /// The last entry that was taken out of it.
    through: u64,
    /// Where the next one is expected.
    at: usize,
    looks_until_search: u32,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Entries nobody has seen yet.
    pub(super) entries: u64,
    /// How many the numbers of others tell of that cannot be read any more.
    pub(super) missing: u64,
}

impl Other {
    /// Takes what is new of it; `seen` is told each.
    fn look(&mut self, seen: &mut dyn FnMut(&crate::store::Entry)) -> io::Result<News> {
        let mut news = News::default();
        if self.is_left {
            return Ok(news);
        }
        let file = open(&self.path)?;
        let new = if is_left(&file)? {
            self.is_left = true;
            let Found::Journal(_, mut entries) = journal::read(&file)? else { return Ok(news) };
            entries.retain(|(sequence, _)| *sequence > self.through);
            news.missing = entries.last().map_or(0, |(last, _)| last - self.through - entries.len() as u64);
            entries
        } else {
            self.read_along(&file)?
        };
        news.entries = new.len() as u64;
        if let Some((last, _)) = new.last() {
            self.through = *last;
        }
        new.iter().for_each(|(_, entry)| seen(entry));
        self.entries.extend(new);
        Ok(news)
    }

    fn read_along(&mut self, file: &File) -> io::Result<Numbered> {
        let mut entries = Vec::new();
        let mut through = self.through;
        while let Some((entry, end)) = next(file, through + 1, [self.at, extent::FIRST])? {
            through += 1;
            self.at = end;
            entries.push((through, entry));
        }
        if !entries.is_empty() {
            self.looks_until_search = LOOKS_BETWEEN_SEARCHES;
        } else if self.looks_until_search > 0 {
            self.looks_until_search -= 1;
        } else {
            self.looks_until_search = LOOKS_BETWEEN_SEARCHES;
            if let Some(at) = journal::search(file, through + 1)? {
                self.at = at;
                return self.read_along(file);
            }
        }
        Ok(entries)
    }
}

/// The entry with this number, if it stands at one of these places, and where it ends.
fn next(file: &File, sequence: u64, places: [usize; 2]) -> io::Result<Option<(crate::store::Entry, usize)>> {
    for at in places {
        let mut bytes = [0; frame::LONGEST];
        let count = journal::read_some(file, &mut bytes, at)?;
        if let Some((found, entry, length)) = frame::decode(&bytes[..count])
            && found == sequence
        {
            return Ok(Some((entry.to_owned_text(), at + length)));
        }
    }
    Ok(None)
}

/// All of them in one folder.
#[derive(Debug)]
pub(super) struct Others {
    folder: PathBuf,
    pub(super) known: Vec<Other>,
}

impl Others {
    /// None known yet.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: Vec::new() }
    }

    /// Looks what is new: journals, and entries in those that are known; `seen` is told each. `own` are this process's. `drained` says how far the
    /// store has taken each that it knows, and is asked only where a journal is new. None is held open, however many there are: whoever looks
    /// holds the folder.
    ///
    /// # Errors
    /// The folder or a file cannot be read; what was found until then counts.
    pub(super) fn look(
        &mut self,
        own: &[Uuid],
        drained: &mut dyn FnMut() -> io::Result<Vec<(Uuid, u64)>>,
        seen: &mut dyn FnMut(&crate::store::Entry),
    ) -> io::Result<News> {
        self.find(own, drained)?;
        let mut all = News::default();
        for other in &mut self.known {
            match other.look(seen) {
                Ok(news) => {
                    all.entries += news.entries;
                    all.missing += news.missing;
                }
                // Removed by hand; what was taken out of it is drained all the same.
                Err(error) if error.kind() == io::ErrorKind::NotFound => other.is_left = true,
                Err(error) => return Err(named(&other.path, &error)),
            }
        }
        Ok(all)
    }

    /// Adds the journals that are new to the known ones.
    fn find(&mut self, own: &[Uuid], drained: &mut dyn FnMut() -> io::Result<Vec<(Uuid, u64)>>) -> io::Result<()> {
        let mut marks = None;
        for path in journals(&self.folder)? {
            let is_own = own.iter().any(|id| path.file_stem().is_some_and(|stem| *stem == *id.simple().to_string()));
            if is_own || self.known.iter().any(|known| known.path == path) {
                continue;
            }
            let file = match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|error| named(&path, &error))?,
            };
            let is_left = is_left(&file).map_err(|error| named(&path, &error))?;
            match journal::read_head(&file).map_err(|error| named(&path, &error))? {
                Found::Journal(id, _) => {
                    if marks.is_none() {
                        marks = Some(drained()?);
                    }
                    let mark = marks.iter().flatten().find(|(known, _)| *known == id);
                    let through = mark.map_or(0, |(_, through)| *through);
                    self.known.push(Other {
                        id,
                        path,
                        entries: Vec::new(),
                        is_left: false,
                        through,
                        at: extent::FIRST,
                        looks_until_search: 0,
                    });
                }
                // It is being made.
                Found::Blank | Found::Unknown if !is_left => {}
                // Killed while it was being made: nothing was ever written to it.
                Found::Blank => journal::remove(&path).map_err(|error| named(&path, &error))?,
                Found::Unknown => set_aside(&path).map_err(|error| named(&path, &error))?,
            }
        }
        Ok(())
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Whether no process holds it.
fn is_left(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
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
        let Found::Journal(id, entries) = journal::read(&file)? else { continue };
        let through = drained.iter().find(|(known, _)| *known == id).map_or(0, |(_, through)| *through);
        count += entries.iter().filter(|(sequence, _)| *sequence > through).count() as u64;
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
