//! From a configuration to a program that is built, and not started yet.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;

use crate::admin::service::{Parts, Service};
use crate::admin::{Gate, Operators, Surface, Vendors};
use crate::app::books::{Books, BooksFault, LedgerOpening};
use crate::app::holds::{Held, Holds};
use crate::app::keys::Declared;
use crate::app::mirror::Mirror;
use crate::app::pepper;
use crate::app::program::Running;
use crate::app::reload::{self, Reloader, Told};
use crate::app::time_mark::{self, TimeMark};
use crate::clock::Clock;
use crate::config::{Config, Faults, FileKey, watch};
use crate::dialect::estimate::Estimator;
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;
use crate::ledger::Ledger;
use crate::limits::attempts::Attempts;
use crate::proxy::Plane;
use crate::proxy::capacity::Capacity;
use crate::proxy::plane::{BodyBudget, Overload};
use crate::store::{Store, StoreFault, Switch};
use crate::telemetry::Metrics;
use crate::tls::InForce;

/// Why a program does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The files are not in order.
    #[error("the configuration is not in order")]
    Config(Faults),
    /// The store or the ledger does not open.
    #[error(transparent)]
    Books(#[from] BooksFault),
    /// The pepper is not to be had.
    #[error(transparent)]
    Pepper(#[from] pepper::PepperFault),
    /// The machine does not give what is needed.
    #[error("{what}: {error}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// What happened.
        error: std::io::Error,
    },
}

/// A fault of the machine, told as what was tried and what happened.
pub(super) fn machine<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> StartFault {
    move |error| StartFault::Machine { what, error: std::io::Error::other(error.to_string()) }
}

/// The files that a program was read from.
#[derive(Debug)]
pub struct Files {
    /// `keyward.toml`.
    pub config: PathBuf,
    /// All of them as they were before they were read.
    pub seen: watch::Seen,
}

/// A program, built.
#[derive(Debug)]
pub struct Opened {
    /// The data plane.
    pub plane: Arc<Plane>,
    /// What outlives the program.
    pub books: Books,
    /// Where settled requests are written down.
    pub ledger: Arc<Ledger>,
    /// What the admin listener serves.
    pub surface: Surface,
    /// What reloads; `None` for a program without files.
    pub reloader: Option<Arc<Reloader>>,
    /// Where the latest time that was certain is kept.
    pub time_mark: TimeMark,
    /// What the process before holds of quotas.
    pub holds: Arc<Holds>,
    /// Tells the store of the keys declared by file.
    pub mirror: Mirror,
    /// What the files were, for a program that has some.
    pub seen: Option<watch::Seen>,
}

/// Opens the store, fills the table, takes up what a killed process left, and puts both planes together. `held` is what the process that hands over
/// to this one holds of quotas; where there is one, the store is left as it is until the ledger is resumed.
///
/// # Errors
/// Why it cannot start.
pub fn open(
    config: Config,
    keys: Vec<FileKey>,
    files: Option<Files>,
    held: Option<Held>,
) -> Result<Opened, StartFault> {
    reload::log_warnings(&config, &keys);
    let (table, metrics) = (Arc::new(KeyTable::new()), Metrics::new());
    let books = Books::open(&config.storage)?;
    // Before anything is made: of two that begin at once one makes the pepper, and the other does not start.
    let hold = books.hold()?;
    let digester = Digester::new(&books.pepper(&config.storage.pepper)?);
    let time_mark = books.time_mark();
    let clock = Clock::system().guarded(time_mark::boot().as_deref(), time_mark.read());
    books.recognise(&digester)?;
    books.load_keys(&table)?;
    let declared = Arc::new(Declared::new(Arc::clone(&table)));
    let keys_file = config.keys_file.clone().unwrap_or_default();
    declared.replace(keys, &keys_file, &digester).map_err(StartFault::Config)?;
    let is_paused = held.is_some();
    let holds = Arc::new(Holds::take(Arc::clone(&table), held.unwrap_or_default()));
    let ledger = books.open_ledger(LedgerOpening {
        hold,
        keys: Arc::clone(&table),
        settings: config.ledger.clone(),
        clock: clock.clone(),
        metrics: metrics.ledger.clone(),
        holds: Arc::clone(&holds),
        is_paused,
    })?;
    let ledger = Arc::new(ledger);
    let store: Arc<dyn Store> = Arc::<Switch>::clone(&books.store);
    let fault = |fault: StoreFault| machine("the store")(fault);
    let operators = Arc::new(Operators::new(&config.admin, store.operators().map_err(fault)?));
    let plane = Arc::new(Plane {
        live: Arc::new(ArcSwap::from_pointee(reload::live(&config, None))),
        keys: Arc::clone(&table),
        digester: digester.clone(),
        estimator: Estimator::new(config.limits.default_max_output),
        attempts: Attempts::default(),
        body_budget: BodyBudget::shown_by(&metrics.body_bytes),
        clock: clock.clone(),
        overload: Overload::default(),
        capacity: Capacity::default(),
        metrics,
        ledger: Some(Arc::clone(&ledger)),
        is_draining: AtomicBool::new(false),
    });
    plane.metrics.keys.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
    let gate = Gate::default();
    let mirror = Mirror::new(Arc::clone(&store), clock.clone(), Arc::clone(&declared));
    let vendors = Arc::new(Vendors::new(&config.admin));
    let admin_tls = Arc::new(InForce::new(config.admin.tls.clone()));
    let told = Told {
        gate: gate.clone(),
        operators: Arc::clone(&operators),
        vendors: Arc::clone(&vendors),
        admin_tls: Arc::clone(&admin_tls),
    };
    let (path, seen) = files.map(|files| (files.config, files.seen)).unzip();
    let reloader = path.map(|path| Arc::new(Reloader::new(path, Arc::clone(&plane), config, declared, told)));
    let program =
        Arc::new(Running { plane: Arc::clone(&plane), store: Arc::clone(&store), reloader: reloader.clone() });
    let service = Arc::new(Service::new(Parts { store, keys: table, digester, clock, program, gate }));
    let surface = Surface { service, operators, vendors, tls: admin_tls };
    Ok(Opened { plane, books, ledger, surface, reloader, time_mark, holds, mirror, seen })
}
