//! What was used is written down, whatever becomes of the process.

mod faults;
mod kill;
pub mod load;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::harness::{Client, get};

/// In front of the built-in backend; nothing else is needed.
const CONFIG: &str = r#"
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
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the store");
    let mut rows =
        store.prepare("SELECT request_id, units, input_tokens + output_tokens FROM records").expect("records");
    let mut found: HashMap<String, Vec<Record>> = HashMap::new();
    let (mut units, mut each) = (0, rows.query([]).expect("records"));
    let number =
        |row: &rusqlite::Row<'_>, at| u64::try_from(row.get::<_, i64>(at).expect("a number")).expect("no less");
    while let Some(row) = each.next().expect("a record") {
        units += number(row, 1);
        found.entry(row.get(0).expect("text")).or_default().push(Record { tokens: number(row, 2) });
    }
    (found, units)
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
