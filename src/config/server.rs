//! `[server]`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::config::tls;
use crate::policy::AddressRules;
use crate::proxy;
use crate::tls::Protocols;

pub(super) const NAMES: Names = &[
    "listen",
    "workers",
    "trusted_proxies",
    "proxy_protocol",
    "max_body",
    "body_budget",
    "header_timeout",
    "body_idle_timeout",
    "body_min_rate",
    "write_stall_timeout",
    "keep_alive_timeout",
    "max_connections",
    "max_connections_per_client",
    "drain_timeout",
    "cut_streams",
    "failed_attempts_per_minute",
    "tls",
    "client_ca",
    "client_auth",
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a timeout may be: nothing shorter than a clock tick, nothing longer than a day.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

/// Reads the section; `passthrough` is left empty.
pub(super) fn read(root: &Table<'_>) -> proxy::Settings {
    let server = root.section("server", NAMES);
    refuse_what_is_not_offered(&server);
    let seconds = Duration::from_secs;
    let settings = proxy::Settings {
        listen: read_listen(&server),
        workers: usize::try_from(server.integer_or("workers", 0, 0..=1024)).unwrap_or(0),
        trusted_proxies: server.get("trusted_proxies").map_or_else(AddressRules::default, |item| read_addresses(&item)),
        max_body: server.size_or("max_body", 32 * MIB, KIB..=4 * GIB),
        body_budget: server.size_or("body_budget", GIB, MIB..=1024 * GIB),
        header_timeout: server.duration_or("header_timeout", seconds(10), TIMEOUT),
        body_idle_timeout: server.duration_or("body_idle_timeout", seconds(15), TIMEOUT),
        body_min_rate: server.size_or("body_min_rate", KIB, 1..=GIB),
        write_stall_timeout: server.duration_or("write_stall_timeout", seconds(30), TIMEOUT),
        keep_alive_timeout: server.duration_or("keep_alive_timeout", seconds(75), TIMEOUT),
        max_connections: server.count_or("max_connections", 10_000, 1..=1_000_000),
        max_connections_per_client: server.count_or("max_connections_per_client", 1_000, 1..=1_000_000),
        drain_timeout: server.duration_or("drain_timeout", seconds(30), Duration::ZERO..=*TIMEOUT.end()),
        cut_streams: server.boolean_or("cut_streams", true),
        failed_attempts_per_minute: server.count_or("failed_attempts_per_minute", 60, 1..=1_000_000),
        passthrough: Vec::new(),
        tls: tls::read(&server, Protocols::Both),
    };
    if settings.body_budget < settings.max_body {
        let problem = "is smaller than server.max_body, so a body of that size could never be taken";
        match server.get("body_budget").or_else(|| server.get("max_body")) {
            Some(item) if server.has("body_budget") => item.fault(problem),
            Some(item) => item.fault("is larger than server.body_budget, so a body of that size could never be taken"),
            None => server.fault_of("body_budget", problem.to_owned()),
        }
    }
    settings
}

fn refuse_what_is_not_offered(server: &Table<'_>) {
    if let Some(item) = server.get("proxy_protocol")
        && item.boolean() == Some(true)
    {
        item.fault("this version does not offer the PROXY protocol yet; leave it at false");
    }
}

fn read_listen(server: &Table<'_>) -> Vec<SocketAddr> {
    let Some(item) = server.get("listen") else {
        return vec![SocketAddr::from(([127, 0, 0, 1], 8080))];
    };
    if item.is_empty_list() {
        item.fault("is empty: at least one address is required");
    }
    let mut seen: Vec<SocketAddr> = Vec::new();
    item.one_or_list("an address such as \"127.0.0.1:8080\", or a list of them", |item| {
        let address = read_socket_address(&item)?;
        if address.port() != 0 && seen.contains(&address) {
            item.fault(format!("{address} is listed twice"));
        }
        seen.push(address);
        Some(address)
    })
}

/// An IP address and a port. Names are refused: what a resolver answers is not what the operator wrote.
pub(super) fn read_socket_address(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text("an IP address and port such as \"127.0.0.1:8080\"")?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let help = match text.rsplit_once(':') {
        Some(("", port)) if port.parse::<u16>().is_ok() => Some(format!("every address is \"0.0.0.0:{port}\"")),
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
            Some(format!("names are not looked up; this machine alone is \"127.0.0.1:{port}\""))
        }
        Some((name, _)) if name.contains(|c: char| c.is_ascii_alphabetic()) && !name.contains(':') => {
            Some("names are not looked up".to_owned())
        }
        _ => None,
    };
    let told = crate::config::raw::shorten(&format!("{text:?}"));
    let problem = format!("{told} is not an IP address and port such as \"127.0.0.1:8080\" or \"[::1]:8080\"");
    item.fault_with_help(problem, help);
    None
}

/// Addresses and prefixes, each fault at its own element.
pub(super) fn read_addresses(item: &Item<'_>) -> AddressRules {
    const EXPECTED: &str = "an IP address or a prefix such as \"10.0.0.0/8\"";
    let entries = item.list("a list of IP addresses and prefixes", |entry| {
        entry.parsed(EXPECTED, |text| AddressRules::compile(&[text]).is_ok().then_some(text))
    });
    AddressRules::compile(&entries).unwrap_or_default()
}
