//! What outlives the process, opened: the store's keys into the table, what they used into their limits, and the ledger.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::holds::Holds;
use crate::app::open::StartFault;
use crate::app::pepper;
use crate::app::time_mark::TimeMark;
use crate::clock::Clock;
use crate::keys::change::{ChangeRefused, KeyChange, Source};
use crate::keys::secret::{Digester, Pepper};
use crate::keys::table::{KeyTable, Remembered};
use crate::ledger::{self, Counted, Hold, Ledger, LedgerFault, Opening};
use crate::store::embedded::{Embedded, Glance};
use crate::store::{self, Backend, KeyState, PepperSource, Store, StoreFault, StoredKey, Switch, Write};
use crate::telemetry::metrics::LedgerMetrics;
use crate::units::KeyId;

/// Keys put into the table in one step.
const BATCH: usize = 10_000;

/// Why what outlives the process cannot be opened; the program does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum BooksFault {
    /// The store.
    #[error("{path}: {fault}{}", advice(fault))]
    Store {
        /// Where it is.
        path: String,
        /// What is wrong.
        fault: StoreFault,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// The pepper is not the one that the keys were kept under.
    #[error("{path}: its keys were made with another pepper; let [storage] pepper be the one that belongs to it")]
    OtherPepper {
        /// Where it is.
        path: String,
    },
    /// There is no pepper, and keys were kept under one: another would recognise none of them.
    #[error(
        "{path}: its keys were made with a pepper that is not there any more; put back what [storage] pepper names, from its \
         backup or by mounting it"
    )]
    NoPepper {
        /// Where it is.
        path: String,
    },
    /// A copy cannot be made or taken.
    #[error("{path}: {why}")]
    Copy {
        /// Of which file.
        path: String,
        /// Why.
        why: String,
    },
    /// Two keys want one secret.
    #[error("the keys of the store: {0}")]
    Keys(#[from] ChangeRefused),
}

/// What an operator can do about it.
fn advice(fault: &StoreFault) -> &'static str {
    match fault {
        StoreFault::Full(_) => "; make room on its disk",
        StoreFault::ReadOnly(_) => "; let this user write the file and its folder, or let [storage] url name another",
        StoreFault::Locked(_) => "; end the other program that holds it",
        StoreFault::Damaged(_) => "; restore it from a backup (keyward store restore)",
        StoreFault::Newer { .. } => "; start the newer version, or restore a backup made before it",
        _ => "",
    }
}

/// What the ledger is opened with.
#[derive(Debug)]
pub struct LedgerOpening {
    /// The right to the store.
    pub hold: Hold,
    /// What every key has used is told there.
    pub keys: Arc<KeyTable>,
    /// How the ledger works.
    pub settings: ledger::Settings,
    /// Tells the time.
    pub clock: Clock,
    /// Counts what becomes of entries.
    pub metrics: LedgerMetrics,
    /// What the process before holds of quotas.
    pub holds: Arc<Holds>,
    /// Whether the store is left as it is until the ledger is resumed.
    pub is_paused: bool,
}

/// The store, opened.
#[derive(Debug, Clone)]
pub struct Books {
    /// The store.
    pub store: Arc<Switch>,
    path: PathBuf,
}

impl Books {
    /// Opens the store that the configuration names, made when missing.
    ///
    /// # Errors
    /// It cannot be opened or made.
    pub fn open(settings: &store::Settings) -> Result<Self, BooksFault> {
        let Backend::Sqlite(path) = &settings.backend;
        let fault = |fault| BooksFault::Store { path: path.display().to_string(), fault };
        let store = Switch::new(Arc::new(Embedded::open(path).map_err(fault)?));
        Ok(Self { store: Arc::new(store), path: path.clone() })
    }

    /// Takes the right to be the one program on it, which whatever is made or changed at a start is made under.
    ///
    /// # Errors
    /// Another program has it, or the folder of the journals cannot be made.
    pub fn hold(&self) -> Result<Hold, BooksFault> {
        Ok(Hold::take(&Self::journals_of(&self.path))?)
    }

    /// Opens the store again after it was closed.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn reopen(&self) -> Result<(), BooksFault> {
        let store = Embedded::open(&self.path).map_err(|fault| self.fault(fault))?;
        self.store.open(Arc::new(store));
        Ok(())
    }

    /// The pepper to be used with it: the one there is, and a new one only for a store that has never had one.
    ///
    /// # Errors
    /// It is gone, cannot be read or made, or the store cannot be read.
    pub fn pepper(&self, source: &PepperSource) -> Result<Pepper, StartFault> {
        if let Some(pepper) = pepper::existing(source)? {
            return Ok(pepper);
        }
        match self.store.pepper_mark().map_err(|fault| self.fault(fault))? {
            Some(_) => Err(BooksFault::NoPepper { path: self.path.display().to_string() }.into()),
            None => Ok(pepper::load(source)?),
        }
    }

    /// Makes sure that its keys are those of this pepper: under another one nobody's secret would be recognised. The first pepper it meets is
    /// the one.
    ///
    /// # Errors
    /// It is another one, or the store cannot be read.
    pub fn recognise(&self, digester: &Digester) -> Result<(), BooksFault> {
        let mark = mark(digester);
        match self.store.pepper_mark().map_err(|fault| self.fault(fault))? {
            Some(known) if known == mark => Ok(()),
            Some(_) => Err(BooksFault::OtherPepper { path: self.path.display().to_string() }),
            None => self.store.write(Write::PepperMark(mark)).map(drop).map_err(|fault| self.fault(fault)),
        }
    }

    /// Puts the keys that the admin API has made into the table. Those that were declared by file when the program last ran are not among them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load_keys(&self, keys: &KeyTable) -> Result<(), BooksFault> {
        let filled = fill(keys, |put| self.store.load_keys(put)).map_err(|fault| self.fault(fault))?;
        Ok(filled?)
    }

    /// The same for a table that is only to be compared with something: the store is looked at and not opened, and need not be there. Where it is not to
    /// be looked at from here, which says nothing of a start by another user, says why.
    ///
    /// # Errors
    /// No program can start on it. `digester` is that of the pepper, where there is one.
    pub fn glance(
        settings: &store::Settings,
        digester: Option<&Digester>,
        keys: &KeyTable,
    ) -> Result<Option<String>, BooksFault> {
        let Backend::Sqlite(path) = &settings.backend;
        let shown = path.display().to_string();
        let look = || {
            let Some(glance) = Glance::at(path)? else { return Ok(None) };
            let filled = fill(keys, |put| glance.load_keys(put))?;
            Ok(Some((filled, glance.pepper_mark()?)))
        };
        if !path.exists() {
            return Ok(None);
        }
        match look() {
            Ok(Some((filled, known))) => {
                filled?;
                match (known, digester.map(mark)) {
                    (Some(_), None) => Err(BooksFault::NoPepper { path: shown }),
                    (Some(known), Some(own)) if known != own => Err(BooksFault::OtherPepper { path: shown }),
                    _ => Ok(None),
                }
            }
            Ok(None) => Ok(Some(format!("{shown}: the store is brought up to this version by the next start"))),
            Err(fault @ (StoreFault::Damaged(_) | StoreFault::Newer { .. })) => {
                Err(BooksFault::Store { path: shown, fault })
            }
            Err(fault) => Ok(Some(format!("{shown}: {fault}"))),
        }
    }

    /// Opens the ledger beside the store, and tells the table what every key has used: what the store knows of it, and what other processes have
    /// left in their journals, now and later. To be called when all keys are in the table and before the first request.
    ///
    /// # Errors
    /// The store cannot be read, or the journals.
    pub fn open_ledger(&self, opening: LedgerOpening) -> Result<Ledger, BooksFault> {
        let LedgerOpening { hold, keys, settings, clock, metrics, holds, is_paused } = opening;
        let mut states: Vec<(KeyId, KeyState)> = Vec::new();
        self.store.load_states(&mut |id, state| states.push((id, state))).map_err(|fault| self.fault(fault))?;
        for (id, state) in states {
            keys.restore(id, &remembered(state));
        }
        let store: Arc<dyn Store> = Arc::<Switch>::clone(&self.store);
        let counted = Counted::by(move |entry| {
            let previous = entry.previous_secret.map(|tag| (tag, u64::from(entry.requests)));
            keys.count_elsewhere(entry.key, entry.counted(), entry.at_unix_ms, previous);
            holds.settled(entry.key, entry.units);
        });
        Ok(Ledger::open(Opening { hold, settings, store, clock, metrics, counted, is_paused })?)
    }

    /// Where the latest time that was certain is kept.
    pub fn time_mark(&self) -> TimeMark {
        TimeMark::beside(&Self::place_of(&self.path))
    }

    /// Where the journals of the store at `path` are: beside the file itself, whatever links lead to it.
    pub fn journals_of(path: &Path) -> PathBuf {
        Self::place_of(path).with_added_extension("ledger")
    }

    /// Where the file of the store at `path` itself is, whatever links lead to it; or would be, where it is gone and a link to it is not.
    pub fn place_of(path: &Path) -> PathBuf {
        path.canonicalize().unwrap_or_else(|_| {
            let mut place = path.to_owned();
            // As many as the system follows (path_resolution(7)).
            for _ in 0..40 {
                let Ok(goal) = fs::read_link(&place) else { break };
                place = place.parent().unwrap_or(Path::new("")).join(goal);
            }
            place
        })
    }

    /// At the end of a program: leaves all that is kept in the one file, as somebody who copies it would think. Else it is in the log beside
    /// it, and nothing is amiss.
    pub fn gather(&self) {
        if let Err(fault) = Embedded::gather(&self.path) {
            tracing::info!(%fault, "the store's log stays beside it");
        }
    }

    /// The store that the configuration names, which must be there, whether or not a program runs on it.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub(super) fn existing(settings: &store::Settings) -> Result<Self, BooksFault> {
        let Backend::Sqlite(path) = &settings.backend;
        if path.exists() {
            return Self::open(settings);
        }
        let fault = StoreFault::Unavailable("there is no such file".to_owned());
        Err(BooksFault::Store { path: path.display().to_string(), fault })
    }

    /// How many entries are in journals beside it and not in the store yet.
    ///
    /// # Errors
    /// They or the store cannot be read.
    pub(super) fn pending(&self) -> Result<u64, BooksFault> {
        let drained = self.store.drained().map_err(|fault| self.fault(fault))?;
        Ok(ledger::pending(&Self::journals_of(&self.path), &drained)?)
    }

    /// What is wrong with it, and what an operator can do about it.
    pub(super) fn fault(&self, fault: StoreFault) -> BooksFault {
        BooksFault::Store { path: self.path.display().to_string(), fault }
    }
}

/// What a store knows a pepper by.
pub(super) fn mark(digester: &Digester) -> [u8; 32] {
    digester.keyed("the mark by which a pepper is recognised", &[])
}

/// Puts those of the keys that `load` gives into the table which the admin API has made.
fn fill(
    keys: &KeyTable,
    load: impl FnOnce(&mut dyn FnMut(StoredKey)) -> Result<(), StoreFault>,
) -> Result<Result<(), ChangeRefused>, StoreFault> {
    let (mut changes, mut refused) = (Vec::new(), Ok(()));
    load(&mut |key| {
        if key.record.source == Source::Api {
            changes.push(KeyChange::Put(Box::new(key.record)));
            if changes.len() >= BATCH && refused.is_ok() {
                refused = keys.apply_all(std::mem::take(&mut changes));
            }
        }
    })?;
    Ok(refused.and_then(|()| keys.apply_all(changes)))
}

fn remembered(state: KeyState) -> Remembered {
    let previous = state.old_secrets.into_iter().map(|secret| (secret.digest, secret.uses, secret.last_used_ms));
    Remembered { quota: state.counted, last_used_unix_ms: state.last_used_ms, previous: previous.collect() }
}

/// What a look at the books from outside finds.
#[derive(Debug)]
pub struct Audit {
    /// The store's, recomputed.
    pub books: store::Books,
    /// Entries in journals that are not in the store yet: of a running program, or left behind by a killed one.
    pub pending: u64,
}

/// Recomputes the books of the store that the configuration names, whether or not a program runs on it.
///
/// # Errors
/// There is no store, or it cannot be read.
pub fn audit(settings: &store::Settings) -> Result<Audit, BooksFault> {
    let books = Books::existing(settings)?;
    // The journals first: what is drained meanwhile is then in both, and counted as pending once too often rather than missed.
    let pending = books.pending()?;
    Ok(Audit { books: books.store.books().map_err(|fault| books.fault(fault))?, pending })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_stores_file_alone_is_the_store_once_it_is_gathered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyward.db");
        let settings = settings(&path);
        let books = Books::open(&settings).unwrap();
        books.store.write(Write::PepperMark([7; 32])).unwrap();
        let copied = |name: &str| {
            let to = folder.path().join(name);
            fs::copy(&path, &to).unwrap();
            Embedded::open_filled(&to).ok().and_then(|copy| copy.pepper_mark().unwrap())
        };
        assert_eq!(copied("early.db"), None);
        // Others that have it open are in nobody's way.
        assert!(books.store.pepper_mark().unwrap().is_some());
        books.gather();
        assert_eq!(copied("late.db"), Some([7; 32]));
    }

    fn settings(path: &Path) -> store::Settings {
        let pepper = store::PepperSource::File(path.with_file_name("pepper"));
        store::Settings { backend: Backend::Sqlite(path.to_owned()), pepper }
    }
}
