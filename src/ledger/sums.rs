//! What had no room in a journal, summed up in memory until the store takes it: every charge is kept, no longer each by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::policy::{DialectName, Endpoint};
use crate::store::{Entry, Outcome};
use crate::telemetry::metrics::LedgerMetrics;
use crate::units::KeyId;

const MS_PER_HOUR: i64 = 3_600_000;

/// Sums kept apart by model, call and hour; beyond that many they are kept by key alone.
const FINE: usize = 20_000;

/// Sums kept at all. What belongs to none of them beyond that is lost, and counted as lost.
const MOST: usize = 200_000;

/// What is summed up together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    key: KeyId,
    outcome: Outcome,
    since_day: i32,
    /// `None` once there are too many.
    fine: Option<Fine>,
}

/// What else is kept apart as long as it can be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Fine {
    hour: i64,
    model: Box<str>,
    dialect: DialectName,
    endpoint: Endpoint,
    previous_secret: Option<[u8; 8]>,
}

/// The sums.
#[derive(Debug)]
pub(super) struct Sums {
    kept: Mutex<HashMap<Group, Entry>>,
    metrics: LedgerMetrics,
}

impl Sums {
    pub(super) fn new(metrics: LedgerMetrics) -> Self {
        Self { kept: Mutex::default(), metrics }
    }

    /// Adds an entry to its sum.
    pub(super) fn add(&self, entry: &Entry<&str>) {
        let mut kept = self.kept();
        let mut group = Group { key: entry.key, outcome: entry.outcome, since_day: entry.since_day, fine: None };
        if kept.len() < FINE {
            group.fine = Some(Fine {
                hour: entry.at_unix_ms.div_euclid(MS_PER_HOUR),
                model: entry.model.into(),
                dialect: entry.dialect,
                endpoint: entry.endpoint,
                previous_secret: entry.previous_secret,
            });
        }
        if let Some(sum) = kept.get_mut(&group) {
            add(sum, entry);
        } else if kept.len() < MOST {
            let model = if group.fine.is_some() { entry.model } else { "" };
            kept.insert(group, Entry { request_id: "", model, ..entry.clone() }.to_owned_text());
        } else {
            self.metrics.lost.inc();
            return;
        }
        self.metrics.summed.inc();
    }

    /// Takes all sums out.
    pub(super) fn take(&self) -> Vec<Entry> {
        // Gone through outside of the lock: a worker may be waiting for it.
        let taken = std::mem::take(&mut *self.kept());
        taken.into_values().collect()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.kept().is_empty()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Group, Entry>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts are added, times are those of the latest.
fn add(sum: &mut Entry, entry: &Entry<&str>) {
    let (into, from) = (&mut sum.usage, &entry.usage);
    let counts = [
        (&mut into.input, from.input),
        (&mut into.cached_input, from.cached_input),
        (&mut into.cache_write, from.cache_write),
        (&mut into.output, from.output),
        (&mut into.reasoning, from.reasoning),
        (&mut into.audio_ms, from.audio_ms),
        (&mut sum.units, entry.units),
    ];
    for (count, more) in counts {
        *count = count.saturating_add(more);
    }
    into.estimated |= from.estimated;
    sum.requests = sum.requests.saturating_add(entry.requests);
    sum.at_unix_ms = sum.at_unix_ms.max(entry.at_unix_ms);
    sum.touched_day = sum.touched_day.max(entry.touched_day);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::frame::tests::entry;
    use crate::telemetry::Metrics;

    #[test]
    fn every_charge_is_in_a_sum() {
        let metrics = Metrics::new().ledger;
        let sums = Sums::new(metrics.clone());
        for n in 0..100 {
            sums.add(&Entry { model: if n % 2 == 0 { "a" } else { "b" }, ..entry(n % 3, 5) });
        }
        let taken = sums.take();
        assert_eq!(taken.len(), 6);
        assert_eq!(taken.iter().map(|sum| sum.units).sum::<u64>(), 500);
        assert_eq!(taken.iter().map(|sum| sum.requests).sum::<u32>(), 100);
        assert!(sums.is_empty() && metrics.summed.get() == 100 && metrics.lost.get() == 0);
    }

    #[test]
    fn too_many_models_fall_together_by_key_and_no_charge_is_lost() {
        let sums = Sums::new(Metrics::new().ledger);
        let names: Vec<String> = (0..FINE + 500).map(|n| format!("m{n}")).collect();
        for name in &names {
            sums.add(&Entry { model: name, ..entry(1, 2) });
        }
        let taken = sums.take();
        assert_eq!(taken.len(), FINE + 1);
        assert_eq!(taken.iter().map(|sum| sum.units).sum::<u64>(), 2 * names.len() as u64);
    }
}
