//! The command line: what was asked, and what the exit code means.

mod audit;
mod check;
mod client;
mod failure;
mod health;
mod key;
mod ledger;
pub mod moment;
mod output;
mod pages;
mod quickstart;
mod reload;
mod stdin;
mod store;
mod usage;

use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::app::{self, Options, Outcome, StartFault};
use crate::config;
use crate::telemetry::logging;

use self::failure::Failure;

/// Everything is in order.
const OK: u8 = 0;
/// Something failed while running.
const FAILED: u8 = 1;
/// The command line or a file is not in order.
const NOT_IN_ORDER: u8 = 2;

const AFTER_HELP: &str = "\
Examples:
  keyward quickstart                       try it: no configuration, no backend, no account
  keyward check --config keyward.toml      is the configuration in order?
  keyward serve --config keyward.toml      run
  printf %s \"$SECRET\" | keyward key hash   what keys.toml wants instead of a secret

Of a running server (its token in KEYWARD_ADMIN_TOKEN or KEYWARD_ADMIN_TOKEN_FILE):
  keyward key create --name demo --model 'gpt-4o*' --rpm 60 --expires 30d
  keyward key list
  keyward usage --from 7d --by team

Exit codes: 0 in order, 1 failed (or the server said no), 2 command line or configuration not in order.";

/// A reverse proxy that enforces key policies in front of LLM backends.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: Log,
    #[command(subcommand)]
    command: Command,
}

/// What a server is started with, alone: it runs for months, and would keep some of what a description of all commands takes. Whatever is not this
/// is for [`Cli`].
#[derive(Debug, Parser)]
struct Server {
    #[command(flatten)]
    log: Log,
    #[command(subcommand)]
    command: OnlyServe,
}

#[derive(Debug, Subcommand)]
enum OnlyServe {
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Log {
    /// What to log: a level, or levels by target (`info,access=off`).
    #[arg(long, env = "KEYWARD_LOG", default_value = "info", global = true, value_name = "FILTER")]
    log: String,
}

#[derive(Debug, Args)]
struct Serve {
    /// The configuration file.
    #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Write the bound addresses here, as JSON, once the program listens.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    #[command(
        after_help = "Example:\n  keyward serve --config /etc/keyward/keyward.toml\n\nSIGHUP reloads, SIGTERM drains, a second one stops at once. SIGUSR2 hands over to a new process, of the binary that is there now, without a gap."
    )]
    Serve(Serve),
    /// Check the configuration and the key file, and say every fault at once.
    #[command(after_help = "Example:\n  keyward check --config keyward.toml && systemctl reload keyward")]
    Check {
        /// The configuration file.
        #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
        config: PathBuf,
        /// Print the verdict as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Try it: a proxy with two keys and a built-in backend, no configuration.
    #[command(after_help = "Example:\n  keyward quickstart --listen 127.0.0.1:9000")]
    Quickstart {
        /// Where to listen for clients.
        #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
        listen: std::net::SocketAddr,
        /// Where to serve the admin API, its documentation, health and metrics.
        #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
        admin_listen: std::net::SocketAddr,
        /// Write the bound addresses here, as JSON, once the program listens.
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Work with keys.
    #[command(subcommand)]
    Key(Box<key::KeyCommand>),
    /// What was used, by key, model, team, organisation or time.
    #[command(after_help = usage::EXAMPLES)]
    Usage(usage::Usage),
    /// Who changed what, when and from where.
    #[command(after_help = audit::EXAMPLES)]
    Audit(audit::Audit),
    /// Have a running server read its files again.
    #[command(after_help = reload::EXAMPLES)]
    Reload(reload::Reload),
    /// Look at what was used.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Copy the store, and put a copy back.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Ask a running proxy whether it is ready; for images without curl.
    #[command(
        after_help = "Examples:\n  keyward healthcheck --admin-url http://127.0.0.1:8081\n  keyward serve --config keyward.toml & keyward healthcheck --wait 10s"
    )]
    Healthcheck {
        #[command(flatten)]
        server: client::Server,
        /// How long to wait for it to become ready, such as "10s" or "500ms".
        #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = config::parse_duration)]
        wait: std::time::Duration,
    },
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  keyward completions bash > /etc/bash_completion.d/keyward")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page; with --all DIR write one for every command.
    #[command(after_help = "Examples:\n  keyward man | man -l -\n  keyward man --all /usr/local/share/man/man1")]
    Man {
        /// Write a page for every command into this folder, which must be there.
        #[arg(long, value_name = "DIR")]
        all: Option<PathBuf>,
    },
    /// Print the version.
    #[command(after_help = "Example:\n  keyward version --json")]
    Version {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Copy the store to a new file, while the program runs or not.
    #[command(
        after_help = "Example:\n  keyward store backup --config keyward.toml /backups/keyward-$(date +%F).db\n\nKeep it with the pepper (data/pepper): without that no key in it is recognised."
    )]
    Backup {
        /// The copy; it must not be there yet.
        #[arg(value_name = "FILE")]
        to: PathBuf,
        /// The configuration file.
        #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Put a copy in the store's place. The program must not run; what was there before is kept beside it.
    #[command(after_help = "Example:\n  keyward store restore --config keyward.toml /backups/keyward-2026-01-31.db")]
    Restore {
        /// The copy.
        #[arg(value_name = "FILE")]
        from: PathBuf,
        /// The configuration file.
        #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    if let Ok(Server { log: Log { log }, command: OnlyServe::Serve(serve) }) = Server::try_parse() {
        return ExitCode::from(serve.run(&log));
    }
    let Cli { log: Log { log }, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return ExitCode::from(tell(&said)),
    };
    let code = match command {
        Command::Serve(serve) => serve.run(&log),
        Command::Check { config, json } => check::check(&config, json),
        Command::Quickstart { listen, admin_listen, ready_file } => {
            with_logging(&log, || quickstart::quickstart(listen, admin_listen, ready_file.as_deref()))
        }
        Command::Store(StoreCommand::Backup { to, config }) => store::back_up(&config, &to),
        Command::Store(StoreCommand::Restore { from, config }) => store::restore(&config, &from),
        Command::Ledger(ledger) => ledger.run(),
        Command::Key(key) => code(key.run()),
        Command::Usage(usage) => code(usage.run().map(|()| OK)),
        Command::Audit(audit) => code(audit.run().map(|()| OK)),
        Command::Reload(reload) => code(reload.run()),
        Command::Healthcheck { server, wait } => health::check(&server, wait),
        Command::Completions { shell } => code(pages::completions(Cli::command(), shell)),
        Command::Man { all } => code(pages::man(Cli::command(), all.as_deref())),
        Command::Version { json } => version(json),
    };
    ExitCode::from(code)
}

/// Prints help, or what is wrong with the command line; the exit code.
fn tell(said: &clap::Error) -> u8 {
    let code = u8::try_from(said.exit_code()).unwrap_or(NOT_IN_ORDER);
    let printed = said.print().and_then(|()| std::io::stdout().flush());
    match printed {
        Err(error) if !said.use_stderr() => Failure::from(error).report(),
        _ => code,
    }
}

fn code(result: Result<u8, Failure>) -> u8 {
    result.unwrap_or_else(Failure::report)
}

fn with_logging(filter: &str, run: impl FnOnce() -> u8) -> u8 {
    match logging::start(filter) {
        // Everything is written out as it goes out of scope.
        Ok(_logging) => run(),
        Err(fault) => {
            eprintln!("keyward: {fault}");
            NOT_IN_ORDER
        }
    }
}

impl Serve {
    fn run(self, log: &str) -> u8 {
        let Self { config, ready_file } = self;
        with_logging(log, || ended(app::serve(&Options { config, ready_file })))
    }
}

/// The exit code of a run, and on standard error why it failed.
fn ended(result: Result<Outcome, StartFault>) -> u8 {
    match result {
        Ok(Outcome::Drained) => OK,
        Ok(Outcome::Cut) => {
            tracing::warn!("ended with requests cut");
            OK
        }
        Ok(Outcome::Died) => {
            eprintln!("keyward: a thread of the data plane died; the log says which");
            FAILED
        }
        Err(StartFault::Config(faults)) => {
            eprint!("{}", faults.render(is_coloured(&std::io::stderr())));
            eprintln!("\nkeyward: {} fault(s); nothing was started", faults.len());
            NOT_IN_ORDER
        }
        Err(fault @ (StartFault::Pepper(_) | StartFault::Books(_))) => {
            eprintln!("keyward: {fault}");
            NOT_IN_ORDER
        }
        Err(fault @ StartFault::Machine { .. }) => {
            eprintln!("keyward: {fault}");
            FAILED
        }
    }
}

fn is_coloured(stream: &impl IsTerminal) -> bool {
    let is_asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !is_asked_not_to && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

fn version(json: bool) -> u8 {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        output::say(&serde_json::json!({ "name": "keyward", "version": version }).to_string(), OK)
    } else {
        output::say(&format!("keyward {version}"), OK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_started_alike_by_the_short_way_and_by_that_of_all_commands() {
        for line in ["serve --config a", "--log warn serve --config a", "serve --log warn --ready-file b --config=a"] {
            let words = || std::iter::once("keyward").chain(line.split(' '));
            let Server { log, command: OnlyServe::Serve(short) } = Server::try_parse_from(words()).unwrap();
            let cli = Cli::try_parse_from(words()).unwrap();
            let Command::Serve(long) = cli.command else { panic!("{line}") };
            assert_eq!(format!("{log:?} {short:?}"), format!("{:?} {long:?}", cli.log));
        }
        for line in ["serve --help", "--version", "check --config a", "serve --nope", "key list", "help serve"] {
            assert!(Server::try_parse_from(std::iter::once("keyward").chain(line.split(' '))).is_err(), "{line}");
        }
    }

    #[test]
    fn the_command_line_is_sound_and_every_command_teaches_by_example() {
        Cli::command().debug_assert();
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let has_own = command.get_subcommands().next().is_none();
            if has_own && command.get_name() != "help" {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{path} has no example in its help");
            }
            command.get_subcommands().for_each(|sub| look(sub, &path));
        }
        look(&Cli::command(), "");
    }
}
