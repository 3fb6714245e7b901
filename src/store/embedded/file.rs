//! The files of the store on the disk: made with mode 0600, and known again.
//!
//! No file of the database is ever opened here once SQLite has it: closing it would drop the locks that the whole process holds.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::store::StoreFault;

/// Where the store is, and which files it was opened with.
#[derive(Debug)]
pub(super) struct Files {
    database: PathBuf,
    log: PathBuf,
    opened: Mutex<Opened>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Opened {
    database: Option<Identity>,
    log: Option<Identity>,
}

/// Device and inode.
type Identity = (u64, u64);

/// Whether the files are those that were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are.
    Same,
    /// The write-ahead log was removed or replaced under the open connections; what is in it they still have.
    LogGone,
    /// The database was removed or replaced.
    Gone,
}

impl Files {
    /// Makes folder and file where they are missing: the folder for the owner alone, the file with mode 0600, which SQLite gives
    /// to the files beside it too.
    ///
    /// # Errors
    /// They cannot be made.
    pub(super) fn prepare(path: &Path) -> Result<Self, StoreFault> {
        let folder = folder_of(path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| fault(folder, &error))?;
        match create_private(path) {
            Ok(_) => sync_folder(path).map_err(|error| fault(folder, &error))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // Whether a file is there that only must not be written is for SQLite to say.
            Err(_) if path.is_file() => {}
            Err(error) => return Err(fault(path, &error)),
        }
        // As SQLite does, which puts its other files beside the file that a link leads to.
        let database = path.canonicalize().map_err(|error| fault(path, &error))?;
        let files = Self { log: beside(&database, "-wal"), database, opened: Mutex::default() };
        files.check_writable()?;
        Ok(files)
    }

    /// SQLite would open what it must not write for reading alone, and give the files that it makes beside it the same mode: so the store
    /// could not be written even after that of its file is set right.
    fn check_writable(&self) -> Result<(), StoreFault> {
        for path in [&self.database, &self.log, &beside(&self.database, "-shm")] {
            match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
                Err(error) if error != rustix::io::Errno::NOENT => return Err(fault(path, &error.into())),
                _ => {}
            }
        }
        Ok(())
    }

    /// The database.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Remembers the files as they are: those that a connection just opened has.
    pub(super) fn remember(&self) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = self.found();
    }

    /// Whether they still are what they were.
    pub(super) fn standing(&self) -> Standing {
        let opened = *self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.found();
        if found.database != opened.database {
            Standing::Gone
        } else if found.log != opened.log {
            Standing::LogGone
        } else {
            Standing::Same
        }
    }

    /// What is said when the database is not there any more.
    pub(super) fn gone(&self) -> StoreFault {
        StoreFault::Unavailable(format!("{} was removed or replaced", self.database.display()))
    }

    fn found(&self) -> Opened {
        let identity = |path: &Path| path.metadata().ok().map(|found: Metadata| (found.dev(), found.ino()));
        Opened { database: identity(&self.database), log: identity(&self.log) }
    }
}

/// The file beside another that has its name and this ending, as SQLite keeps them.
pub(super) fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(end);
    name.into()
}

/// A new file that only its owner may read and write.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the name of a new file as durable as the file.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// What the file system said, in the words of the contract.
pub(super) fn fault(path: &Path, error: &io::Error) -> StoreFault {
    let said = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreFault::Full(said),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => StoreFault::ReadOnly(said),
        _ => StoreFault::Unavailable(said),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
