//! The pepper: made at the first start, read at every later one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::keys::secret::Pepper;
use crate::store::PepperSource;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum PepperFault {
    /// The file could not be read or made.
    #[error(
        "{path}: {error}; the pepper is what stored keys are recognised by, so the program cannot start without it: let \
         [storage] pepper name a file that this user can read, or a folder where it can make one, such as \"file:/data/pepper\""
    )]
    File {
        /// Which file.
        path: String,
        /// What happened.
        error: io::Error,
    },
    /// It is too short to be a secret.
    #[error(
        "{path}: holds fewer than {minimum} bytes; restore the file the keys were made with, or remove it to make a new one"
    )]
    Short {
        /// Which file.
        path: String,
        /// The least.
        minimum: usize,
    },
}

/// The pepper `source` names; a missing file is made, readable by its owner alone.
///
/// # Errors
/// A file that cannot be read or made, or is too short.
pub fn load(source: &PepperSource) -> Result<Pepper, PepperFault> {
    match source {
        PepperSource::Given(pepper) => Ok(pepper.clone()),
        PepperSource::File(path) => {
            let fault = |error| PepperFault::File { path: path.display().to_string(), error };
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(fault)?,
                Err(error) => return Err(fault(error)),
            };
            warn_when_readable(path);
            let short = || PepperFault::Short { path: path.display().to_string(), minimum: Pepper::SHORTEST };
            Pepper::new(bytes.trim_ascii_end()).map_err(|_| short())
        }
    }
}

/// The same without making anything: `None` where `load` would make one.
///
/// # Errors
/// As those of `load`.
pub fn existing(source: &PepperSource) -> Result<Option<Pepper>, PepperFault> {
    match source {
        PepperSource::File(path) if !path.exists() => Ok(None),
        other => load(other).map(Some),
    }
}

fn make(path: &Path) -> io::Result<Vec<u8>> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let text = Pepper::generate().expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    // Written beside and given its name when it is whole: a crash leaves either no pepper or a whole one.
    let beside = path.with_added_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    let named = fs::hard_link(&beside, path);
    let text = match named {
        Ok(()) => text,
        // Programs on other stores may share the file: the first of them has made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read(path)?,
        // A file system without second names.
        Err(_) => fs::rename(&beside, path).map(|()| text)?,
    };
    let _renamed = fs::remove_file(&beside);
    // Keys are made under it: they must not outlive it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()?;
    Ok(text)
}

fn warn_when_readable(path: &Path) {
    if let Ok(found) = fs::metadata(path)
        && found.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(path = %path.display(), "the pepper can be read by others; chmod 600 it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_and_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let source = PepperSource::File(folder.path().join("data/pepper"));
        assert!(existing(&source).unwrap().is_none());
        assert!(!folder.path().join("data").exists(), "a check makes nothing");
        let first = load(&source).unwrap();
        assert!(first == load(&source).unwrap());
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("data/pepper"), mode("data")), (0o600, 0o700));
    }

    #[test]
    fn an_empty_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        fs::write(&path, "short").unwrap();
        assert!(load(&PepperSource::File(path.clone())).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }
}
