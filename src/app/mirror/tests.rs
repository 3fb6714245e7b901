//! What the store has of a key file, after every kind of change to it.

use std::path::Path;

use super::*;
use crate::clock::Now;
use crate::config;
use crate::keys::secret::{Digester, Pepper};
use crate::keys::table::KeyTable;
use crate::store::embedded::Embedded;
use crate::store::{AuditQuery, KeyFilter, Order, PageFrom, Switch};

/// A store that outlives programs, and the program of the moment.
struct Bench {
    folder: tempfile::TempDir,
    store: Arc<Switch>,
    digester: Digester,
    clock: Clock,
    declared: Arc<Declared>,
    mirror: Mirror,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Switch::new(Arc::new(Embedded::open(&folder.path().join("keys.db")).unwrap())));
        let clock = Clock::manual(Now { monotonic_ns: 0, unix_ms: 1_750_000_000_000 });
        let digester = Digester::new(&Pepper::generate());
        let declared = Arc::new(Declared::new(Arc::default()));
        let mirror = Mirror::new(Arc::<Switch>::clone(&store), clock.clone(), Arc::clone(&declared));
        Self { folder, store, digester, clock, declared, mirror }
    }

    /// Another program on the same store.
    fn restart(&mut self) {
        self.declared = Arc::new(Declared::new(Arc::new(KeyTable::new())));
        let store = Arc::<Switch>::clone(&self.store);
        self.mirror = Mirror::new(store, self.clock.clone(), Arc::clone(&self.declared));
    }

    /// Puts a file in force: of each key its name, the digit its secret's hash is made of, and what else it says.
    fn file(&self, keys: &[(&str, char, &str)]) -> usize {
        let entry = |(name, digit, more): &(&str, char, &str)| {
            let hash = digit.to_string().repeat(64);
            format!("[[keys]]\nname = \"{name}\"\nkey_hash = \"sha256:{hash}\"\n{more}\n")
        };
        let text = if keys.is_empty() { "keys = []".to_owned() } else { keys.iter().map(entry).collect() };
        let keys = config::parse_keys(&text, Path::new("keys.toml"), &|_| None).unwrap();
        self.declared.replace(keys, Path::new("keys.toml"), &self.digester).unwrap()
    }

    /// Number, name and version of every key in the store, by number.
    fn kept(&self) -> Vec<(i64, String, u64)> {
        let page = self.store.keys(&KeyFilter::default(), Order::NumberDescending, PageFrom::Offset(0), 100).unwrap();
        let shown = |key: &StoredKey| (key.number, key.record.policy.name.to_string(), key.details.version);
        page.keys.iter().rev().map(|(key, _)| shown(key)).collect()
    }

    fn actions(&self) -> Vec<String> {
        let page = self.store.audit(&AuditQuery { limit: 100, ..AuditQuery::default() }).unwrap();
        page.entries.iter().rev().map(|entry| entry.action.clone()).collect()
    }
}

fn row(number: i64, name: &str, version: u64) -> (i64, String, u64) {
    (number, name.to_owned(), version)
}

#[test]
fn the_store_is_told_of_what_changed_in_the_order_of_the_file() {
    let mut bench = Bench::new();
    assert_eq!(bench.file(&[("b", '1', ""), ("a", '2', ""), ("c", '3', "metadata = { x = \"y\" }")]), 3);
    assert!(!bench.declared.until_told(Duration::ZERO));
    assert_eq!(bench.mirror.bring(), Ok(3));
    assert!(bench.declared.until_told(Duration::ZERO));
    assert_eq!(bench.kept(), [row(1, "b", 1), row(2, "a", 1), row(3, "c", 1)]);
    assert_eq!((bench.file(&[("b", '1', ""), ("a", '2', ""), ("c", '3', "")]), bench.mirror.bring()), (0, Ok(1)));
    assert_eq!(bench.file(&[("d", '1', ""), ("a", '2', "disabled = true"), ("c", '3', "")]), 3);
    assert_eq!(bench.mirror.bring(), Ok(3), "a secret has gone over from b to d");
    assert_eq!(bench.kept(), [row(2, "a", 2), row(3, "c", 2), row(4, "d", 1)]);
    assert_eq!(bench.mirror.bring(), Ok(0));
    let actions = bench.actions();
    assert_eq!(actions[..4], ["key.create", "key.create", "key.create", "key.update"]);
    assert_eq!(actions[4..], ["key.delete", "key.create", "key.update"]);
}

#[test]
fn a_program_that_starts_tells_only_what_the_store_has_otherwise() {
    let mut bench = Bench::new();
    bench.file(&[("a", '1', ""), ("b", '2', ""), ("c", '3', "created_at = 2020-01-01T00:00:00Z")]);
    assert_eq!(bench.mirror.bring(), Ok(3));
    bench.restart();
    bench.file(&[("d", '4', ""), ("c", '3', "created_at = 2020-01-01T00:00:00Z"), ("a", '1', "rpm_limit = 5")]);
    assert_eq!(bench.mirror.bring(), Ok(3));
    assert_eq!(bench.kept(), [row(1, "a", 2), row(3, "c", 1), row(4, "d", 1)]);
    bench.restart();
    assert_eq!((bench.mirror.bring(), bench.kept()), (Ok(3), vec![]), "a file without keys takes all away");
}

#[test]
fn what_the_store_did_not_take_is_told_later_with_what_changed_meanwhile() {
    let mut bench = Bench::new();
    bench.file(&[("a", '1', "")]);
    bench.store.close();
    assert!(bench.mirror.bring().is_err());
    bench.file(&[("a", '1', "rpm_limit = 5"), ("b", '2', "")]);
    assert!(bench.mirror.bring().is_err());
    bench.store.open(Arc::new(Embedded::open(&bench.folder.path().join("keys.db")).unwrap()));
    assert_eq!(bench.mirror.bring(), Ok(2));
    assert_eq!(bench.kept(), [row(1, "a", 1), row(2, "b", 1)]);
    bench.file(&[("a", '1', "")]);
    bench.store.close();
    assert!(bench.mirror.bring().is_err());
    bench.store.open(Arc::new(Embedded::open(&bench.folder.path().join("keys.db")).unwrap()));
    assert_eq!((bench.mirror.bring(), bench.kept()), (Ok(2), vec![row(1, "a", 2)]));
}
