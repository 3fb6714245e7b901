//! Where an upstream is: URLs, taken apart and weighed.

use http::uri::Authority;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::upstream::choice::MOST_ENDPOINTS;
use crate::upstream::{Address, Kind, Target};

pub(in crate::config) const NAMES: Names = &["url", "weight"];

const EXPECTED: &str = "an http or https URL such as \"https://api.example.com\"";

/// The endpoints; their absence is a fault.
pub(super) fn read(table: &Table<'_>, kind: Option<Kind>) -> Vec<Target> {
    // Without a dialect it is not known whether a URL is wanted.
    let item = if kind.is_some() { table.require("url", EXPECTED) } else { table.get("url") };
    let Some(item) = item else { return Vec::new() };
    if item.is_empty_list() {
        item.fault("is empty: at least one URL is required");
    }
    let mut seen: Vec<Address> = Vec::new();
    let targets = item.one_or_list("a URL or a list of them", |item| {
        if item.value.as_table().is_none() {
            return Some(Target { address: read_one(&item, &mut seen)?, weight: 1 });
        }
        let table = item.into_table(NAMES)?;
        let weight = table.count_or("weight", 1, 1..=1000);
        let address = table.require("url", EXPECTED).and_then(|item| read_one(&item, &mut seen));
        address.map(|address| Target { address, weight })
    });
    if targets.len() > MOST_ENDPOINTS {
        item.fault(format!("holds {} URLs; {MOST_ENDPOINTS} is the most", targets.len()));
    }
    targets
}

fn read_one(item: &Item<'_>, seen: &mut Vec<Address>) -> Option<Address> {
    let address = read_address(item, EXPECTED)?;
    if seen.contains(&address) {
        item.fault_unseen("is listed twice");
    }
    seen.push(address.clone());
    Some(address)
}

/// One URL.
pub(super) fn read_address(item: &Item<'_>, expected: &str) -> Option<Address> {
    let Some(text) = item.value.as_str() else {
        item.fault_unseen(format!("{} is not {expected}", item.kind()));
        return None;
    };
    match parse_url(text) {
        Ok(address) => Some(address),
        // A password may stand in what could not be taken apart, so it is not told.
        Err(problem) => {
            item.fault_unseen(problem);
            None
        }
    }
}

/// Takes a URL apart; says what is wrong with it without repeating it.
pub(in crate::config) fn parse_url(text: &str) -> Result<Address, &'static str> {
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
pub(in crate::config) fn is_plain_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| {
            let is_plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~:@!$&'()*+,=-".contains(&b));
            is_plain && !matches!(segment, "" | "." | "..")
        })
    })
}
