//! `keyward.toml` and `keys.toml`, parsed and checked whole: all of a file is taken or none of it, and everything that is
//! wrong with it is told at once, with file, line, column and path, never with a secret.
//!
//! Pure but for the secrets it is told to read (`env:`, `file:`) and for [`watch`], which says when a file has changed.

mod admin;
mod excerpt;
mod fault;
mod item;
mod keys;
mod limits;
mod listen;
mod models;
mod named;
mod passthrough;
mod quantity;
mod raw;
mod restart;
mod secret;
mod server;
mod storage;
mod suggest;
mod tls;
mod upstreams;
pub mod watch;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::limits::LimitSettings;
use crate::policy::PriceTable;
use crate::units::ModelName;
use crate::upstream::UpstreamSettings;
use crate::{admin as operators, ledger, proxy, store};

pub use fault::{Fault, Faults, Place};
pub use keys::{FileKey, load_keys, parse_keys};
pub use named::files_named_by;
pub use restart::needs_restart;

use named::keys_file_of;
use raw::{Names, Table};

const NAMES: Names =
    &["keys_file", "server", "admin", "storage", "limits", "upstreams", "models", "fallbacks", "prices", "passthrough"];

/// `keyward.toml`, checked. Its `Debug` holds no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]` and `[[passthrough]]`.
    pub server: proxy::Settings,
    /// `[admin]`.
    pub admin: operators::Settings,
    /// `[storage]`.
    pub storage: store::Settings,
    /// The ledger's part of `[storage]`.
    pub ledger: ledger::Settings,
    /// `[limits]`.
    pub limits: LimitSettings,
    /// `[[upstreams]]`, at least one, in the order of the file.
    pub upstreams: Vec<UpstreamSettings>,
    /// `[models]`: alias, and the name sent upstream for it, which is no alias.
    pub aliases: Vec<(ModelName, ModelName)>,
    /// `[fallbacks]`: a name that clients ask for, and the names tried in its place, in this order; never itself.
    pub fallbacks: Vec<(ModelName, Vec<ModelName>)>,
    /// `[prices]`.
    pub prices: PriceTable,
    /// Where keys are declared by file.
    pub keys_file: Option<PathBuf>,
    /// What is allowed but unwise.
    pub warnings: Vec<Fault>,
}

/// A duration as the files write it: `250ms`, `30s`, `5m`, `24h`.
///
/// # Errors
/// What is expected.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    quantity::duration(text).ok_or_else(|| format!("{} is expected", quantity::DURATION))
}

/// Reads and checks a `keyward.toml`. `env` gives the environment's variables.
///
/// # Errors
/// Every fault of the file, or why it could not be read.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    parse(&read_file(path)?, path, env)
}

/// Reads and checks a `keyward.toml` and the key file it names. Where it is too broken to name one, `known_keys_file` is
/// checked in its place.
///
/// # Errors
/// Every fault of both files.
pub fn load_all(
    path: &Path,
    known_keys_file: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<FileKey>), Faults> {
    let config = load(path, env);
    let keys_file = match &config {
        Ok(config) => config.keys_file.clone(),
        Err(_) => keys_file_of(path).or_else(|| known_keys_file.map(Path::to_owned)),
    };
    let keys = keys_file.map_or_else(|| Ok(Vec::new()), |file| load_keys(&file, env));
    match (config, keys) {
        (Ok(config), Ok(keys)) => Ok((config, keys)),
        (Err(mut faults), Err(more)) => {
            faults.append(more);
            Err(faults)
        }
        (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => Err(faults),
    }
}

/// Reads where a `keyward.toml` says that the store is, and nothing else of it: whoever copies it need not have the secrets of a program that serves.
///
/// # Errors
/// Every fault of that section, or why the file could not be read.
pub fn load_storage(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<store::Settings, Faults> {
    let (settings, _warnings) = raw::read_document(&read_file(path)?, path, env, NAMES, &vocabulary, storage::read)?;
    Ok(settings)
}

/// Checks the text of a `keyward.toml`. `origin` names it in faults; relative paths are relative to its directory.
///
/// # Errors
/// Every fault.
pub fn parse(text: &str, origin: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let (config, warnings) = raw::read_document(text, origin, env, NAMES, &vocabulary, read)?;
    Ok(Config { warnings, ..config })
}

fn read(root: &Table<'_>) -> Config {
    let upstreams = upstreams::read(root);
    let passthrough = passthrough::read(root, &upstreams);
    let server = proxy::Settings { passthrough, ..server::read(root) };
    let admin = admin::read(root);
    let is_any_port = admin.listen.tcp().is_some_and(|address| address.port() == 0);
    if !is_any_port && server.listen.contains(&admin.listen) {
        let problem = format!("{} is an address of server.listen already", admin.listen);
        root.section("admin", admin::NAMES).fault_of("listen", problem);
    }
    let keys_file = root.get("keys_file").and_then(|item| {
        item.parsed("the path of a file", |path| (!path.is_empty()).then(|| item.reader.resolve(path)))
    });
    let aliases = models::read_aliases(root, &upstreams);
    Config {
        server,
        admin,
        storage: storage::read(root),
        ledger: storage::read_ledger(root),
        limits: limits::read(root),
        fallbacks: models::read_fallbacks(root, &upstreams, &aliases),
        aliases,
        prices: models::read_prices(root),
        upstreams,
        keys_file,
        warnings: Vec::new(),
    }
}

/// Every setting of `keyward.toml` by its path; `[]` stands for a list's index and `*` for a name that is the operator's.
pub fn setting_names() -> Vec<String> {
    let sections: [(&str, Names); 18] = [
        ("", NAMES),
        ("server.", server::NAMES),
        ("server.tls.", tls::NAMES),
        ("admin.", admin::NAMES),
        ("admin.tls.", tls::NAMES),
        ("admin.tokens[].", admin::TOKEN_NAMES),
        ("admin.apig.", admin::APIG_NAMES),
        ("admin.newapi.", admin::NEWAPI_NAMES),
        ("storage.", storage::NAMES),
        ("limits.", limits::NAMES),
        ("upstreams[].", upstreams::NAMES),
        ("upstreams[].url[].", upstreams::urls::NAMES),
        ("upstreams[].probe.", upstreams::service::PROBE_NAMES),
        ("upstreams[].tls.", upstreams::connection::TLS_NAMES),
        ("models.", &["*"]),
        ("fallbacks.", &["*"]),
        ("prices.*.", models::PRICE_NAMES),
        ("passthrough[].", passthrough::NAMES),
    ];
    sections.iter().flat_map(|(section, names)| names.iter().map(move |name| format!("{section}{name}"))).collect()
}

/// Every setting of a key in `keys.toml`, in the same spelling.
pub fn key_setting_names() -> Vec<String> {
    let previous = keys::PREVIOUS_NAMES.iter().map(|name| format!("keys[].previous[].{name}"));
    keys::KEY_NAMES.iter().map(|name| format!("keys[].{name}")).chain(previous).collect()
}

fn vocabulary() -> Vec<Names> {
    vec![
        NAMES,
        server::NAMES,
        tls::NAMES,
        admin::NAMES,
        admin::TOKEN_NAMES,
        admin::APIG_NAMES,
        admin::NEWAPI_NAMES,
        storage::NAMES,
        limits::NAMES,
        upstreams::NAMES,
        upstreams::urls::NAMES,
        upstreams::service::PROBE_NAMES,
        upstreams::connection::TLS_NAMES,
        models::PRICE_NAMES,
        passthrough::NAMES,
    ]
}

fn read_file(path: &Path) -> Result<String, Faults> {
    let read = || {
        let mut bytes = Vec::new();
        secret::open_regular(path)?.read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes =
        read().map_err(|error| Faults::unreadable(path, format!("cannot be read: {}", secret::reason(&error))))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        Faults::unreadable(path, format!("is not UTF-8: line {line} holds other bytes"))
    })
}
