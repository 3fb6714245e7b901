//! What was used is written down, whatever becomes of the process.

mod faults;
mod kill;
pub mod load;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;

use keyward::ledger::Entry;
use keyward::store::Store;
use keyward::store::embedded::Embedded;

use crate::harness::{Client, get};

/// In front of the built-in backend; nothing else is needed.
pub const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 2
[admin]
listen = "127.0.0.1:0"
tokens = [{ name = "ops", token = "an-operators-token", role = "write" }]
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

const KEYS: usize = 4;

pub fn secrets() -> Vec<String> {
    (0..KEYS).map(|n| format!("ledger-secret-{n}")).collect()
}

/// Keys that all have a quota, and one each a limit of every other kind; none of which is reached.
pub fn keys_file() -> String {
    let limits = ["", "rpm_limit = 1000000000", "tpm_limit = 10000000000", "max_parallel = 1000"];
    let one = |(n, secret): (usize, &String)| {
        let limit = limits[n % limits.len()];
        format!("[[keys]]\nname = \"k{n}\"\nkey = \"{secret}\"\nquota_limit = 1000000000000\n{limit}\n")
    };
    secrets().iter().enumerate().map(one).collect()
}

/// What the ledger holds of one request.
#[derive(Debug)]
pub struct Record {
    pub tokens: u64,
}

/// Every record of a store by its request, and the units of them all.
pub fn found(path: &Path) -> (HashMap<String, Vec<Record>>, u64) {
    let mut found: HashMap<String, Vec<Record>> = HashMap::new();
    let mut units = 0;
    for entry in records(path) {
        units += entry.units;
        let record = Record { tokens: entry.usage.input + entry.usage.output };
        found.entry(entry.request_id.into()).or_default().push(record);
    }
    (found, units)
}

/// The entries that became records of a store.
pub fn records(path: &Path) -> Vec<Entry> {
    let store = Embedded::open(path).expect("the store");
    let mut found = Vec::new();
    let mut keep = |entry| {
        found.push(entry);
        ControlFlow::Continue(())
    };
    store.records(i64::MIN, i64::MAX, &mut keep).expect("records");
    found
}

/// A metric without labels.
async fn metric(admin: SocketAddr, name: &str) -> f64 {
    let answer = Client::once(admin, &get("/metrics", "")).await;
    let text = answer.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("{name}:\n{text}"));
    line.parse().expect("a number")
}
