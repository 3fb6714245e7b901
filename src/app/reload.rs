//! Reloading configuration and key file: parsed and checked whole, applied in one step or not at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::{Gate, Operators, Vendors};
use crate::app::keys::Declared;
use crate::config::{self, Config, Faults, FileKey};
use crate::proxy::{self, Live, Plane};
use crate::spare;
use crate::telemetry::metrics::Verdict;
use crate::tls::{Identity, InForce};
use crate::upstream::Routes;

/// What is in force, and what the last attempt to replace it came to.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    plane: Arc<Plane>,
    /// What the program started with: sockets, threads and storage are still as it says.
    started: Config,
    /// Held for the whole of a reload, so that they come one at a time.
    config: Mutex<Config>,
    /// Never held for longer than a copy, so that whoever asks does not wait for a reload.
    told: Mutex<Last>,
    /// The keys of the file in force.
    declared: Arc<Declared>,
    /// Wakes whoever follows them.
    changed: watch::Sender<()>,
    others: Told,
}

/// Who else is told of a reload.
#[derive(Debug, Clone)]
pub struct Told {
    /// Closed while it puts in force what it has read, so that no operator changes a key meanwhile.
    pub gate: Gate,
    /// Whose tokens may be others afterwards.
    pub operators: Arc<Operators>,
    /// What the dialects of other vendors are told.
    pub vendors: Arc<Vendors>,
    /// What the admin listener shakes hands with.
    pub admin_tls: Arc<InForce>,
}

/// What others ask about the last reload.
#[derive(Debug, Default)]
struct Last {
    faults: Option<Refused>,
    /// The files named by the configuration in force, and those of a refused one: their correction asks for a reload too.
    files: Vec<PathBuf>,
    /// Settings of the configuration in force that wait for a restart.
    needs_restart: Vec<String>,
}

/// The faults of a refused reload, one line each.
pub type Refused = Vec<String>;

impl Reloader {
    /// Of a program that has just started with these.
    pub fn new(path: PathBuf, plane: Arc<Plane>, config: Config, declared: Arc<Declared>, others: Told) -> Self {
        plane.metrics.config_in_force.set(1);
        plane.metrics.edge.show_expiry(expiry(&config.server.tls), expiry(&config.admin.tls));
        let told = Last { files: config::files_named_by(&path), ..Last::default() };
        Self {
            path,
            plane,
            started: config.clone(),
            config: Mutex::new(config),
            told: Mutex::new(told),
            declared,
            changed: watch::Sender::new(()),
            others,
        }
    }

    /// Told of every reload that put keys of the file in force.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Reads both files anew and puts them in force, or says why not and changes nothing. Blocks; not to be called from an async task.
    ///
    /// # Errors
    /// Every fault, with file, line and path.
    pub fn reload(&self) -> Result<(), Refused> {
        let verdict = self.reload_once();
        // Once operators may go on.
        spare::give_back();
        verdict
    }

    fn reload_once(&self) -> Result<(), Refused> {
        let mut in_force = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = self.read_and_apply(&mut in_force);
        let metrics = &self.plane.metrics;
        match &verdict {
            Ok(()) => {
                metrics.reloads.get_or_create(&Verdict { result: "applied" }).inc();
                metrics.config_in_force.set(1);
            }
            Err(faults) => {
                for fault in faults {
                    tracing::error!(fault, "reload refused; the old configuration stays in force");
                }
                metrics.reloads.get_or_create(&Verdict { result: "refused" }).inc();
                metrics.config_in_force.set(0);
                // A fault elsewhere must not let a certificate run out that was renewed in time.
                self.renew_certificates(&mut in_force);
            }
        }
        metrics.edge.show_expiry(expiry(&in_force.server.tls), expiry(&in_force.admin.tls));
        metrics.keys.set(i64::try_from(self.plane.keys.len()).unwrap_or(i64::MAX));
        let mut files = files_of(&in_force);
        // Of a refused one too: their correction asks for a reload.
        files.extend(config::files_named_by(&self.path));
        *self.told() = Last {
            faults: verdict.clone().err(),
            files,
            needs_restart: config::needs_restart(&self.started, &in_force),
        };
        verdict
    }

    /// Blocks until the keys of the file are listed as they are in force, for `patience` at most. Whether they are.
    pub fn until_listed(&self, patience: Duration) -> bool {
        self.declared.until_told(patience)
    }

    /// Why the files on disk are not the ones in force; `None` when they are.
    pub fn faults(&self) -> Option<Refused> {
        self.told().faults.clone()
    }

    /// The settings, by path, that the files in force change but only a restart puts in force.
    pub fn needs_restart(&self) -> Vec<String> {
        self.told().needs_restart.clone()
    }

    /// The files whose change asks for a reload, as of the last one.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.path.clone()];
        for file in &self.told().files {
            if !files.contains(file) {
                files.push(file.clone());
            }
        }
        files
    }

    fn told(&self) -> MutexGuard<'_, Last> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_and_apply(&self, in_force: &mut Config) -> Result<(), Refused> {
        let env = |name: &str| std::env::var(name).ok();
        let (config, keys) =
            config::load_all(&self.path, in_force.keys_file.as_deref(), &env).map_err(|faults| told(&faults))?;
        // Not before: what holds up the files, as a file system that is gone, is not to hold up operators too.
        let _closed = self.others.gate.close();
        // Compared with the start and not with the last reload, so that a change is told until it is in force.
        for setting in config::needs_restart(&self.started, &config) {
            tracing::warn!(setting, "differs from what the program started with; takes effect only at the next start");
        }
        log_warnings(&config, &keys);
        // Keys first: a key that the new file takes away must not meet the new routes.
        let file = config.keys_file.as_ref().unwrap_or(&self.path);
        let changed = self.declared.replace(keys, file, &self.plane.digester).map_err(|faults| told(&faults))?;
        let old = self.plane.live.load();
        self.plane.live.store(Arc::new(live(&config, Some(&old))));
        self.plane.estimator.set_default_max_output(config.limits.default_max_output);
        self.others.operators.replace(&config.admin);
        self.others.vendors.replace(&config.admin);
        self.others.admin_tls.replace(config.admin.tls.as_ref());
        *in_force = config;
        self.changed.send_replace(());
        tracing::info!(keys = self.plane.keys.len(), changed, "configuration in force");
        Ok(())
    }
}

impl Reloader {
    /// Reads the certificates in force again, whatever stands in the way of the rest. What is not in order with them is not said here:
    /// it is among the faults of the configuration, unless that names other files now.
    fn renew_certificates(&self, config: &mut Config) {
        let now_unix_ms = self.plane.clock.now().unix_ms;
        let renewed = |old: &Option<Arc<Identity>>| {
            let (new, _warnings) = old.as_ref()?.reread(now_unix_ms).ok()?;
            (old.as_deref() != Some(&new)).then(|| Arc::new(new))
        };
        if let Some(tls) = renewed(&config.server.tls) {
            config.server.tls = Some(tls);
            let old = self.plane.live.load();
            let settings = config.server.clone();
            let (routes, prices) = (Arc::clone(&old.routes), old.prices.clone());
            self.plane.live.store(Arc::new(Live { settings, limits: old.limits, routes, prices }));
            tracing::info!("new certificates in force");
        }
        if let Some(tls) = renewed(&config.admin.tls) {
            self.others.admin_tls.replace(Some(&tls));
            config.admin.tls = Some(tls);
            tracing::info!("new certificates in force on the admin listener");
        }
    }
}

fn told(faults: &Faults) -> Refused {
    faults.iter().map(ToString::to_string).collect()
}

fn expiry(tls: &Option<Arc<Identity>>) -> Option<i64> {
    tls.as_ref().map(|tls| tls.expires_unix_s())
}

/// What is read again of the configuration in force when another is refused.
fn files_of(config: &Config) -> Vec<PathBuf> {
    let listeners = [&config.server.tls, &config.admin.tls].into_iter().flatten();
    let certificates = listeners.flat_map(|tls| tls.settings().files());
    config.keys_file.iter().chain(certificates).cloned().collect()
}

/// What the data plane reads of a configuration. What did not change of its TLS goes on.
pub fn live(config: &Config, old: Option<&Live>) -> Live {
    let tls = Identity::keep(old.and_then(|old| old.settings.tls.as_ref()), config.server.tls.as_ref());
    let routes = Routes::new(config.upstreams.clone(), config.aliases.clone(), old.map(|old| &*old.routes));
    Live {
        settings: proxy::Settings { tls, ..config.server.clone() },
        limits: config.limits,
        routes: Arc::new(routes.with_fallbacks(config.fallbacks.clone())),
        prices: config.prices.clone(),
    }
}

/// Says what is accepted but unwise in either file.
pub fn log_warnings(config: &Config, keys: &[FileKey]) {
    for warning in config.warnings.iter().chain(keys.iter().flat_map(|key| &key.warnings)) {
        tracing::warn!(warning = %warning, "configuration");
    }
}
