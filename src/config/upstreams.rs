//! `[[upstreams]]`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use http::uri::Authority;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::config::server::TIMEOUT;
use crate::policy::{DialectName, Glob};
use crate::upstream::{Address, Credential, Kind, UpstreamSettings};

pub(super) const NAMES: Names = &[
    "name",
    "dialect",
    "url",
    "api_key",
    "models",
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "retries",
    "websocket",
];

const DIALECTS: [(&str, Kind); 5] = [
    ("openai", Kind::Http(DialectName::OpenAi)),
    ("anthropic", Kind::Http(DialectName::Anthropic)),
    ("gemini", Kind::Http(DialectName::Gemini)),
    ("azure", Kind::Http(DialectName::Azure)),
    ("sandbox", Kind::Sandbox),
];

/// Reads every entry; there must be one at least.
pub(super) fn read(root: &Table<'_>) -> Vec<UpstreamSettings> {
    let mut upstreams = Vec::new();
    let mut names = HashMap::new();
    match root.get("upstreams") {
        None => root.fault_of("upstreams", "is missing: at least one [[upstreams]] is required".to_owned()),
        Some(item) if item.is_empty_list() => item.fault("is empty: at least one upstream is required"),
        Some(_) => {}
    }
    root.tables("upstreams", NAMES, |index, table| {
        let name = table.require("name", "1 to 64 of A-Z a-z 0-9 . _ -").and_then(|item| {
            let name = read_name(&item)?;
            if let Some(first) = names.insert(name.clone(), index) {
                item.fault(format!("{name:?} is the name of upstreams[{first}] already"));
            }
            Some(name)
        });
        let upstream = read_one(table);
        upstreams.extend(name.zip(upstream).map(|(name, upstream)| UpstreamSettings { name, ..upstream }));
    });
    upstreams
}

/// Every name that is written, also those of entries that have faults.
pub(super) fn names_written(root: &Table<'_>) -> HashSet<String> {
    let list = root.get("upstreams").and_then(|item| item.value.as_array());
    let names = list.into_iter().flatten().filter_map(|entry| entry.get_ref().get("name"));
    names.filter_map(|name| name.get_ref().as_str()).map(str::to_owned).collect()
}

fn read_name(item: &Item<'_>) -> Option<Box<str>> {
    item.parsed("1 to 64 of A-Z a-z 0-9 . _ -", |text| {
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        (is_plain && (1..=64).contains(&text.len())).then(|| text.into())
    })
}

/// Everything but the name.
fn read_one(table: &Table<'_>) -> Option<UpstreamSettings> {
    let kind = table.require("dialect", "openai, anthropic, gemini, azure or sandbox");
    let kind = kind.and_then(|item| item.one_of(&DIALECTS));
    let (urls, credential) = match kind {
        Some(Kind::Sandbox) => {
            for name in ["url", "api_key"] {
                if let Some(item) = table.get(name) {
                    item.fault_unseen("the built-in backend takes none");
                }
            }
            (Vec::new(), None)
        }
        _ => (read_urls(table, kind), table.get("api_key").and_then(|item| read_credential(&item))),
    };
    let timeout = |name, seconds| table.duration_or(name, Duration::from_secs(seconds), TIMEOUT);
    let upstream = UpstreamSettings {
        name: Box::default(),
        kind: kind.unwrap_or(Kind::Sandbox),
        urls,
        credential,
        models: read_models(table),
        connect_timeout: timeout("connect_timeout", 5),
        first_byte_timeout: timeout("first_byte_timeout", 600),
        idle_timeout: timeout("idle_timeout", 300),
        retries: table.count_or("retries", 1, 0..=10),
        websocket: table.boolean_or("websocket", false),
    };
    let has_websockets = matches!(kind, Some(Kind::Http(DialectName::OpenAi | DialectName::Azure)) | None);
    if let Some(item) = table.get("websocket").filter(|_| upstream.websocket && !has_websockets) {
        item.fault("only openai and azure have calls that are websockets");
    }
    kind.map(|_| upstream)
}

fn read_models(table: &Table<'_>) -> Vec<Glob> {
    const LIST: &str = "a list of model names or patterns with \"*\"";
    let Some(item) = table.require("models", LIST) else { return Vec::new() };
    if item.is_empty_list() {
        item.fault("is empty, so this upstream would serve nothing; [\"*\"] is every model");
    }
    item.list(LIST, |item| item.parsed("a model name or a pattern with \"*\"", Glob::new))
}

fn read_credential(item: &Item<'_>) -> Option<Credential> {
    let secret = item.secret()?;
    let credential = Credential::new(&secret);
    if credential.is_none() {
        item.fault_unseen("holds a character that cannot stand in a header");
    }
    credential
}

fn read_urls(table: &Table<'_>, kind: Option<Kind>) -> Vec<Address> {
    const EXPECTED: &str = "an http or https URL such as \"https://api.example.com\"";
    // Without a dialect it is not known whether a URL is wanted.
    let item = if kind.is_some() { table.require("url", EXPECTED) } else { table.get("url") };
    let Some(item) = item else { return Vec::new() };
    if item.is_empty_list() {
        item.fault("is empty: at least one URL is required");
    }
    let mut seen: Vec<Address> = Vec::new();
    item.one_or_list("a URL or a list of them", |item| {
        let Some(text) = item.value.as_str() else {
            item.fault_unseen(format!("{} is not {EXPECTED}", item.kind()));
            return None;
        };
        let address = match parse_url(text) {
            Ok(address) => address,
            // A password may stand in what could not be taken apart, so it is not told.
            Err(problem) => {
                item.fault_unseen(problem);
                return None;
            }
        };
        if seen.contains(&address) {
            item.fault_unseen("is listed twice");
        }
        seen.push(address.clone());
        Some(address)
    })
}

/// Takes a URL apart; says what is wrong with it without repeating it.
pub(super) fn parse_url(text: &str) -> Result<Address, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("is not an http or https URL")?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err("is not an http or https URL"),
    };
    if rest.contains(['?', '#']) {
        return Err("carries a query or a fragment; a URL without one is expected");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("carries a user name; a credential belongs into api_key");
    }
    let authority: Authority = authority.parse().map_err(|_| "names no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    let port = match after_host.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("names a port that is not 1 to 65535")?,
        None if !after_host.is_empty() => return Err("names no host"),
        None => [80, 443][usize::from(tls)],
    };
    if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) {
        return Err("names no host");
    }
    let prefix = path.strip_suffix('/').unwrap_or(path);
    if !prefix.is_empty() && !is_plain_path(prefix) {
        return Err("has a path that backends could read in different ways");
    }
    Ok(Address { tls, host: host.into(), port, prefix: prefix.into(), authority: authority.clone() })
}

/// A path every backend reads the same way (SECURITY 1): no empty or dot segment, nothing encoded, no parameter.
pub(super) fn is_plain_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| {
            let is_plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~:@!$&'()*+,=-".contains(&b));
            is_plain && !matches!(segment, "" | "." | "..")
        })
    })
}
