//! `[server]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::item::Item;
use crate::config::listen;
use crate::config::raw::{Names, Table};
use crate::config::tls;
use crate::policy::AddressRules;
use crate::proxy;
use crate::proxy::settings::MemoryLimit;
use crate::tls::Protocols;

pub(super) const NAMES: Names = &[
    "listen",
    "socket_mode",
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
    "max_requests",
    "memory_limit",
    "drain_delay",
    "drain_timeout",
    "cut_streams",
    "failed_attempts_per_minute",
    "tls",
    "tls_min_version",
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
    let seconds = Duration::from_secs;
    let settings = proxy::Settings {
        listen: listen::read_list(&server),
        socket_mode: listen::read_mode(&server, 0o660),
        proxy_protocol: server.boolean_or("proxy_protocol", false),
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
        max_requests: server.count_or("max_requests", 20_000, 1..=1_000_000),
        memory_limit: read_memory_limit(&server),
        drain_delay: server.duration_or("drain_delay", Duration::ZERO, Duration::ZERO..=*TIMEOUT.end()),
        drain_timeout: server.duration_or("drain_timeout", seconds(30), Duration::ZERO..=*TIMEOUT.end()),
        cut_streams: server.boolean_or("cut_streams", true),
        failed_attempts_per_minute: server.count_or("failed_attempts_per_minute", 60, 1..=1_000_000),
        passthrough: Vec::new(),
        tls: tls::read(&server, Protocols::Both),
    };
    if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
        let problem = "is only taken from an address in server.trusted_proxies, and none is listed there";
        server.fault_of("proxy_protocol", problem.to_owned());
    }
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

fn read_memory_limit(server: &Table<'_>) -> MemoryLimit {
    const EXPECTED: &str = "\"auto\", \"none\", or a size such as \"2GiB\"";
    let limit = server.get("memory_limit").and_then(|item| match item.text(EXPECTED)? {
        "auto" => Some(MemoryLimit::Auto),
        "none" => Some(MemoryLimit::None),
        _ => item.size(64 * MIB..=64 * 1024 * GIB).map(MemoryLimit::Bytes),
    });
    limit.unwrap_or(MemoryLimit::Auto)
}

/// Addresses and prefixes, each fault at its own element.
pub(super) fn read_addresses(item: &Item<'_>) -> AddressRules {
    const EXPECTED: &str = "an IP address or a prefix such as \"10.0.0.0/8\"";
    let entries = item.list("a list of IP addresses and prefixes", |entry| {
        entry.parsed(EXPECTED, |text| AddressRules::compile(&[text]).is_ok().then_some(text))
    });
    AddressRules::compile(&entries).unwrap_or_default()
}
