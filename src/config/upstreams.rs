//! `[[upstreams]]`.

pub(super) mod connection;
pub(super) mod service;
pub(super) mod urls;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::config::server::TIMEOUT;
use crate::policy::{DialectName, Glob};
use crate::upstream::{Credential, Kind, Protocol, UpstreamSettings};

pub(super) const NAMES: Names = &[
    "name",
    "dialect",
    "url",
    "priority",
    "api_key",
    "headers",
    "models",
    "connect_timeout",
    "first_byte_timeout",
    "request_timeout",
    "idle_timeout",
    "retries",
    "retry_on",
    "retry_budget",
    "eject_after",
    "eject_time",
    "max_ejected",
    "max_outstanding",
    "max_outstanding_per_endpoint",
    "probe",
    "http",
    "tls",
    "proxy",
    "connection_lifetime",
    "dns_refresh",
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
    let (urls, credentials) = match kind {
        Some(Kind::Sandbox) => {
            for name in ["url", "api_key", "headers", "probe", "http", "tls", "proxy"] {
                if let Some(item) = table.get(name) {
                    item.fault_unseen("the built-in backend takes none");
                }
            }
            (Vec::new(), Vec::new())
        }
        _ => (urls::read(table, kind), read_credentials(table)),
    };
    let timeout = |name, seconds| table.duration_or(name, Duration::from_secs(seconds), TIMEOUT);
    let is_backend = kind != Some(Kind::Sandbox);
    let protocol = connection::read_protocol(table);
    let upstream = UpstreamSettings {
        name: Box::default(),
        kind: kind.unwrap_or(Kind::Sandbox),
        priority: table.count_or("priority", 0, 0..=1000),
        urls,
        credentials,
        headers: if is_backend { connection::read_headers(table) } else { Vec::new() },
        models: read_models(table),
        connect_timeout: timeout("connect_timeout", 5),
        first_byte_timeout: timeout("first_byte_timeout", 600),
        request_timeout: table.get("request_timeout").and_then(|item| item.duration(TIMEOUT)),
        idle_timeout: timeout("idle_timeout", 300),
        retries: table.count_or("retries", 1, 0..=10),
        retry_budget_percent: table.count_or("retry_budget", 20, 0..=100),
        retry_on: service::read_retry_on(table),
        health: service::read_health(table),
        probe: if is_backend { service::read_probe(table) } else { None },
        tls: if is_backend { connection::read_tls(table, protocol) } else { None },
        via: if is_backend { connection::read_proxy(table) } else { None },
        protocol,
        connection_lifetime: timeout("connection_lifetime", 600),
        dns_refresh: timeout("dns_refresh", 30),
        websocket: table.boolean_or("websocket", false),
    };
    let has_websockets = matches!(kind, Some(Kind::Http(DialectName::OpenAi | DialectName::Azure)) | None);
    if let Some(item) = table.get("websocket").filter(|_| upstream.websocket && !has_websockets) {
        item.fault("only openai and azure have calls that are websockets");
    }
    if let Some(item) = table.get("websocket").filter(|_| upstream.websocket && upstream.protocol != Protocol::Http1) {
        item.fault("a websocket is opened over HTTP/1.1: this wants http = \"1.1\"");
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

fn read_credentials(table: &Table<'_>) -> Vec<Credential> {
    let Some(item) = table.get("api_key") else { return Vec::new() };
    if item.value.as_array().is_none() {
        return read_credential(&item).into_iter().collect();
    }
    if item.is_empty_list() {
        item.fault_unseen("is empty; leave it out where the upstream wants none");
    }
    let mut credentials: Vec<Credential> = Vec::new();
    item.each("a secret or a list of them", |_, item| {
        let Some(credential) = read_credential(&item) else { return };
        if credentials.contains(&credential) {
            item.warn_unseen("is listed twice");
            return;
        }
        credentials.push(credential);
    });
    credentials
}

fn read_credential(item: &Item<'_>) -> Option<Credential> {
    let secret = item.secret()?;
    let credential = Credential::new(&secret);
    if credential.is_none() {
        item.fault_unseen("holds a character that cannot stand in a header");
    }
    credential
}
