//! Secrets: `env:NAME`, `file:PATH`, or in clear. What they hold goes into no fault and no warning.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::config::item::Item;

/// The largest file a secret is read from, bytes.
const LARGEST_FILE: u64 = 64 * 1024;

/// What a secret looks like, for faults.
pub(super) const EXPECTED: &str = "\"env:NAME\" or \"file:PATH\"";

/// Where a secret stands.
pub(super) enum Reference<'a> {
    /// In a variable of the environment.
    Env(&'a str),
    /// In a file.
    File(&'a str),
    /// In the configuration itself.
    Clear(&'a str),
}

impl<'a> Item<'a> {
    /// Where the secret stands; a value that is no string is a fault.
    pub fn reference(&self) -> Option<Reference<'a>> {
        let Some(text) = self.value.as_str() else {
            self.fault_unseen(format!("{} is not a secret: {EXPECTED} is expected", self.kind()));
            return None;
        };
        Some(match (text.strip_prefix("env:"), text.strip_prefix("file:")) {
            (Some(name), _) => Reference::Env(name),
            (_, Some(path)) => Reference::File(path),
            _ => Reference::Clear(text),
        })
    }

    /// The secret itself, never empty. One in clear is a warning.
    pub fn secret(&self) -> Option<Zeroizing<String>> {
        match self.reference()? {
            Reference::Env(name) => self.secret_of_env(name),
            Reference::File(path) => self.secret_of_file(path),
            Reference::Clear(text) => self.secret_in_clear(text),
        }
    }

    fn secret_of_env(&self, name: &str) -> Option<Zeroizing<String>> {
        let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            self.fault_unseen("what follows \"env:\" is not the name of an environment variable");
            return None;
        }
        match self.reader.env(name).map(Zeroizing::new) {
            None => self.fault_unseen(format!("the environment variable {name} is not set")),
            Some(value) if value.is_empty() => self.fault_unseen(format!("the environment variable {name} is empty")),
            Some(value) => return Some(value),
        }
        None
    }

    fn secret_of_file(&self, path: &str) -> Option<Zeroizing<String>> {
        if path.is_empty() {
            self.fault_unseen("what follows \"file:\" is empty; the path of a file is expected");
            return None;
        }
        let path = self.reader.resolve(path);
        let bytes = match read_small_file(&path) {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.fault_unseen(format!("the file {path:?} {problem}"));
                return None;
            }
        };
        let text = std::str::from_utf8(&bytes).ok().map(|text| text.strip_suffix('\n').unwrap_or(text));
        match text.map(|text| text.strip_suffix('\r').unwrap_or(text)) {
            None => self.fault_unseen(format!("the file {path:?} is not text")),
            Some("") => self.fault_unseen(format!("the file {path:?} is empty")),
            Some(text) => return Some(Zeroizing::new(text.to_owned())),
        }
        None
    }

    fn secret_in_clear(&self, text: &str) -> Option<Zeroizing<String>> {
        if text.is_empty() {
            self.fault_unseen(format!("is empty; {EXPECTED} is expected"));
            return None;
        }
        if text.starts_with('$') {
            self.fault_unseen("variables are not expanded here; write \"env:NAME\"");
            return None;
        }
        self.warn_unseen(format!("the secret stands in this file in clear; {EXPECTED} keeps it out"));
        Some(Zeroizing::new(text.to_owned()))
    }
}

/// A file to read from. Anything else (a pipe, a device) could have no end, or nothing to say for ever: reading it would hold up every change of
/// a key.
///
/// # Errors
/// It is none, or the system's.
pub(super) fn open_regular(path: &Path) -> std::io::Result<File> {
    // Of a regular file that changes nothing; the opening of a pipe would wait.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(std::io::ErrorKind::IsADirectory.into()),
        false => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// A regular file's bytes; what is wrong with it otherwise.
pub(super) fn read_small_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let told = |error: std::io::Error| format!("cannot be read: {}", reason(&error));
    let mut bytes = Zeroizing::new(Vec::new());
    open_regular(path).map_err(told)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("is larger than {LARGEST_FILE} bytes"));
    }
    Ok(bytes)
}

/// An I/O error in words that do not change from one release of the standard library to the next.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
