//! `keyward ledger`: the books, recomputed from the store and the journals beside it, and the records they are made of.

mod records;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::json;

use crate::app::books::{self, Audit};
use crate::config;
use crate::store::Settings;

use super::output::say;
use super::{FAILED, NOT_IN_ORDER, OK, is_coloured};

/// What can be asked of the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Recompute the books: is what every key is said to have used the sum of its records?
    #[command(
        after_help = "Example:\n  keyward ledger verify --config keyward.toml\n\nReads the store and its journals, whether or not the program runs. Exit code 1 when something does not agree."
    )]
    Verify {
        /// The configuration file.
        #[arg(long, env = "KEYWARD_CONFIG", value_name = "FILE")]
        config: PathBuf,
        /// Print the verdict as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the records of single requests, the newest last.
    #[command(after_help = records::EXAMPLES)]
    Records(records::Records),
}

impl LedgerCommand {
    /// Does it; the exit code.
    pub fn run(&self) -> u8 {
        match self {
            Self::Verify { config, json } => verify(config, *json),
            Self::Records(records) => records.run(),
        }
    }
}

/// Where the store is; or the exit code, once faults of that are told.
fn configured(path: &Path) -> Result<Settings, u8> {
    let env = |name: &str| std::env::var(name).ok();
    config::load_storage(path, &env).map_err(|faults| {
        eprint!("{}", faults.render(is_coloured(&std::io::stderr())));
        NOT_IN_ORDER
    })
}

/// Verifies and prints the verdict: exit code 0 when everything agrees, 1 when something does not.
fn verify(config: &Path, json: bool) -> u8 {
    let storage = match configured(config) {
        Ok(storage) => storage,
        Err(code) => return code,
    };
    let audit = match books::audit(&storage) {
        Ok(audit) => audit,
        Err(fault) => {
            eprintln!("keyward: {fault}");
            return FAILED;
        }
    };
    let code = if audit.books.mismatches.is_empty() { OK } else { FAILED };
    say(&if json { verdict(&audit).to_string() } else { drawn(&audit) }, code)
}

fn verdict(audit: &Audit) -> serde_json::Value {
    let books = &audit.books;
    let mismatches = books.mismatches.iter().map(|found| {
        json!({ "key_id": found.key.map(|key| key.to_string()), "what": found.what, "counted": found.counted, "summed": found.summed })
    });
    json!({
        "ok": books.mismatches.is_empty(),
        "keys": books.keys,
        "records": books.records,
        "requests": books.requests,
        "units": books.units,
        "in_journals": audit.pending,
        "mismatches": mismatches.collect::<Vec<_>>(),
    })
}

fn drawn(audit: &Audit) -> String {
    let books = &audit.books;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.add_row(["keys with a count", &books.keys.to_string()]);
    table.add_row(["records", &books.records.to_string()]);
    table.add_row(["requests", &books.requests.to_string()]);
    table.add_row(["units", &books.units.to_string()]);
    table.add_row(["entries still in journals", &audit.pending.to_string()]);
    if books.mismatches.is_empty() {
        return format!("{table}\nthe books agree: what is counted for each key is the sum of its records");
    }
    let summary = table;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(["key", "what", "counted", "summed"]);
    for found in &books.mismatches {
        let key = found.key.map_or_else(|| "all".to_owned(), |key| key.to_string());
        table.add_row([key, found.what.to_owned(), found.counted.to_string(), found.summed.to_string()]);
    }
    format!("{summary}\n{table}\nthe books do not agree in {} place(s)", books.mismatches.len())
}
