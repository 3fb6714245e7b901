//! Accidents of the disk and of others: each has its name, loses nothing, and the next write works again without opening anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::{open, run};
use crate::store::contract::made::{change, changes, check_books, entry, id, kept, key, loaded, put, remove, slice};
use crate::store::embedded::Embedded;
use crate::store::{Store, StoreFault, UsageBatch, Write, Written};

/// Whether it works: a key is made, found, and removed.
fn check_it_works(store: &Embedded) {
    change(store, vec![put(&key(999))]).unwrap();
    assert!(kept(store, id(999)).is_some());
    change(store, vec![remove(id(999))]).unwrap();
    check_books(store);
}

fn many(first: u128) -> Write {
    changes((first..first + 500).map(|at| put(&key(at))).collect())
}

#[test]
fn a_full_disk_refuses_whole_writes_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db"));
    change(&store, vec![put(&key(1))]).unwrap();
    store.set_max_pages(Some(120));
    let mut kept_so_far = 1;
    let full = loop {
        match store.write(many(1_000 * kept_so_far)) {
            Ok(_) => kept_so_far += 1,
            Err(fault) => break fault,
        }
    };
    assert!(matches!(full, StoreFault::Full(_)), "{full:?}");
    let usage = Write::Usage(UsageBatch { slices: vec![slice(1, 1, &vec![entry(id(1)); 20_000])] });
    assert!(matches!(store.write(usage.clone()), Err(StoreFault::Full(_))));
    assert_eq!(
        loaded(&store).len() as u128,
        (kept_so_far - 1) * 500 + 1,
        "reading goes on, and nothing is there by half"
    );
    assert_eq!(store.drained(), Ok(vec![]));
    store.set_max_pages(None);
    assert_eq!(store.write(usage), Ok(Written::Usage(20_000)));
    store.write(many(900_000)).unwrap();
    check_it_works(&store);
}

#[test]
fn a_write_that_does_not_fit_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db"));
    store.set_max_pages(Some(150));
    let fitting = |at: u128| store.write(changes(vec![put(&key(at))]));
    let results = std::thread::scope(|scope| {
        let large = scope.spawn(|| store.write(changes((1_000..9_000).map(|at| put(&key(at))).collect())));
        let small = (0..20).map(fitting).collect::<Vec<_>>();
        (large.join().unwrap(), small)
    });
    assert!(matches!(results.0, Err(StoreFault::Full(_))), "{:?}", results.0);
    // One in the same commit may share its fate, and is told so.
    let made = results.1.iter().filter(|result| result.is_ok()).count();
    assert!(results.1.iter().all(|result| matches!(result, Ok(_) | Err(StoreFault::Full(_)))), "{:?}", results.1);
    assert_eq!(loaded(&store).len(), made);
    check_it_works(&store);
}

#[test]
fn a_lock_of_another_program_is_told_and_waited_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path);
    change(&store, vec![put(&key(1))]).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for _ in 0..2 {
        assert!(matches!(change(&store, vec![put(&key(2))]), Err(StoreFault::Locked(_))));
        assert_eq!(loaded(&store).len(), 1, "reading goes on");
    }
    other.execute_batch("ROLLBACK").unwrap();
    change(&store, vec![put(&key(2))]).unwrap();
    check_it_works(&store);
}

#[test]
fn a_lock_that_ends_in_time_is_not_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = Embedded::open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| change(&store, vec![put(&key(1))]));
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(Written::Keys(vec![1])));
    });
}

#[test]
fn a_connection_that_cannot_write_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db"));
    change(&store, vec![put(&key(1))]).unwrap();
    run(&store, |connection| connection.pragma_update(None, "query_only", true).unwrap()).unwrap();
    assert!(matches!(change(&store, vec![put(&key(2))]), Err(StoreFault::ReadOnly(_))));
    assert_eq!(loaded(&store).len(), 1);
    check_it_works(&store);
}

#[test]
fn a_file_that_must_not_be_written_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    change(&open(&path), vec![put(&key(1))]).unwrap();
    let mode =
        |name: &str, mode| fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("store.db", 0o400);
    let opened = Embedded::open(&path);
    // Modes do not bind root.
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        return check_it_works(&opened.unwrap());
    }
    assert!(matches!(&opened, Err(StoreFault::ReadOnly(said)) if said.contains("store.db:")), "{opened:?}");
    mode("store.db", 0o600);
    check_it_works(&Embedded::open(&path).unwrap());
    fs::write(folder.path().join("store.db-shm"), "").unwrap();
    mode("store.db-shm", 0o400);
    let opened = Embedded::open(&path);
    assert!(matches!(&opened, Err(StoreFault::ReadOnly(said)) if said.contains("store.db-shm:")), "{opened:?}");
}

#[test]
fn a_log_removed_under_the_program_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let log = folder.path().join("store.db-wal");
    let store = open(&path);
    for round in 1..=3_u128 {
        change(&store, vec![put(&key(round))]).unwrap();
        fs::remove_file(&log).unwrap();
        if round == 2 {
            assert_eq!(loaded(&store).len(), 3, "whoever reads first finds it, too");
        }
        change(&store, vec![put(&key(round + 100))]).unwrap();
        assert!(log.exists());
        assert_eq!(loaded(&store).len() as u128, 2 * round);
    }
    check_it_works(&store);
    drop(store);
    assert_eq!(loaded(&open(&path)).len(), 6);
}

#[test]
fn a_database_that_is_gone_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let aside = folder.path().join("aside.db");
    let store = open(&path);
    change(&store, vec![put(&key(1))]).unwrap();
    fs::rename(&path, &aside).unwrap();
    assert!(matches!(change(&store, vec![put(&key(2))]), Err(StoreFault::Unavailable(_))));
    assert!(!path.exists());
    fs::write(&path, b"another").unwrap();
    assert!(matches!(change(&store, vec![put(&key(2))]), Err(StoreFault::Unavailable(_))));
    fs::rename(&aside, &path).unwrap();
    change(&store, vec![put(&key(2))]).unwrap();
    check_it_works(&store);
}

#[test]
fn a_writer_that_fails_answers_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db"));
    change(&store, vec![put(&key(1))]).unwrap();
    let failed = run(&store, |connection| {
        connection.execute_batch("UPDATE keys SET name = 'half done'").unwrap();
        panic!("what nobody thought of");
    });
    assert!(matches!(failed, Err(StoreFault::Unavailable(_))));
    assert_eq!(&*kept(&store, id(1)).unwrap().0.record.policy.name, "key 1");
    check_it_works(&store);
}

#[test]
fn damage_is_told_by_its_name_and_does_not_end_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path);
    change(&store, vec![put(&key(1)), put(&key(2))]).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("UPDATE keys SET on_disconnect = 'explode' WHERE number = 1").unwrap();
    assert!(matches!(store.load_keys(&mut |_| ()), Err(StoreFault::Damaged(_))));
    other.execute_batch("UPDATE keys SET on_disconnect = 'drain' WHERE number = 1").unwrap();
    assert_eq!(loaded(&store).len(), 2);
    check_it_works(&store);
}

#[test]
fn what_is_asked_before_the_end_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path);
    let made = std::thread::scope(|scope| {
        let threads = (0..8_u128).map(|at| {
            scope.spawn({
                let store = &store;
                move || change(store, vec![put(&key(at + 1))])
            })
        });
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    drop(store);
    assert!(made.iter().all(Result::is_ok));
    assert_eq!(loaded(&open(&path)).len(), 8);
}
