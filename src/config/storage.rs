//! `[storage]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::config::secret::{EXPECTED, Reference, read_small_file};
use crate::keys::secret::Pepper;
use crate::ledger;
use crate::store::{Backend, PepperSource, Settings};

pub(super) const NAMES: Names = &["url", "pepper", "ledger_window", "journal_size", "records_kept"];

/// Reads the section.
pub(super) fn read(root: &Table<'_>) -> Settings {
    let storage = root.section("storage", NAMES);
    let backend = storage.get("url").and_then(|item| read_url(&item));
    let pepper = storage.get("pepper").and_then(|item| read_pepper(&item));
    Settings {
        backend: backend.unwrap_or_else(|| Backend::Sqlite(storage.reader.resolve("data/keyward.db"))),
        pepper: pepper.unwrap_or_else(|| PepperSource::File(storage.reader.resolve("data/pepper"))),
    }
}

/// Reads what the section says of the ledger.
pub(super) fn read_ledger(root: &Table<'_>) -> ledger::Settings {
    let storage = root.section("storage", NAMES);
    let default = ledger::Settings::default();
    let (millisecond, hour) = (Duration::from_millis(1), Duration::from_secs(3_600));
    let window = storage.duration_or("ledger_window", default.window, millisecond..=60_000 * millisecond);
    let size = storage.size_or("journal_size", default.journal_size as u64, 1 << 20..=1 << 32);
    let records_kept = storage.duration_or("records_kept", default.records_kept, hour..=876_000 * hour);
    ledger::Settings { window, journal_size: usize::try_from(size).unwrap_or(default.journal_size), records_kept }
}

/// A database URL may carry a password, so it is never told.
fn read_url(item: &Item<'_>) -> Option<Backend> {
    let text = item.value.as_str().unwrap_or_default();
    if ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme)) {
        item.fault_unseen("this version does not offer Postgres yet; \"sqlite:PATH\" is expected");
        return None;
    }
    let path = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
    let file = path.filter(|path| !path.is_empty() && !path.contains(['?', '\0']) && *path != ":memory:");
    if file.is_none() {
        item.fault_unseen("is not \"sqlite:PATH\" with the path of a file");
    }
    file.map(|file| Backend::Sqlite(item.reader.resolve(file)))
}

fn read_pepper(item: &Item<'_>) -> Option<PepperSource> {
    match item.reference()? {
        Reference::File("") => {
            item.fault_unseen("what follows \"file:\" is empty; the path of a file is expected");
            None
        }
        Reference::File(path) => read_pepper_file(item, item.reader.resolve(path)),
        Reference::Env(_) | Reference::Clear(_) => {
            let secret = item.secret()?;
            let pepper = Pepper::new(secret.as_bytes()).ok();
            if pepper.is_none() {
                item.fault_unseen(format!("is shorter than {} bytes; {EXPECTED} is expected", Pepper::SHORTEST));
            }
            pepper.map(PepperSource::Given)
        }
    }
}

/// The file may be missing: the first start makes it. One that is there must do.
fn read_pepper_file(item: &Item<'_>, path: PathBuf) -> Option<PepperSource> {
    let is_missing = path.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if !is_missing {
        match read_small_file(&path) {
            Ok(bytes) if bytes.len() < Pepper::SHORTEST => {
                let least = Pepper::SHORTEST;
                item.fault_unseen(format!("the file {path:?} is shorter than {least} bytes"));
                return None;
            }
            Ok(_) => {}
            Err(problem) => {
                item.fault_unseen(format!("the file {path:?} {problem}"));
                return None;
            }
        }
    }
    Some(PepperSource::File(path))
}
