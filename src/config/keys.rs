//! `keys.toml`: keys declared by file.

mod entry;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use uuid::Uuid;

use crate::config::fault::{Fault, Faults, Place};
use crate::config::item::Item;
use crate::config::raw::{self, Names, Table};
use crate::config::read_file;
use crate::policy::KeyPolicy;

pub(super) const NAMES: Names = &["keys"];

pub(super) const KEY_NAMES: Names = &[
    "name",
    "id",
    "key",
    "key_hash",
    "previous",
    "org_id",
    "team_id",
    "models_allowed",
    "endpoints_allowed",
    "rpm_limit",
    "tpm_limit",
    "max_parallel",
    "quota_limit",
    "quota_reset",
    "allowed_ips",
    "expires_at",
    "is_sandbox",
    "on_disconnect",
    "disabled",
    "created_at",
    "metadata",
];

pub(super) const PREVIOUS_NAMES: Names = &["key_hash", "until"];

/// One key of the file, checked: what a key record is made of. Neither the secret nor its hash is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct FileKey {
    /// What it may do. Its id is the file's, or made from the name, so that it outlives reloads and rotations.
    pub policy: KeyPolicy,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// SHA-256 of secrets that go on working, and until when (exclusive), milliseconds since 1970.
    pub previous: Vec<([u8; 32], i64)>,
    /// When it was made, where the file says so, milliseconds since 1970.
    pub created_at_ms: Option<i64>,
    /// Up to 16 pairs that are the operator's own, in the order of their names.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// Line of the file.
    pub line: usize,
    /// What is allowed but unwise.
    pub warnings: Vec<Fault>,
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until: Vec<i64> = self.previous.iter().map(|(_, until)| *until).collect();
        f.debug_struct("FileKey")
            .field("policy", &self.policy)
            .field("previous_until", &until)
            .field("created_at_ms", &self.created_at_ms)
            .field("metadata", &self.metadata)
            .field("line", &self.line)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Reads and checks a `keys.toml`. `env` gives the environment's variables.
///
/// # Errors
/// Every fault of the file, or why it could not be read.
pub fn load_keys(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<FileKey>, Faults> {
    parse_keys(&read_file(path)?, path, env)
}

/// Checks the text of a `keys.toml`. `origin` names it in faults; relative paths are relative to its directory. A text
/// without `keys` is a fault, not an empty list: it may be a file caught half written, and would take every key away.
///
/// # Errors
/// Every fault.
pub fn parse_keys(text: &str, origin: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<FileKey>, Faults> {
    read_in_parts(text, origin, env).map_or_else(|| read_whole(text, origin, env), Ok)
}

fn read_whole(text: &str, origin: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<FileKey>, Faults> {
    let vocabulary = || vec![NAMES, KEY_NAMES, PREVIOUS_NAMES];
    let mut read_whole = Entries::default();
    let ((), warnings) = raw::read_document(text, origin, env, NAMES, &vocabulary, |root| read_whole.read(root))?;
    let mut keys = read_whole.keys;
    // Warnings come in the order of the keys.
    let mut index = 0;
    for warning in warnings {
        let line = warning.place.map_or(0, |place| place.line);
        while keys.get(index + 1).is_some_and(|next| next.line <= line) {
            index += 1;
        }
        if let Some(key) = keys.get_mut(index) {
            key.warnings.push(warning);
        }
    }
    Ok(keys)
}

/// Bytes of a large file that are read at a time, or a few more.
const PART: usize = 256 * 1024;

/// Reads a large file entry by entry: as one document it would take twenty times its size in memory while it is read. `None` for a small
/// one, and for one of which there is anything to say: what that is, only the whole tells.
fn read_in_parts(text: &str, origin: &Path, env: &dyn Fn(&str) -> Option<String>) -> Option<Vec<FileKey>> {
    // Where this stands inside of something, the part before it is not whole.
    let header = memchr::memmem::Finder::new("\n[[keys]]");
    let (mut rest, mut lines_before) = (text, 0);
    let mut entries = Entries::default();
    if text.len() > PART {
        entries.keys.reserve(header.find_iter(text.as_bytes()).count() + 1);
    }
    while rest.len() > PART {
        let Some(at) = rest.as_bytes().get(PART..).and_then(|behind| header.find(behind)) else { break };
        let (part, behind) = rest.split_at_checked(PART + at + 1)?;
        raw::read_part(part, lines_before, origin, env, NAMES, |root| entries.read(root))?;
        lines_before += memchr::memchr_iter(b'\n', part.as_bytes()).count();
        rest = behind;
    }
    if lines_before == 0 {
        return None;
    }
    raw::read_part(rest, lines_before, origin, env, NAMES, |root| entries.read(root))?;
    Some(entries.keys)
}

/// The entries read so far.
#[derive(Default)]
struct Entries {
    keys: Vec<FileKey>,
    seen: Seen,
    count: usize,
}

impl Entries {
    fn read(&mut self, root: &Table<'_>) {
        if !root.has("keys") {
            root.fault_of("keys", "is missing: [[keys]] entries are required, or keys = [] for none".to_owned());
        }
        let before = self.count;
        root.tables("keys", KEY_NAMES, |index, table| {
            self.count = before + index + 1;
            self.keys.extend(entry::read(before + index, table, &mut self.seen));
        });
    }
}

/// What no two keys may share, each with where it stood first.
#[derive(Default)]
struct Seen {
    names: HashMap<Box<str>, First>,
    ids: HashMap<Uuid, First>,
    secrets: HashMap<[u8; 32], First>,
}

#[derive(Clone, Copy)]
struct First {
    index: usize,
    place: Place,
    is_derived: bool,
}

impl Seen {
    fn name(&mut self, index: usize, item: &Item<'_>, name: &str) {
        let here = First { index, place: item.place(), is_derived: false };
        if let Some(first) = self.names.get(name) {
            item.fault(format!("{name:?} is the name of {} already", first.told(index)));
        } else {
            self.names.insert(name.into(), here);
        }
    }

    fn id(&mut self, index: usize, item: &Item<'_>, id: Uuid) {
        let here = First { index, place: item.place(), is_derived: false };
        let first = *self.ids.entry(id).or_insert(here);
        if first.index != index {
            item.fault(format!("the id {id} is that of {} already", first.told(index)));
        }
    }

    /// An id made from a name: two alike come from two names alike, which is told already.
    fn id_of_name(&mut self, index: usize, item: &Item<'_>, id: Uuid) {
        let is_told = self.ids.get(&id).is_none_or(|first| first.is_derived);
        if is_told {
            self.ids.entry(id).or_insert(First { index, place: item.place(), is_derived: true });
        } else {
            self.id(index, item, id);
        }
    }

    fn secret(&mut self, index: usize, item: &Item<'_>, sha256: [u8; 32]) {
        let here = First { index, place: item.place(), is_derived: false };
        if let Some(first) = self.secrets.get(&sha256) {
            item.fault_unseen(format!("is the same secret as that of {}", first.told(index)));
        } else {
            self.secrets.insert(sha256, here);
        }
    }
}

impl First {
    fn told(self, from: usize) -> String {
        match self.index == from {
            true => format!("this key (line {})", self.place.line),
            false => format!("keys[{}] (line {})", self.index, self.place.line),
        }
    }
}
