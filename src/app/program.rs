//! The running program, as operators ask it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::admin::{Program, Readiness};
use crate::app::reload::Reloader;
use crate::limits::{LimitSettings, QuotaCount};
use crate::policy::PriceTable;
use crate::proxy::Plane;
use crate::store::{Books, Mismatch, Store};
use crate::telemetry::Metrics;
use crate::units::{KeyId, Tokens};
use crate::upstream::Routes;

/// How often the books are read again where keys were used meanwhile.
const LOOKS: usize = 5;

/// How long an operator who reloads waits for the keys to be listed as they are in force.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// What the admin listener is told of the program.
#[derive(Debug)]
pub struct Running {
    /// The data plane.
    pub plane: Arc<Plane>,
    /// What its ledger drains into.
    pub store: Arc<dyn Store>,
    /// What reloads; `None` for a program without files.
    pub reloader: Option<Arc<Reloader>>,
}

impl Readiness for Running {
    fn faults(&self) -> Option<Vec<String>> {
        self.reloader.as_ref()?.faults()
    }

    fn needs_restart(&self) -> Vec<String> {
        self.reloader.as_ref().map(|reloader| reloader.needs_restart()).unwrap_or_default()
    }

    fn is_draining(&self) -> bool {
        self.plane.is_draining.load(Ordering::Relaxed)
    }

    fn ejected(&self) -> Vec<String> {
        let live = self.plane.live.load();
        let told = live.routes.upstreams().iter().filter_map(|upstream| {
            let (all, ejected) = upstream.ejected();
            (ejected > 0).then(|| format!("{}: {ejected} of {all} endpoints", upstream.settings.name))
        });
        told.collect()
    }

    fn metrics(&self) -> &Metrics {
        &self.plane.metrics
    }
}

impl Program for Running {
    fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.plane.live.load().routes)
    }

    fn prices(&self) -> PriceTable {
        self.plane.live.load().prices.clone()
    }

    fn limit_settings(&self) -> LimitSettings {
        self.plane.live.load().limits
    }

    fn expected_output(&self, model: Option<&str>) -> Tokens {
        self.plane.estimator.output_default(model)
    }

    fn reload(&self) -> Result<(), Vec<String>> {
        match &self.reloader {
            Some(reloader) => {
                reloader.reload()?;
                if !reloader.until_listed(TOLD_WITHIN) {
                    tracing::info!("the keys of the file are in force, and not all of them listed yet");
                }
                Ok(())
            }
            None => Err(vec!["this program runs without configuration files".to_owned()]),
        }
    }

    fn flush_usage(&self) {
        if let Some(ledger) = &self.plane.ledger
            && let Err(fault) = ledger.flush()
        {
            tracing::warn!(%fault, "what was settled last is not in the store yet");
        }
    }

    fn verify_books(&self) -> Result<Books, String> {
        let mut verdict = self.look()?;
        for _ in 1..LOOKS {
            if verdict.busy == 0 {
                break;
            }
            verdict = self.look()?;
        }
        Ok(verdict.books)
    }
}

struct Verdict {
    books: Books,
    /// Keys that were used while the books were read, so that the two say nothing of each other.
    busy: usize,
}

impl Running {
    /// Compares what the limits enforce with what the store has counted, key by key.
    fn look(&self) -> Result<Verdict, String> {
        let before = self.enforced();
        self.plane.ledger.as_ref().map_or(Ok(()), |ledger| ledger.flush()).map_err(|fault| fault.to_string())?;
        let mut books = self.store.books().map_err(|fault| fault.to_string())?;
        let after = self.enforced();
        let counted: HashMap<KeyId, QuotaCount> = books.counts.iter().copied().collect();
        let mut busy = 0;
        for (id, enforced) in before {
            if after.get(&id) != Some(&enforced) {
                busy += 1;
                continue;
            }
            let recorded = counted.get(&id).copied().unwrap_or_default();
            // A period that was opened and in which nothing was settled yet is known to the limits alone.
            let expected = if enforced.since_day > recorded.since_day { 0 } else { recorded.used };
            if enforced.used != expected {
                let what = "enforced by the limits against counted by the store";
                books.mismatches.push(Mismatch { key: Some(id), what, counted: enforced.used, summed: expected });
            }
        }
        Ok(Verdict { books, busy })
    }

    fn enforced(&self) -> HashMap<KeyId, QuotaCount> {
        let entries = self.plane.keys.entries();
        entries.iter().filter_map(|entry| Some((entry.id(), entry.limits_if_used()?.quota_count()))).collect()
    }
}
