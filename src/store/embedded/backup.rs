//! A copy of the store: under its name it is whole or not there, whenever the program that makes it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::store::StoreFault;
use crate::store::embedded::file;

/// The ending of a copy that is not whole yet.
const UNFINISHED: &str = ".unfinished";

/// Has `copy` write a file beside `to`, and gives it that name once it is on the disk. What is there already is not written over.
///
/// # Errors
/// `to` is there already, another program is making it, or the disk does not take it.
pub(super) fn make(to: &Path, copy: impl FnOnce(&str) -> Result<(), StoreFault>) -> Result<(), StoreFault> {
    if to.symlink_metadata().is_ok() {
        return Err(StoreFault::Unavailable(format!("{} is there already", to.display())));
    }
    let beside = file::beside(to, UNFINISHED);
    let path = beside.to_str().ok_or_else(|| StoreFault::Unavailable("the path is not UTF-8".to_owned()))?;
    let made = begin(&beside)?;
    let copied = copy(path).and_then(|()| {
        let named = made.sync_all().and_then(|()| give_name(&beside, to)).and_then(|()| file::sync_folder(to));
        named.map_err(|error| file::fault(to, &error))
    });
    if copied.is_err() {
        // Half a copy is none.
        let _may_be_gone = fs::remove_file(&beside);
    }
    copied
}

/// An empty file for its owner alone. Made here and not by SQLite, so that nobody else can read it at any moment. One that a killed program has left is
/// begun anew; one that is being written is told by its lock.
fn begin(beside: &Path) -> Result<File, StoreFault> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside);
    let made = opened.map_err(|error| file::fault(beside, &error))?;
    match made.try_lock() {
        Ok(()) => made.set_len(0).map_err(|error| file::fault(beside, &error))?,
        Err(TryLockError::WouldBlock) => {
            return Err(StoreFault::Locked(format!("{} is being written", beside.display())));
        }
        Err(TryLockError::Error(error)) => return Err(file::fault(beside, &error)),
    }
    Ok(made)
}

/// In one step, and not over what has come there meanwhile.
fn give_name(beside: &Path, to: &Path) -> std::io::Result<()> {
    match fs::hard_link(beside, to) {
        Ok(()) => fs::remove_file(beside),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(error),
        // A file system without second names.
        Err(_) => fs::rename(beside, to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_its_name_a_copy_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copy.db");
        let beside = folder.path().join("copy.db.unfinished");
        // As a program leaves it that is killed amid its copy.
        fs::write(&beside, "half").unwrap();
        make(&to, |path| {
            assert_eq!((fs::read(path).unwrap(), to.exists()), (Vec::new(), false));
            let meanwhile = make(&to, |_| panic!("written by two"));
            assert!(matches!(meanwhile, Err(StoreFault::Locked(_))), "{meanwhile:?}");
            fs::write(path, "whole").map_err(|error| file::fault(&beside, &error))
        })
        .unwrap();
        assert_eq!((fs::read(&to).unwrap(), beside.exists()), (b"whole".to_vec(), false));
        assert!(make(&to, |_| panic!("what is there is written over")).is_err());
        let other = folder.path().join("other.db");
        assert!(make(&other, |_| Err(StoreFault::Full("no room".to_owned()))).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "half a copy is none");
    }
}
