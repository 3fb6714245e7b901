//! Copies of the store: made while a program runs on it, and put back where none does.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::app::books::{Books, BooksFault, mark as mark_of};
use crate::app::pepper;
use crate::keys::secret::Digester;
use crate::ledger::Hold;
use crate::store::embedded::Embedded;
use crate::store::{self, Backend, Store, StoreFault};

/// Copies the store that the configuration names to a new file, whether or not a program runs on it.
///
/// # Errors
/// There is no store, or `to` is there already or cannot be written.
pub fn back_up(settings: &store::Settings, to: &Path) -> Result<(), BooksFault> {
    let books = Books::existing(settings)?;
    if to.symlink_metadata().is_ok() {
        return Err(BooksFault::Copy { path: to.display().to_string(), why: "it is there already".to_owned() });
    }
    books.store.back_up(to).map_err(|fault| BooksFault::Store { path: to.display().to_string(), fault })
}

/// A restored store.
#[derive(Debug)]
pub struct Restored {
    /// Where it is.
    pub path: PathBuf,
    /// Where what was there before is kept.
    pub aside: Option<PathBuf>,
    /// Whether the pepper that is there now is the one its keys were made with.
    pub is_recognised: bool,
}

/// Puts the copy `from` in the place of the store that the configuration names. It is looked at before: one that is damaged or of a newer
/// version changes nothing. Journals stay, and what of them the copy has not yet is drained at the next start.
///
/// # Errors
/// A program runs on the store; `from` is no store; or it cannot be written.
pub fn restore(settings: &store::Settings, from: &Path) -> Result<Restored, BooksFault> {
    let Backend::Sqlite(path) = &settings.backend;
    // Before anything is made where it is to be.
    if let Err(error) = fs::File::open(from) {
        return Err(BooksFault::Copy { path: from.display().to_string(), why: error.to_string() });
    }
    // Where journals and clock are: a link to it stays.
    let path = &Books::place_of(path);
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |fault| BooksFault::Store { path, fault }
    };
    let io = |error: std::io::Error| StoreFault::Unavailable(error.to_string());
    let _alone = Hold::take(&Books::journals_of(path))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io).map_err(at(folder))?;
    }
    let beside = path.with_added_extension("restoring");
    // A log of another copy, as a killed program leaves it, must not be taken for this one's.
    let sweep = || ["-wal", "-shm"].map(|end| fs::remove_file(with_suffix(&beside, end)));
    let checked = || {
        drop(sweep());
        copy(from, &beside).map_err(io)?;
        // A copy that was made by hand has its latest in its log.
        match copy(&with_suffix(from, "-wal"), &with_suffix(&beside, "-wal")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let copy = Embedded::open_filled(&beside)?;
        copy.books()?;
        copy.pepper_mark()
    };
    let looked_at = checked();
    // The log of the copy is in it by now.
    drop(sweep());
    let mark = looked_at.inspect_err(|_| drop(fs::remove_file(&beside))).map_err(at(from))?;
    let aside = set_aside(path).map_err(io).map_err(at(path))?;
    // In one step: at no moment is there no store, or one without its log.
    let renamed = fs::rename(&beside, path).and_then(|()| path.parent().map_or(Ok(()), sync_folder));
    renamed.map_err(io).map_err(at(path))?;
    // It may be on its way back too: whoever has none yet, or one that cannot be read, is told as well.
    let pepper = pepper::existing(&settings.pepper).ok().flatten();
    let is_recognised = mark.is_none_or(|mark| pepper.is_some_and(|pepper| mark_of(&Digester::new(&pepper)) == mark));
    Ok(Restored { path: path.clone(), aside, is_recognised })
}

/// Gives a store another name too, with its log where that cannot be moved into it.
fn set_aside(path: &Path) -> std::io::Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let names = (0_u32..).map(|number| path.with_added_extension(format!("before-restore-{number}")));
    let Some(aside) = names.into_iter().find(|name| !name.exists()) else { return Ok(None) };
    // One that is damaged keeps its log, and that goes first: it must not be taken for that of what comes in its place.
    let _gathered = Embedded::gather(path);
    for end in ["-wal", "-shm"] {
        match fs::rename(with_suffix(path, end), with_suffix(&aside, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // A file system without second names has to do with a moment in which there is no store.
    fs::hard_link(path, &aside).or_else(|_| fs::rename(path, &aside))?;
    Ok(Some(aside))
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs::File::open(folder)?.sync_all()
}

fn with_suffix(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A copy that only its owner can read, on disk when this returns.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    std::io::copy(&mut source, &mut copy)?;
    copy.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Write;

    #[test]
    fn what_a_restore_sets_aside_is_whole_without_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyward.db");
        let settings = settings(&path);
        let books = Books::open(&settings).unwrap();
        let copy = folder.path().join("copy.db");
        books.store.back_up(&copy).unwrap();
        books.store.write(Write::PepperMark([7; 32])).unwrap();
        // Killed: its log is not in it.
        std::mem::forget(books);
        let aside = restore(&settings, &copy).unwrap().aside.unwrap();
        let mark = |path: &Path| Embedded::open_filled(path).unwrap().pepper_mark().unwrap();
        assert_eq!((mark(&path), mark(&aside)), (None, Some([7; 32])));
    }

    fn settings(path: &Path) -> store::Settings {
        let pepper = store::PepperSource::File(path.with_file_name("pepper"));
        store::Settings { backend: Backend::Sqlite(path.to_owned()), pepper }
    }

    #[test]
    fn a_copy_made_by_hand_is_taken_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyward.db");
        let (settings, by_hand) = (settings(&path), folder.path().join("by hand.db"));
        let books = Books::open(&settings).unwrap();
        books.store.write(Write::PepperMark([7; 32])).unwrap();
        for end in ["", "-wal"] {
            fs::copy(with_suffix(&path, end), with_suffix(&by_hand, end)).unwrap();
        }
        drop(books);
        fs::remove_file(&path).unwrap();
        // There is no pepper yet, and the copy has one.
        assert!(!restore(&settings, &by_hand).unwrap().is_recognised);
        assert_eq!(Embedded::open_filled(&path).unwrap().pepper_mark().unwrap(), Some([7; 32]));
        assert!(with_suffix(&by_hand, "-wal").exists(), "the copy stays as it is");
        assert!(!with_suffix(&path, ".restoring-wal").exists());
    }

    #[test]
    fn a_link_to_the_store_stays_and_the_copy_goes_where_the_journals_are() {
        let folder = tempfile::tempdir().unwrap();
        let [link, volume, copy] = ["keyward.db", "volume", "copy.db"].map(|name| folder.path().join(name));
        fs::create_dir(&volume).unwrap();
        drop(fs::File::create_new(volume.join("keyward.db")).unwrap());
        std::os::unix::fs::symlink("volume/keyward.db", &link).unwrap();
        let settings = settings(&link);
        let books = Books::open(&settings).unwrap();
        books.store.back_up(&copy).unwrap();
        books.store.write(Write::PepperMark([7; 32])).unwrap();
        drop(books);
        let restored = restore(&settings, &copy).unwrap();
        // Also where the file is gone, which is what copies are for.
        fs::remove_file(&restored.path).unwrap();
        assert_eq!(restore(&settings, &copy).unwrap().aside, None);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("volume/keyward.db"));
        assert_eq!(restored.path, volume.canonicalize().unwrap().join("keyward.db"));
        assert_eq!(Embedded::open_filled(&link).unwrap().pepper_mark().unwrap(), None);
        assert!(volume.join("keyward.db.ledger").exists() && !folder.path().join("keyward.db.ledger").exists());
    }

    #[test]
    fn what_holds_no_store_takes_no_stores_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyward.db");
        let settings = settings(&path);
        drop(Books::open(&settings).unwrap());
        let before = fs::read(&path).unwrap();
        // As after a copy without its log, and as any other file.
        let from = folder.path().join("copy.db");
        rusqlite::Connection::open(&from).unwrap().pragma_update(None, "journal_mode", "wal").unwrap();
        for content in [fs::read(&from).unwrap(), Vec::new(), b"not a database, but long enough to look at".to_vec()] {
            fs::write(&from, content).unwrap();
            assert!(matches!(restore(&settings, &from), Err(BooksFault::Store { fault: StoreFault::Damaged(_), .. })));
            assert_eq!(fs::read(&path).unwrap(), before);
            assert!(!folder.path().join("keyward.db.restoring").exists());
        }
    }
}
