//! How an upstream is kept in service: retries, ejection, limits, probes.

use std::time::Duration;

use http::StatusCode;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::config::server::TIMEOUT;
use crate::config::upstreams::urls::is_plain_path;
use crate::upstream::{HealthSettings, ProbeSettings};

pub(in crate::config) const PROBE_NAMES: Names = &["path", "interval", "timeout", "expect"];

/// The statuses by which an upstream can say that it did nothing.
const RETRIABLE: [u64; 2] = [429, 503];

const MOST_OUTSTANDING: u64 = 1_000_000;

pub(super) fn read_retry_on(table: &Table<'_>) -> Vec<StatusCode> {
    const EXPECTED: &str = "a list of 429 and 503";
    let Some(item) = table.get("retry_on") else { return Vec::new() };
    item.list(EXPECTED, |item| {
        let status = item.integer(100..=599)?;
        if !RETRIABLE.contains(&status) {
            item.fault(format!("{status} does not say that nothing was done; 429 and 503 may be tried again"));
            return None;
        }
        StatusCode::from_u16(u16::try_from(status).ok()?).ok()
    })
}

pub(super) fn read_health(table: &Table<'_>) -> HealthSettings {
    let default = HealthSettings::default();
    let eject_time = table.duration_or("eject_time", Duration::from_nanos(default.eject_ns), TIMEOUT);
    let most = |name| {
        let number = table.get(name).and_then(|item| item.integer(1..=MOST_OUTSTANDING));
        number.and_then(|number| u32::try_from(number).ok())
    };
    HealthSettings {
        eject_after: table.count_or("eject_after", default.eject_after, 1..=1000),
        eject_ns: u64::try_from(eject_time.as_nanos()).unwrap_or(u64::MAX),
        max_ejected_percent: table.count_or("max_ejected", default.max_ejected_percent, 0..=100),
        max_outstanding: most("max_outstanding_per_endpoint"),
        max_outstanding_of_pool: most("max_outstanding"),
    }
}

pub(super) fn read_probe(table: &Table<'_>) -> Option<ProbeSettings> {
    let item = table.get("probe")?;
    let probe = item.into_table(PROBE_NAMES)?;
    let default = ProbeSettings::default();
    let interval = Duration::from_millis(100)..=*TIMEOUT.end();
    Some(ProbeSettings {
        path: probe.get("path").and_then(|item| read_path(&item)),
        interval: probe.duration_or("interval", default.interval, interval),
        timeout: probe.duration_or("timeout", default.timeout, TIMEOUT),
        expect: probe.get("expect").and_then(|item| {
            if !probe.has("path") {
                item.fault("needs a path: a connection has no status");
            }
            let status = item.integer(200..=599)?;
            StatusCode::from_u16(u16::try_from(status).ok()?).ok()
        }),
    })
}

fn read_path(item: &Item<'_>) -> Option<Box<str>> {
    item.parsed("a path such as \"/health\", nothing in it encoded", |text| {
        (text == "/" || is_plain_path(text)).then(|| text.into())
    })
}
