//! From a configuration to a running program, and to its end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::{oneshot, watch as watched};

use crate::admin;
use crate::admin::service::Service;
use crate::app::books::Books;
use crate::app::handover::{Giver, Handed, Predecessor};
use crate::app::holds::Holds;
use crate::app::open::{Files, Opened, StartFault, machine, open};
use crate::app::signals::{Asked, Reloads, Signals};
use crate::app::sockets::Sockets;
use crate::app::{descriptors, memory, pepper, service_manager, time_mark, whole_file};
use crate::background;
use crate::config::{self, watch};
use crate::keys::secret::Secret;
use crate::ledger::Ledger;
use crate::listen::{Address, Inherited};
use crate::proxy::Plane;
use crate::proxy::server::{self, Server};
use crate::spare;
use crate::store::Backend;
use crate::upstream::probe;
use crate::upstream::tls::{self, Defaults};

/// How long connections that wait for their next request may still bring one to a process that has handed over.
const LINGER: Duration = Duration::from_secs(5);

/// The same of a process that ends: for what was on its way when it stopped accepting.
const LINGER_AT_THE_END: Duration = Duration::from_millis(500);

/// How long it may take to settle what is cut, where the end is to be at once.
const CUT_WITHIN: Duration = Duration::from_secs(2);

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
    let mut inherited = Inherited::of_service_manager().map_err(machine("sockets of the service manager"))?;
    let predecessor = Predecessor::of_environment().map_err(machine("the process before this one"))?;
    // Looked at before they are read, so that a change during the start is seen as one.
    let seen = watch::look(std::iter::once(options.config.clone()).chain(config::files_named_by(&options.config)));
    let env = |name: &str| std::env::var(name).ok();
    let (config, keys) = config::load_all(&options.config, None, &env).map_err(StartFault::Config)?;
    let hand_over = machine("the process before this one");
    if let Some(predecessor) = &predecessor {
        // What else can be wrong is found before it lets go of anything.
        pepper::existing(&config.storage.pepper)?;
        inherited = predecessor.sockets().map_err(machine("the sockets of the process before this one"))?;
    }
    let sockets = Sockets::of(&config, inherited).map_err(machine("a listener"))?;
    let held = predecessor.as_ref().map(Predecessor::let_go).transpose().map_err(hand_over)?;
    if predecessor.is_some() {
        let Backend::Sqlite(store) = &config.storage.backend;
        Predecessor::until_free(&Books::journals_of(store));
    }
    let opened = open(config, keys, Some(Files { config: options.config.clone(), seen }), held)?;
    spare::give_back();
    let start = Start { sockets, ready_file: options.ready_file.as_deref(), predecessor, can_hand_over: true };
    run(opened, start, async |started: &Started| {
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

/// What a program starts with beside what it was built from.
#[derive(Debug)]
pub struct Start<'a> {
    /// Where it listens.
    pub sockets: Sockets,
    /// Where to write the bound addresses once it does.
    pub ready_file: Option<&'a Path>,
    /// The process that hands over to it.
    pub predecessor: Option<Predecessor>,
    /// Whether it could be started by the same command line again.
    pub can_hand_over: bool,
}

/// A program that listens.
pub struct Started {
    /// Where clients connect.
    pub data: Vec<Address>,
    /// Where operators connect.
    pub admin: Address,
    /// The one writer of keys.
    pub service: Arc<Service>,
    /// The token of the first operator, when it was made just now.
    pub first_token: Option<Secret>,
}

/// Starts both planes, tells `started` once both listen, and waits for the end.
///
/// # Errors
/// Why it did not start.
pub fn run(opened: Opened, start: Start<'_>, started: impl AsyncFnOnce(&Started)) -> Result<Outcome, StartFault> {
    let (ledger, books) = (Arc::clone(&opened.ledger), opened.books.clone());
    let (mark, clock) = (opened.time_mark.clone(), opened.plane.clock.clone());
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| background::give_way(background::OPERATORS))
        .build();
    let control = control.map_err(machine("the control plane's runtime"))?;
    let ended = control.block_on(run_planes(opened, start, started));
    if !books.store.is_closed() {
        mark.note(&clock);
    }
    match ledger.close() {
        // The file of a store that was handed over is another's.
        Ok(()) if books.store.is_closed() => {}
        Ok(()) => books.gather(),
        Err(fault) => {
            tracing::error!(%fault, "what was settled last is left in the journals, for the next start");
        }
    }
    // Waits for nothing: what still runs here is of no use to anyone.
    control.shutdown_background();
    ended.map(|ended| ended.outcome)
}

/// How a run ended, and what is kept until the process does.
struct Ended {
    outcome: Outcome,
    /// It sees that this process is gone by the end of this.
    _handed: Option<Handed>,
}

async fn run_planes(
    opened: Opened,
    start: Start<'_>,
    started: impl AsyncFnOnce(&Started),
) -> Result<Ended, StartFault> {
    let tls = tls::client_config().map_err(machine("TLS towards upstreams"))?;
    let Start { sockets, ready_file, predecessor, can_hand_over } = start;
    let mut signals = Signals::new().map_err(machine("signals"))?;
    descriptors::reserve(&opened.plane);
    let listeners = sockets.try_clone().map_err(machine("the listeners"))?;
    let admin_address = sockets.admin.address().map_err(machine("the admin listener"))?;
    let admin_listener = sockets.admin.open().map_err(machine("the admin listener"))?;
    let server = server::start(&opened.plane, &tls, sockets.data).map_err(machine("the data listener"))?;
    let Opened { plane, surface, reloader, mirror, seen, time_mark, holds, ledger, books } = opened;
    let reloads = reloader.clone().zip(seen).map(|(reloader, seen)| Reloads::start(reloader, seen));
    let mut reloads = reloads.transpose().map_err(machine("the file watch"))?;
    // From here on this is the program on the store.
    if let Some(predecessor) = &predecessor {
        predecessor.serving().map_err(machine("the process before this one"))?;
    }
    ledger.resume();
    server.door().resume();
    let (admin_is_open, is_open) = watched::channel(true);
    let giver = Arc::new(Giver {
        command: if can_hand_over { std::env::args_os().collect() } else { Vec::new() },
        listeners,
        door: server.door(),
        admin_is_open,
        gate: surface.service.reload_gate().clone(),
        books: books.clone(),
        time_mark: time_mark.clone(),
        ledger: Arc::clone(&ledger),
        plane: Arc::clone(&plane),
        next: Mutex::default(),
    });
    let before = predecessor.map(|predecessor| follow(predecessor, holds, ledger));
    let before = before.transpose().map_err(machine("a thread"))?;
    let (service, operators) = (Arc::clone(&surface.service), Arc::clone(&surface.operators));
    let (store, now) = (Arc::clone(&books.store), plane.clock.now());
    tokio::spawn(async move { admin::serve(admin_listener, &surface, is_open).await });
    tokio::spawn(memory::watch(Arc::clone(&plane)));
    probe_upstreams(Arc::clone(&plane), &tls);
    tokio::spawn(time_mark::watch(plane, time_mark, move || !books.store.is_closed()));
    tokio::spawn(service_manager::keep_alive());
    if let Some(reloader) = reloader {
        tokio::spawn(mirror.follow(reloader.changed()));
    }
    // After those before it, which leave some behind as they begin.
    tokio::spawn(async { spare::give_back() });
    for address in &server.addresses {
        tracing::info!(%address, "listening");
    }
    tracing::info!(address = %admin_address, "admin listening");
    let data = server.addresses.clone();
    // Only now: of a start that fails nobody would be told the token.
    let first_token = operators.make_first(&*store, now).map_err(machine("the store"))?;
    started(&Started { data, admin: admin_address.clone(), service, first_token }).await;
    if let Some(path) = ready_file {
        write_ready(path, &server.addresses, &admin_address).map_err(machine("the ready file"))?;
    }
    service_manager::ready();
    until_end(server, giver, before, &mut signals, &mut reloads).await
}

/// Asks ejected endpoints whether they are well again, on the control plane.
fn probe_upstreams(plane: Arc<Plane>, tls: &Arc<ClientConfig>) {
    let (clock, metrics) = (plane.clock.clone(), plane.metrics.upstreams.clone());
    let routes = move || Arc::clone(&plane.live.load().routes);
    tokio::spawn(probe::run(routes, clock, Defaults::new(tls), metrics));
}

/// Serves until the end, and drains.
async fn until_end(
    mut server: Server,
    giver: Arc<Giver>,
    before: Option<oneshot::Receiver<()>>,
    signals: &mut Signals,
    reloads: &mut Option<Reloads>,
) -> Result<Ended, StartFault> {
    loop {
        let asked = tokio::select! {
            asked = signals.next(reloads) => Ok(asked),
            thread = server.died() => Err(thread),
        };
        match asked {
            Ok(Asked::End) => {
                service_manager::stopping();
                let delay = giver.plane.live.load().settings.drain_delay;
                if !delay.is_zero() {
                    tracing::info!(?delay, "going down; new connections are still taken");
                    server.door().announce();
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = signals.next_end_reading(reloads) => {}
                        thread = server.died() => return Ok(without(&thread, server, giver, signals, reloads).await),
                    }
                }
                let _operators = only_operators(giver);
                return Ok(Ended { outcome: drain(server, LINGER_AT_THE_END, signals, reloads).await, _handed: None });
            }
            Ok(Asked::HandOver) => {
                if let Some(handed) = hand_over(&giver, signals).await {
                    // The sockets are the new process's alone: should it end, whoever connects is refused and not left waiting here.
                    drop(giver);
                    service_manager::main_process(handed.pid);
                    signals.ends();
                    let outcome = drain(server, LINGER, signals, &mut None).await;
                    if let Some(before) = before {
                        // What the process before this one holds of quotas is held by the next one until this one is gone.
                        tokio::select! {
                            _ = before => {}
                            () = signals.next_end() => {}
                        }
                    }
                    return Ok(Ended { outcome, _handed: Some(handed) });
                }
            }
            Err(thread) => return Ok(without(&thread, server, giver, signals, reloads).await),
        }
    }
}

/// The end of a program one thread of which has died.
async fn without(
    thread: &str,
    server: Server,
    giver: Arc<Giver>,
    signals: &mut Signals,
    reloads: &mut Option<Reloads>,
) -> Ended {
    tracing::error!(thread, "a thread of the data plane died; the program ends");
    let _operators = only_operators(giver);
    drain(server, Duration::ZERO, signals, reloads).await;
    Ended { outcome: Outcome::Died, _handed: None }
}

/// Lets go of the sockets that were to be handed over. Of those for clients the acceptor's own are left, which it closes: whoever connects is refused and
/// not left waiting. Operators are let in for as long as what this returns is there.
fn only_operators(giver: Arc<Giver>) -> watched::Sender<bool> {
    giver.admin_is_open.clone()
}

/// Hands over to a new process; `None` where this one has to go on. A signal that asks for the end meanwhile ends the new process first.
async fn hand_over(giver: &Arc<Giver>, signals: &mut Signals) -> Option<Handed> {
    if giver.command.is_empty() {
        tracing::error!(
            "there is nothing to hand over to: this program was not started by a command that could be repeated"
        );
        return None;
    }
    if std::process::id() == 1 {
        tracing::error!("this is process 1, whose end would end the new process too; start another container instead");
        return None;
    }
    service_manager::reloading();
    let (tell, mut given) = oneshot::channel();
    let giving = Arc::clone(giver);
    // Started by this thread and not by one of the runtime's: those give way to the workers, and the new process would inherit that, for good.
    let started = thread::Builder::new().name("keyward-giver".to_owned()).spawn(move || {
        let _ = tell.send(giving.hand_over());
    });
    if let Err(error) = started {
        tracing::error!(%error, "no thread for the hand-over; this process goes on");
        service_manager::ready();
        return None;
    }
    let given = tokio::select! {
        given = &mut given => given,
        () = signals.next_end() => {
            giver.give_up();
            signals.again();
            let given = given.await;
            // It served before it could be ended: the end is asked of it then.
            if let Ok(Ok(handed)) = &given {
                handed.end();
            }
            given
        }
    };
    match given.unwrap_or_else(|_| Err("a bug: nobody says how it went".to_owned())) {
        Ok(handed) => {
            tracing::info!(pid = handed.pid, "a new process serves; this one drains");
            Some(handed)
        }
        Err(why) => {
            tracing::error!(why, "the hand-over failed; this process goes on");
            service_manager::ready();
            None
        }
    }
}

/// Lets go of what is held for the requests of the process before, once that is gone and everything it settled is counted. Tells when.
fn follow(predecessor: Predecessor, holds: Arc<Holds>, ledger: Arc<Ledger>) -> std::io::Result<oneshot::Receiver<()>> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("keyward-before".to_owned()).spawn(move || {
        predecessor.until_gone();
        // What it settled last is looked for, whatever the store says to it.
        let _tried_again_later = ledger.flush();
        holds.end();
        tracing::info!("the process before this one has ended");
        // Only one that has handed over in turn still listens.
        let _ = tell.send(());
    })?;
    Ok(told)
}

fn write_ready(path: &Path, data: &[Address], admin: &Address) -> std::io::Result<()> {
    let data = data.iter().map(ToString::to_string).collect::<Vec<_>>();
    let text = serde_json::json!({ "data": data, "admin": admin.to_string(), "pid": std::process::id() }).to_string();
    // Nothing in it is secret, and who waits for it may be another user.
    whole_file::replace(path, &text, 0o644)
}

/// Lets running requests end; a second signal cuts them.
async fn drain(server: Server, linger: Duration, signals: &mut Signals, reloads: &mut Option<Reloads>) -> Outcome {
    tracing::info!("draining");
    let cut = server.cut();
    let (tell, mut told) = oneshot::channel();
    // A thread that nothing waits for: a blocking task of the runtime would hold up an end that is to be at once.
    let draining = thread::Builder::new().name("keyward-drain".to_owned()).spawn(move || {
        let _ = tell.send(server.drain_slowly(linger));
    });
    if let Err(error) = draining {
        tracing::error!(%error, "cannot drain");
        return Outcome::Cut;
    }
    tokio::select! {
        ended = &mut told => match ended {
            Ok(true) => Outcome::Drained,
            Ok(false) | Err(_) => Outcome::Cut,
        },
        () = signals.next_end_reading(reloads) => {
            cut.now();
            // Everybody pays for what they had until now.
            let _settled = tokio::time::timeout(CUT_WITHIN, told).await;
            Outcome::Cut
        }
    }
}
