//! From a configuration to a running program, and to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::admin::{self as operators, Readiness};
use crate::app::{keys, pepper, reload};
use crate::clock::Clock;
use crate::config::{self, Config, watch};
use crate::dialect::estimate::Estimator;
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;
use crate::limits::attempts::Attempts;
use crate::proxy::Plane;
use crate::proxy::plane::BodyBudget;
use crate::proxy::server::{self, Server};
use crate::telemetry::Metrics;
use crate::upstream::tls;

use reload::Reloader;

/// What the command line says of a start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where to write the bound addresses once the program listens.
    pub ready_file: Option<PathBuf>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every request ended.
    Drained,
    /// Some were cut when the drain time was over, or a second signal asked for it.
    Cut,
    /// A thread of the data plane died, which is logged; the rest was drained.
    Died,
}

/// Why a program does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The files are not in order.
    #[error("the configuration is not in order")]
    Config(config::Faults),
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

fn machine<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> StartFault {
    move |error| StartFault::Machine { what, error: std::io::Error::other(error.to_string()) }
}

/// Runs until a signal ends it.
///
/// # Errors
/// Why it did not start.
pub fn serve(options: &Options) -> Result<Outcome, StartFault> {
    // Looked at before they are read, so that a change during the start is seen as one.
    let seen = watch::look(std::iter::once(options.config.clone()).chain(config::keys_file_of(&options.config)));
    let env = |name: &str| std::env::var(name).ok();
    let (config, keys) = config::load_all(&options.config, None, &env).map_err(StartFault::Config)?;
    let digester = Digester::new(&pepper::load(&config.storage.pepper)?);
    reload::log_warnings(&config, &keys);
    let records = keys::records(keys, &digester);
    let plane = plane(&config, digester);
    keys::apply(&plane.keys, &[], &records).map_err(machine("keys"))?;
    plane.metrics.keys.set(i64::try_from(plane.keys.len()).unwrap_or(i64::MAX));
    let admin_listen = config.admin.listen;
    let reloader = Arc::new(Reloader::new(options.config.clone(), Arc::clone(&plane), config, records));
    let admin = Admin { listen: admin_listen, reloading: Some(Reloading { reloader, seen }) };
    run(&plane, admin, options.ready_file.as_deref(), |_, _| {})
}

/// The shared state of a data plane that has no keys yet.
pub fn plane(config: &Config, digester: Digester) -> Arc<Plane> {
    Arc::new(Plane {
        live: ArcSwap::from_pointee(reload::live(config, None)),
        keys: Arc::new(KeyTable::new()),
        digester,
        estimator: Estimator::new(config.limits.default_max_output),
        attempts: Attempts::default(),
        body_budget: BodyBudget::default(),
        clock: Clock::system(),
        metrics: Metrics::new(),
        is_draining: AtomicBool::new(false),
    })
}

/// The control plane's part of a start.
#[derive(Debug)]
pub struct Admin {
    /// Where the admin listener is.
    pub listen: SocketAddr,
    /// What reloads; `None` for a program without files.
    pub reloading: Option<Reloading>,
}

/// What a program with files reloads by.
#[derive(Debug)]
pub struct Reloading {
    /// Reads the files and puts them in force.
    pub reloader: Arc<Reloader>,
    /// The files as they were before they were read.
    pub seen: watch::Seen,
}

/// What the admin listener is told of the program.
struct Program {
    plane: Arc<Plane>,
    reloader: Option<Arc<Reloader>>,
}

impl Readiness for Program {
    fn faults(&self) -> Option<Vec<String>> {
        self.reloader.as_ref()?.faults()
    }

    fn needs_restart(&self) -> Vec<String> {
        self.reloader.as_ref().map(|reloader| reloader.needs_restart()).unwrap_or_default()
    }

    fn is_draining(&self) -> bool {
        self.plane.is_draining.load(Ordering::Relaxed)
    }

    fn metrics(&self) -> &Metrics {
        &self.plane.metrics
    }
}

/// Starts both planes and waits for the end. `started` is told the data and admin addresses.
///
/// # Errors
/// Why it did not start.
pub fn run(
    plane: &Arc<Plane>,
    admin: Admin,
    ready_file: Option<&Path>,
    started: impl FnOnce(&[SocketAddr], SocketAddr),
) -> Result<Outcome, StartFault> {
    let tls = tls::client_config().map_err(machine("TLS towards upstreams"))?;
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let control = control.map_err(machine("the control plane's runtime"))?;
    let ended = control.block_on(async {
        let listener = TcpListener::bind(admin.listen).await.map_err(|error| StartFault::Machine {
            what: "the admin listener",
            error: std::io::Error::new(error.kind(), format!("{}: {error}", admin.listen)),
        })?;
        let admin_address = listener.local_addr().map_err(machine("the admin listener"))?;
        let mut signals = Signals::new().map_err(machine("signals"))?;
        let mut server = server::start(plane, &tls).map_err(machine("the data listener"))?;
        let reloader = admin.reloading.as_ref().map(|reloading| Arc::clone(&reloading.reloader));
        let program = Program { plane: Arc::clone(plane), reloader };
        let router = operators::router(Arc::new(program));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin listener ended");
            }
        });
        let reloads = admin.reloading.map(Reloads::start).transpose().map_err(machine("the file watch"))?;
        for address in &server.addresses {
            tracing::info!(%address, "listening");
        }
        tracing::info!(address = %admin_address, "admin listening");
        if let Some(path) = ready_file {
            write_ready(path, &server.addresses, admin_address).map_err(machine("the ready file"))?;
        }
        started(&server.addresses, admin_address);
        let died = tokio::select! {
            () = signals.until_end(reloads) => None,
            thread = server.died() => Some(thread),
        };
        if let Some(thread) = &died {
            tracing::error!(thread, "a thread of the data plane died; the program ends");
        }
        let outcome = drain(server, &mut signals).await;
        Ok(if died.is_some() { Outcome::Died } else { outcome })
    });
    // Waits for nothing: what still runs here is of no use to anyone.
    control.shutdown_background();
    ended
}

fn write_ready(path: &Path, data: &[SocketAddr], admin: SocketAddr) -> std::io::Result<()> {
    let data = data.iter().map(ToString::to_string).collect::<Vec<_>>();
    let text = serde_json::json!({ "data": data, "admin": admin.to_string() }).to_string();
    // Renamed into place, so that whoever waits for the file never reads half of it.
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}

/// Lets running requests end; a second signal cuts them.
async fn drain(server: Server, signals: &mut Signals) -> Outcome {
    tracing::info!("draining");
    let (tell, told) = oneshot::channel();
    // A thread that nothing waits for: a blocking task of the runtime would hold up an end that is to be at once.
    let draining = thread::Builder::new().name("keyward-drain".to_owned()).spawn(move || {
        let _ = tell.send(server.drain());
    });
    if let Err(error) = draining {
        tracing::error!(%error, "cannot drain");
        return Outcome::Cut;
    }
    tokio::select! {
        ended = told => match ended {
            Ok(true) => Outcome::Drained,
            Ok(false) | Err(_) => Outcome::Cut,
        },
        () = signals.next_end() => Outcome::Cut,
    }
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next_end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// Reloads when asked or when a file changed, until it is time to end.
    async fn until_end(&mut self, reloads: Option<Reloads>) {
        let Some(mut reloads) = reloads else { return self.next_end().await };
        loop {
            let why = tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.hup.recv() => "SIGHUP",
                Some(()) = reloads.changes.recv() => "file changed",
            };
            tracing::info!(why, "reloading");
            reloads.reload().await;
        }
    }
}

/// The files under watch.
struct Reloads {
    reloader: Arc<Reloader>,
    changes: mpsc::UnboundedReceiver<()>,
    watching: watch::WatchGuard,
    files: Vec<PathBuf>,
}

impl Reloads {
    fn start(reloading: Reloading) -> Result<Self, notify::Error> {
        let Reloading { reloader, seen } = reloading;
        let (changed, changes) = mpsc::unbounded_channel();
        // Once the receiver is gone, the program is ending and nothing is reloaded any more.
        let watching = watch::watch(seen, move || changed.send(()).unwrap_or_default())?;
        let mut reloads = Self { reloader, changes, watching, files: Vec::new() };
        reloads.follow();
        Ok(reloads)
    }

    async fn reload(&mut self) {
        let reloader = Arc::clone(&self.reloader);
        // The faults are logged, kept for /readyz and counted by the reloader itself.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        self.follow();
    }

    /// Watches the files that count now: a configuration may have come to name another key file.
    fn follow(&mut self) {
        let files = self.reloader.files();
        if files != self.files {
            self.watching.follow(files.clone());
            self.files = files;
        }
    }
}
