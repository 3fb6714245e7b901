//! `keyward key ...`: keys, over the admin API.

mod create;
mod delete;
mod explain;
mod fields;
mod hash;
mod list;
pub mod resolve;
mod rotate;
mod show;
mod switch;
mod update;
mod usage;

use clap::{Args, Subcommand};
use http::Method;

use super::client::{Answer, Call, Client, Query};
use super::failure::Failure;

/// Where keys are.
const KEYS: &str = "/api/v1/gateway/keys";

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; its secret is shown this once.
    #[command(after_help = create::EXAMPLES)]
    Create(create::Create),
    /// List keys, newest first.
    #[command(after_help = list::EXAMPLES)]
    List(list::List),
    /// Show a key.
    #[command(after_help = show::EXAMPLES)]
    Show(show::Show),
    /// Change a key; what is not named stays as it is.
    #[command(after_help = update::EXAMPLES)]
    Update(update::Update),
    /// Give a key a new secret; the old one works on for a while.
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(rotate::Rotate),
    /// End the time in which a rotated key's old secret works.
    #[command(after_help = rotate::END_EXAMPLES)]
    RotateEnd(rotate::RotateEnd),
    /// Switch keys off; their running streams end.
    #[command(after_help = switch::DISABLE_EXAMPLES)]
    Disable(switch::Switch),
    /// Switch keys on again.
    #[command(after_help = switch::ENABLE_EXAMPLES)]
    Enable(switch::Switch),
    /// Delete keys for good; their usage stays.
    #[command(after_help = delete::EXAMPLES)]
    Delete(delete::Delete),
    /// Would this key be admitted now? Every check, with its numbers; takes nothing.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Explain),
    /// What a key used.
    #[command(after_help = usage::EXAMPLES)]
    Usage(usage::Usage),
    /// Read a secret from standard input and print what keys.toml wants for it.
    #[command(after_help = "Examples:\n  printf %s \"$SECRET\" | keyward key hash\n  keyward key hash --generate")]
    Hash {
        /// Make a new secret, print it to standard error and its hash to standard output.
        #[arg(long)]
        generate: bool,
    },
}

impl KeyCommand {
    /// Does it; the exit code when it ends well.
    pub fn run(&self) -> Result<u8, Failure> {
        match self {
            Self::Create(create) => create.run(),
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Update(update) => update.run(),
            Self::Rotate(rotate) => rotate.run(),
            Self::RotateEnd(end) => end.run(),
            Self::Disable(keys) => keys.run("disable"),
            Self::Enable(keys) => keys.run("enable"),
            Self::Delete(delete) => delete.run(),
            Self::Explain(explain) => return explain.run(),
            Self::Usage(usage) => usage.run(),
            Self::Hash { generate } => hash::hash(*generate),
        }
        .map(|()| super::OK)
    }
}

/// In which form a key is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Form {
    /// Print the API's JSON.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print only the secret where there is a new one, else the id.
    #[arg(long, short)]
    quiet: bool,
}

/// The path of a key, or of what can be done with it.
fn path_of(id: &str, action: &str) -> String {
    format!("{KEYS}/{id}{action}")
}

/// One page of the list.
fn page(client: &Client, query: &Query) -> Result<Answer, Failure> {
    client.call(&Call::new(Method::GET, query.behind(KEYS)))
}
