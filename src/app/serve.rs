//! From a configuration to a running program, and to its end.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::admin;
use crate::admin::service::Service;
use crate::app::open::{Files, Opened, StartFault, machine, open};
use crate::app::reload::Reloader;
use crate::background;
use crate::config::{self, watch};
use crate::keys::secret::Secret;
use crate::proxy::server::{self, Server};
use crate::upstream::probe;
use crate::upstream::tls::{self, Defaults};

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

/// Runs until a signal ends it.
///
/// # Errors
/// Why it did not start.
pub fn serve(options: &Options) -> Result<Outcome, StartFault> {
    // Looked at before they are read, so that a change during the start is seen as one.
    let named = config::keys_file_of(&options.config).into_iter().chain(config::tls_files_of(&options.config));
    let seen = watch::look(std::iter::once(options.config.clone()).chain(named));
    let env = |name: &str| std::env::var(name).ok();
    let (config, keys) = config::load_all(&options.config, None, &env).map_err(StartFault::Config)?;
    let opened = open(config, &keys, Some(Files { config: options.config.clone(), seen }))?;
    drop(keys);
    run(opened, options.ready_file.as_deref(), async |started: &Started| {
        if let Some(token) = &started.first_token {
            // The secret alone on standard output; what it is, beside it.
            eprintln!("keyward: first start: this is the admin token, shown this once and kept nowhere:");
            if let Err(error) = writeln!(std::io::stdout(), "{}", token.expose()) {
                eprintln!(
                    "keyward: it could not be written: {error}; give the operator `admin` a token in [admin] tokens"
                );
            }
        }
    })
}

/// A program that listens.
pub struct Started {
    /// Where clients connect.
    pub data: Vec<SocketAddr>,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The one writer of keys.
    pub service: Arc<Service>,
    /// The token of the first operator, when it was made just now.
    pub first_token: Option<Secret>,
}

/// Starts both planes, tells `started` once both listen, and waits for the end.
///
/// # Errors
/// Why it did not start.
pub fn run(
    opened: Opened,
    ready_file: Option<&Path>,
    started: impl AsyncFnOnce(&Started),
) -> Result<Outcome, StartFault> {
    let (ledger, books) = (Arc::clone(&opened.ledger), opened.books.clone());
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| background::give_way(background::OPERATORS))
        .build();
    let control = control.map_err(machine("the control plane's runtime"))?;
    let ended = control.block_on(run_planes(opened, ready_file, started));
    match ledger.close() {
        Ok(()) => books.gather(),
        Err(fault) => {
            tracing::error!(%fault, "what was settled last is left in the journals, for the next start");
        }
    }
    // Waits for nothing: what still runs here is of no use to anyone.
    control.shutdown_background();
    ended
}

async fn run_planes(
    opened: Opened,
    ready_file: Option<&Path>,
    started: impl AsyncFnOnce(&Started),
) -> Result<Outcome, StartFault> {
    let tls = tls::client_config().map_err(machine("TLS towards upstreams"))?;
    let Opened { plane, surface, reloader, admin_listen, first_token, mirror, seen, .. } = opened;
    let listener = TcpListener::bind(admin_listen).await.map_err(|error| StartFault::Machine {
        what: "the admin listener",
        error: std::io::Error::new(error.kind(), format!("{admin_listen}: {error}")),
    })?;
    let admin_address = listener.local_addr().map_err(machine("the admin listener"))?;
    let mut signals = Signals::new().map_err(machine("signals"))?;
    let mut server = server::start(&plane, &tls).map_err(machine("the data listener"))?;
    let service = Arc::clone(&surface.service);
    let routes = {
        let plane = Arc::clone(&plane);
        move || Arc::clone(&plane.live.load().routes)
    };
    tokio::spawn(probe::run(routes, plane.clock.clone(), Defaults::new(&tls), plane.metrics.upstreams.clone()));
    tokio::spawn(async move { admin::serve(listener, &surface).await });
    let reloads = reloader.zip(seen).map(|(reloader, seen)| {
        tokio::spawn(mirror.follow(reloader.declared()));
        Reloads::start(reloader, seen)
    });
    let reloads = reloads.transpose().map_err(machine("the file watch"))?;
    for address in &server.addresses {
        tracing::info!(%address, "listening");
    }
    tracing::info!(address = %admin_address, "admin listening");
    let data = server.addresses.clone();
    started(&Started { data, admin: admin_address, service, first_token }).await;
    if let Some(path) = ready_file {
        write_ready(path, &server.addresses, admin_address).map_err(machine("the ready file"))?;
    }
    let died = tokio::select! {
        () = signals.until_end(reloads) => None,
        thread = server.died() => Some(thread),
    };
    if let Some(thread) = &died {
        tracing::error!(thread, "a thread of the data plane died; the program ends");
    }
    let outcome = drain(server, &mut signals).await;
    Ok(if died.is_some() { Outcome::Died } else { outcome })
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
    fn start(reloader: Arc<Reloader>, seen: watch::Seen) -> Result<Self, notify::Error> {
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
