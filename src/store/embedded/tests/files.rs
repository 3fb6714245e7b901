//! What stands on the disk, and whose it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::{open, run};
use crate::store::contract::faults::total;
use crate::store::contract::made::{audit, change, check_books, drain, entry, id, key, loaded, put, slice};
use crate::store::embedded::block::{Block, NUMBERS, Records};
use crate::store::embedded::{Embedded, schema};
use crate::store::{Entry, Store, StoreFault, Write, Written};

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
    for (column, tampered, what) in
        [("since_day", -3, counted), ("input_tokens", 9, "input tokens by the hour against the sum of its records")]
    {
        let was = tamper(&other, column, tampered);
        let found = store.books().unwrap().mismatches;
        assert!(found.iter().any(|one| one.what == what && one.key == Some(id(1))), "{column}: {found:?}");
        tamper(&other, column, was);
        check_books(&store);
    }
    other.execute_batch("UPDATE record_blocks SET data = substr(data, 1, length(data) - 1)").unwrap();
    assert!(matches!(store.books(), Err(StoreFault::Damaged(_))));
}

/// Writes a number into every record, and says what it was in the last.
fn tamper(other: &Connection, column: &str, number: i64) -> i64 {
    let at = NUMBERS.iter().position(|known| *known == column).unwrap();
    let data: Vec<u8> = other.query_row("SELECT data FROM record_blocks", [], |row| row.get(0)).unwrap();
    let (mut records, mut block, mut was) = (Records::of(&data).unwrap(), Block::default(), 0);
    while let Some(mut record) = records.next().unwrap() {
        was = std::mem::replace(&mut record.numbers[at], number);
        block.add(&record);
    }
    other.execute("UPDATE record_blocks SET data = ?1", [block.as_bytes()]).unwrap();
    was
}

/// A store as version 1 had it: two keys, the records of three requests and their sums.
fn of_version_1(path: &Path) {
    let old = Connection::open(path).unwrap();
    old.execute_batch(include_str!("../schema/1.sql")).unwrap();
    old.execute_batch(&format!(
        "INSERT INTO owners (number) VALUES (1);
        INSERT INTO names (number, name) VALUES (1, 'openai'), (2, 'chat/completions'), (3, 'gpt-4o'), (4, 'answered'), (5, '');
        INSERT INTO keys (number, id, owner, removed_at_ms) VALUES (1, x'{key:032x}', 1, 5);
        INSERT INTO states VALUES (1, 33, 0, 0, 5000);
        INSERT INTO records ({COLUMNS_OF_1}) VALUES
            (1, 4000, 'req_1', 1, 2, 3, 4, 5, 200, 7, 2, 0, 3, 0, 0, 0, 11, 0, 0, 2000, 9000, 1, NULL),
            (1, 4500, 'req_2', 1, 2, 3, 4, 5, 200, 7, 2, 0, 3, 0, 0, 1, 11, 0, 0, 2000, 9000, 1, x'0102030405060708'),
            (1, 5000, 'req_3', 1, 2, 3, 4, 5, 200, -1, 2, 0, 3, 0, 0, 0, 11, 0, 0, 2000, 9000, 1, NULL);
        INSERT INTO hourly VALUES (1, 0, 1, 1, 3, 2, 3, 3, 0, 1, -1, 6, 9, 33, x'', x'');
        INSERT INTO journals VALUES (x'{journal:032x}', 3);
        PRAGMA application_id = 0x4b657957; PRAGMA user_version = 1; PRAGMA journal_mode = wal;",
        key = id(1).0.as_u128(),
        journal = 1,
    ))
    .unwrap();
}

const COLUMNS_OF_1: &str = "key_number, at_ms, request_id, dialect, endpoint, model, outcome, reason, status, input_tokens, cached_input_tokens, \
    cache_write_tokens, output_tokens, reasoning_tokens, audio_ms, is_estimated, units, since_day, touched_day, first_byte_us, duration_us, \
    requests, previous_secret";

fn records(store: &Embedded) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut keep = |entry| {
        found.push(entry);
        std::ops::ControlFlow::Continue(())
    };
    store.records(i64::MIN, i64::MAX, &mut keep).unwrap();
    found
}

#[test]
fn what_another_program_has_written_meanwhile_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = Embedded::open(&path).unwrap();
    let used = || store.books().unwrap().counts.iter().map(|(_, count)| count.used).sum::<u64>();
    assert_eq!(drain(&store, vec![slice(1, 1, &[entry(id(1)), entry(id(1))])]), 2);
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("UPDATE states SET used = used + 5; UPDATE hourly SET units = units + 5, requests = 7")
        .unwrap();
    assert_eq!(drain(&store, vec![slice(1, 3, &[entry(id(1))])]), 1);
    assert_eq!((used(), total(&store).units, total(&store).requests), (35, 35, 8));
    // And without anybody else, one batch after the other.
    for sequence in 4..20 {
        assert_eq!(
            drain(&store, vec![slice(1, sequence, &[entry(id(1)), entry(id(2))])]),
            if sequence == 4 { 2 } else { 1 }
        );
    }
    assert_eq!((used(), total(&store).requests), (35 + 17 * 10, 8 + 17));
}

#[test]
fn what_version_1_wrote_is_kept_read_and_folded_away_like_all_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    of_version_1(&path);
    let store = Embedded::open_filled(&path).unwrap();
    check_books(&store);
    let version: i64 =
        Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::known());
    let old = |request: &str, at_unix_ms| Entry { request_id: request.into(), at_unix_ms, units: 11, ..entry(id(1)) };
    let mut expected = vec![old("req_1", 4_000), old("req_2", 4_500), old("req_3", 5_000)];
    (expected[1].previous_secret, expected[1].usage.estimated) = (Some([1, 2, 3, 4, 5, 6, 7, 8]), true);
    expected[2].usage.input = u64::MAX;
    assert_eq!(records(&store), expected);
    // What the journal says again is not written again; what is new stands beside the old.
    let new = old("req_4", 6_000);
    assert_eq!(drain(&store, vec![slice(1, 3, &[expected[2].clone(), new.clone()])]), 1);
    expected.push(new);
    assert_eq!(records(&store), expected);
    let (books, total) = (store.books().unwrap(), total(&store));
    assert_eq!((books.records, books.requests, books.units, &books.mismatches), (4, 4, 44, &vec![]));
    for (before, folded) in [(4_500, 1), (5_999, 2), (6_000, 0), (6_001, 1), (i64::MAX, 0)] {
        let tidied = store.write(Write::Tidy { now_ms: 0, records_before_ms: before });
        assert_eq!(tidied, Ok(Written::Tidied(folded)), "{before}");
        expected.drain(..folded);
        assert_eq!(records(&store), expected);
        let after = store.books().unwrap();
        assert_eq!((after.requests, after.units, after.mismatches), (4, 44, vec![]));
    }
    drop(store);
    let store = open(&path);
    assert_eq!((self::total(&store), store.books().unwrap().records), (total, 0));
}

/// As a journal that version 1 left behind is drained.
#[test]
fn records_of_both_versions_are_read_in_the_order_of_their_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    of_version_1(&path);
    let store = open(&path);
    let times = [4_900, 4_100, 6_000, 4_200];
    let entries = times.map(|at_unix_ms| Entry { at_unix_ms, ..entry(id(1)) });
    drain(&store, vec![slice(2, 1, &entries)]);
    let found = records(&store).iter().map(|entry| entry.at_unix_ms).collect::<Vec<_>>();
    assert_eq!(found, [4_000, 4_100, 4_200, 4_500, 4_900, 5_000, 6_000]);
}

#[test]
fn a_block_that_cannot_be_read_does_not_hold_up_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path);
    change(&store, vec![put(&key(1))]).unwrap();
    drain(&store, vec![slice(1, 1, &[entry(id(1))])]);
    drain(&store, vec![slice(1, 2, &[entry(id(1))])]);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("UPDATE record_blocks SET data = x'01ff' WHERE number = 1").unwrap();
    store.write(Write::Tidy { now_ms: i64::MAX, records_before_ms: i64::MAX }).unwrap();
    let numbers = "SELECT group_concat(number) FROM record_blocks";
    assert_eq!(other.query_row(numbers, [], |row| row.get::<_, String>(0)).unwrap(), "1");
    assert!(matches!(store.books(), Err(StoreFault::Damaged(_))), "and it is told of");
}
