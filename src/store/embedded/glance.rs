//! A look at a store without opening it: nothing of it is made or changed, whether or not a program runs on it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use crate::store::embedded::connect::Options;
use crate::store::embedded::{file, listing, remembered, schema};
use crate::store::{StoreFault, StoredKey};

/// A store that is only looked at.
#[derive(Debug)]
pub struct Glance(Connection);

impl Glance {
    /// At the file, which must be there; `None` where an older program made it, or it is empty: the next start makes it into a store of today.
    ///
    /// # Errors
    /// [`StoreFault::Newer`] when a newer program made it, [`StoreFault::Damaged`] when it is not ours; or it cannot be read.
    pub fn at(path: &Path) -> Result<Option<Self>, StoreFault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri(path)?, flags)?;
        connection.busy_timeout(Options::default().busy_timeout)?;
        schema::check(&connection)?;
        Ok(schema::is_current(&connection)?.then_some(Self(connection)))
    }

    /// Every key, as [`crate::store::Store::load_keys`] gives them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load_keys(&self, each: &mut dyn FnMut(StoredKey)) -> Result<(), StoreFault> {
        listing::load(&self.0, each)
    }

    /// What the pepper of its keys is recognised by.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn pepper_mark(&self) -> Result<Option<[u8; 32]>, StoreFault> {
        remembered::pepper_mark(&self.0)
    }
}

/// The file as SQLite is to take it. Without a log beside it nobody has it open, and SQLite would make one to read it: it is told that the file does
/// not change (<https://www.sqlite.org/uri.html>, `immutable`).
fn uri(path: &Path) -> Result<String, StoreFault> {
    // The log is beside the file that a link leads to.
    let path = path.canonicalize().map_err(|error| file::fault(path, &error))?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let immutable = if Path::new(&log).exists() { "" } else { "?immutable=1" };
    Ok(format!("file:{}{immutable}", percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;
    use crate::store::{Store, Write};

    #[test]
    fn makes_nothing_and_sees_what_a_running_program_wrote_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a store?100%.db");
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let store = Embedded::open(&path).unwrap();
        store.write(Write::PepperMark([7; 32])).unwrap();
        let mark = || Glance::at(&path).unwrap().unwrap().pepper_mark().unwrap();
        assert_eq!(mark(), Some([7; 32]));
        drop(store);
        let before = names();
        assert_eq!((mark(), names()), (Some([7; 32]), before));
    }

    #[test]
    fn a_file_that_is_no_store_of_today_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        assert!(matches!(Glance::at(&path), Err(StoreFault::Unavailable(_))));
        std::fs::write(&path, "").unwrap();
        assert!(Glance::at(&path).unwrap().is_none());
        std::fs::write(&path, "not a database, but long enough to be looked at").unwrap();
        assert!(matches!(Glance::at(&path), Err(StoreFault::Damaged(_))));
    }
}
