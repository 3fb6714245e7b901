//! The latest time that was certain, kept beside the store: a process that starts with its clock set back does not go back with it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::app::whole_file;
use crate::clock::{Clock, Lead, Mark};
use crate::proxy::Plane;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after which the mark is written.
const LOOKS_BETWEEN_MARKS: u32 = 60;

/// Where the mark is.
#[derive(Debug, Clone)]
pub struct TimeMark {
    path: PathBuf,
    /// The last that was written: what a process that waits has to say does not take it back.
    written: Arc<Mutex<i64>>,
}

impl TimeMark {
    /// Of the store whose file is `store`.
    pub fn beside(store: &Path) -> Self {
        Self { path: store.with_added_extension("clock"), written: Arc::new(Mutex::new(i64::MIN)) }
    }

    /// The mark; `None` where there is none, or none that can be read.
    pub fn read(&self) -> Option<Mark> {
        match fs::read_to_string(&self.path) {
            Ok(text) => {
                let mark = text.parse().ok();
                if mark.is_none() {
                    tracing::error!(path = %self.path.display(), "the mark of the latest time cannot be read; the clock is believed");
                }
                mark
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the mark of the latest time cannot be read; the clock is believed");
                None
            }
        }
    }

    /// Writes it, if it is not earlier than the last; whole or not at all.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write(&self, mark: &Mark) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if mark.unix_ms < *written {
            return Ok(());
        }
        whole_file::replace(&self.path, &format!("{mark}\n"), 0o600)?;
        *written = mark.unix_ms;
        Ok(())
    }

    /// Writes what the clock says is certain.
    pub fn note(&self, clock: &Clock) {
        if let Some(mark) = clock.mark()
            && let Err(error) = self.write(&mark)
        {
            tracing::warn!(path = %self.path.display(), %error, "the mark of the latest time is not written");
        }
    }
}

/// What this run of the system is known by; `None` where it does not tell.
pub fn boot() -> Option<String> {
    let told = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(told.trim_end().to_owned()).filter(|boot| !boot.is_empty() && !boot.contains(char::is_whitespace))
}

/// Looks after the clock, and keeps the mark while the store is this process's, until the program ends.
pub async fn watch(plane: Arc<Plane>, mark: TimeMark, is_ours: impl Fn() -> bool) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut until_mark) = (Lead::None, 0);
    loop {
        looks.tick().await;
        let lead = plane.clock.keep();
        tell(before, lead);
        before = lead;
        plane.metrics.clock_lead_seconds.set(match lead {
            Lead::None => 0,
            Lead::Ahead(ms) => ms / 1_000,
            Lead::Behind(ms) => -ms / 1_000,
        });
        if until_mark == 0 && is_ours() {
            until_mark = LOOKS_BETWEEN_MARKS;
            let (mark, clock) = (mark.clone(), plane.clock.clone());
            // Its end is nobody's concern: the next one comes in a minute.
            drop(tokio::task::spawn_blocking(move || mark.note(&clock)));
        }
        until_mark = until_mark.saturating_sub(1);
    }
}

fn tell(before: Lead, lead: Lead) {
    match (before, lead) {
        (Lead::Ahead(_), Lead::Ahead(_)) | (Lead::Behind(_), Lead::Behind(_)) | (Lead::None, Lead::None) => {}
        (_, Lead::None) => tracing::info!("the wall clock is as it should be"),
        (_, Lead::Ahead(ms)) => tracing::warn!(
            ms,
            "the wall clock was set forward; what expires by it expires, and it is believed for good in an hour"
        ),
        (_, Lead::Behind(ms)) => tracing::error!(
            ms,
            "the wall clock is behind the latest time that was certain, and is not believed: expiry and quota periods go on by that. If \
             it is right, end the program and remove the file whose name ends in .clock beside the store"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_mark_only_rises_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = TimeMark::beside(&folder.path().join("keyward.db"));
        assert_eq!(file.read(), None);
        let [later, earlier] = [1_000, 500].map(|unix_ms| Mark { unix_ms, at: None });
        file.write(&later).unwrap();
        file.write(&earlier).unwrap();
        assert_eq!(file.read(), Some(later));
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file.path, "tomorrow").unwrap();
        assert_eq!(file.read(), None);
    }
}
