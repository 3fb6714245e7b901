//! Reloading configuration and key file: parsed and checked whole, applied in one step or not at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::keys;
use crate::config::{self, Config, Fault, Faults};
use crate::keys::change::KeyRecord;
use crate::proxy::{Live, Plane};
use crate::telemetry::metrics::Verdict;
use crate::upstream::Routes;

/// What is in force, and what the last attempt to replace it came to.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    plane: Arc<Plane>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Config,
    keys: Vec<KeyRecord>,
    faults: Option<Vec<String>>,
}

/// The faults of a refused reload, one line each.
pub type Refused = Vec<String>;

impl Reloader {
    /// Of a program that has just started with these.
    pub fn new(path: PathBuf, plane: Arc<Plane>, config: Config, keys: Vec<KeyRecord>) -> Self {
        plane.metrics.config_in_force.set(1);
        Self { path, plane, state: Mutex::new(State { config, keys, faults: None }) }
    }

    /// Reads both files anew and puts them in force, or says why not and changes nothing.
    ///
    /// # Errors
    /// Every fault, with file, line and path.
    pub fn reload(&self) -> Result<(), Refused> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = self.read_and_apply(&mut state);
        let metrics = &self.plane.metrics;
        match &verdict {
            Ok(()) => {
                state.faults = None;
                metrics.reloads.get_or_create(&Verdict { result: "applied" }).inc();
                metrics.config_in_force.set(1);
            }
            Err(faults) => {
                for fault in faults {
                    tracing::error!(fault, "reload refused; the old configuration stays in force");
                }
                state.faults = Some(faults.clone());
                metrics.reloads.get_or_create(&Verdict { result: "refused" }).inc();
                metrics.config_in_force.set(0);
            }
        }
        metrics.keys.set(i64::try_from(self.plane.keys.len()).unwrap_or(i64::MAX));
        verdict
    }

    /// Why the files on disk are not the ones in force; `None` when they are.
    pub fn faults(&self) -> Option<Refused> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).faults.clone()
    }

    /// The files whose change asks for a reload.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(self.path.clone()).chain(state.config.keys_file.clone()).collect()
    }

    fn read_and_apply(&self, state: &mut State) -> Result<(), Refused> {
        let env = |name: &str| std::env::var(name).ok();
        let (config, file_keys) = config::load_both(&self.path, &env).map_err(|faults| lines(&faults))?;
        let records = keys::records(file_keys, &self.plane.digester);
        for setting in config::needs_restart(&state.config, &config) {
            tracing::warn!(setting, "changed in the file, but takes effect only at the next start");
        }
        log_warnings(&config.warnings);
        // Keys first: a key that the new file takes away must not meet the new routes.
        let changed = keys::apply(&self.plane.keys, &state.keys, &records)
            .map_err(|refused| refused.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let old = self.plane.live.load();
        self.plane.live.store(Arc::new(live(&config, Some(&old.routes))));
        self.plane.estimator.set_default_max_output(config.limits.default_max_output);
        state.config = config;
        state.keys = records;
        tracing::info!(keys = self.plane.keys.len(), changed, "configuration in force");
        Ok(())
    }
}

/// What the data plane reads of a configuration.
pub fn live(config: &Config, old: Option<&Routes>) -> Live {
    Live {
        settings: config.server.clone(),
        limits: config.limits,
        routes: Routes::new(config.upstreams.clone(), config.aliases.clone(), old),
        prices: config.prices.clone(),
    }
}

/// Faults, one line each.
pub fn lines(faults: &Faults) -> Refused {
    faults.iter().map(ToString::to_string).collect()
}

/// Says what is accepted but unwise.
pub fn log_warnings(warnings: &[Fault]) {
    for warning in warnings {
        tracing::warn!(warning = %warning, "configuration");
    }
}
