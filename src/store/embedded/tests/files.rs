//! What stands on the disk, and whose it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::{open, run};
use crate::store::contract::made::{audit, change, check_books, drain, entry, id, key, loaded, put, slice};
use crate::store::embedded::{Embedded, schema};
use crate::store::{Store, StoreFault, Write};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn folder_and_files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/store.db");
    let store = Embedded::open(&path).unwrap();
    change(&store, vec![put(&key(1))]).unwrap();
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        assert_eq!(mode(&path.with_file_name(file)), 0o600, "{file}");
    }
    assert_eq!((mode(path.parent().unwrap()), mode(&folder.path().join("a"))), (0o700, 0o700));
    let copy = folder.path().join("copy.db");
    store.back_up(&copy).unwrap();
    assert_eq!(mode(&copy), 0o600);
    drop(store);
    assert!(!path.with_file_name("store.db-wal").exists(), "a clean end leaves one file");
}

#[test]
fn a_commit_is_synced_before_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db"));
    run(&store, |connection| {
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((number("synchronous"), number("foreign_keys")), (2, 1));
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    })
    .unwrap();
}

#[test]
fn a_copy_made_in_use_opens_as_a_store_of_that_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db"));
    change(&store, vec![put(&key(1)), put(&key(2))]).unwrap();
    drain(&store, vec![slice(1, 1, &[entry(id(1))])]);
    let copy = folder.path().join("copy.db");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| (3..60).for_each(|at| drop(change(&store, vec![put(&key(at))]).unwrap())));
        store.back_up(&copy).unwrap();
        writing.join().unwrap();
    });
    let copied = open(&copy);
    let keys = loaded(&copied);
    assert!((2..60).contains(&keys.len()) && keys == loaded(&store)[..keys.len()]);
    assert_eq!(copied.drained(), store.drained());
    check_books(&copied);
    let next = change(&copied, vec![put(&key(100))]).unwrap();
    assert_eq!(next, crate::store::Written::Keys(vec![i64::try_from(keys.len()).unwrap() + 1]));
}

#[test]
fn a_store_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(open(&path));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let newer = StoreFault::Newer { found: 99, known: schema::known() };
    assert_eq!(Embedded::open(&path).unwrap_err(), newer);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn what_is_no_store_of_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    fs::write(&garbage, b"This is a letter to my aunt. ".repeat(100)).unwrap();
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE aunts (name TEXT)").unwrap();
    for path in [garbage, foreign] {
        let before = fs::read(&path).unwrap();
        assert!(matches!(Embedded::open(&path), Err(StoreFault::Damaged(_))), "{path:?}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    let empty = folder.path().join("empty.db");
    fs::write(&empty, b"").unwrap();
    change(&open(&empty), vec![put(&key(1))]).unwrap();
    assert!(matches!(Embedded::open(folder.path()), Err(StoreFault::Unavailable(_))), "a folder");
}

#[test]
fn the_audit_can_only_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path);
    let entry = Write::Keys { changes: vec![], audit: vec![audit(1, "key.create")], remember: None };
    store.write(entry).unwrap();
    let other = Connection::open(&path).unwrap();
    for sql in ["UPDATE audit SET operator = 'nobody'", "DELETE FROM audit", "REPLACE INTO audit SELECT * FROM audit"] {
        let refused = other.execute_batch(&format!("PRAGMA recursive_triggers = ON; {sql}")).unwrap_err();
        assert!(refused.to_string().contains("only appended to"), "{sql}: {refused}");
    }
}

#[test]
fn the_books_show_each_number_that_was_tampered_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path);
    change(&store, vec![put(&key(1))]).unwrap();
    drain(&store, vec![slice(1, 1, &[entry(id(1)), entry(id(1)), entry(id(2))])]);
    store.write(Write::Tidy { now_ms: 0, records_before_ms: 0 }).unwrap();
    check_books(&store);
    let other = Connection::open(&path).unwrap();
    let counted = "quota_used against the sum of its records";
    for (tampered, mended, what) in [
        ("UPDATE states SET used = used + 1", "UPDATE states SET used = used - 1", counted),
        ("UPDATE records SET since_day = -3", "UPDATE records SET since_day = 0", counted),
        (
            "UPDATE hourly SET units = units - 1",
            "UPDATE hourly SET units = units + 1",
            "units by the hour against the sum of its records",
        ),
        (
            "UPDATE hourly SET recorded = 9, requests = 9",
            "UPDATE hourly SET recorded = 3 - key_number",
            "requests by the hour against the sum of its records",
        ),
        (
            "UPDATE records SET input_tokens = input_tokens + 2",
            "UPDATE records SET input_tokens = input_tokens - 2",
            "input tokens by the hour against the sum of its records",
        ),
        (
            "UPDATE states SET since_day = -4",
            "UPDATE states SET since_day = 0",
            "the beginning of the count against the latest of its records",
        ),
    ] {
        other.execute_batch(tampered).unwrap();
        let found = store.books().unwrap().mismatches;
        assert!(found.iter().any(|one| one.what == what && one.key == Some(id(1))), "{tampered}: {found:?}");
        other.execute_batch(mended).unwrap();
        check_books(&store);
    }
}
