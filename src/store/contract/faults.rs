//! What outlives an end of the program.

use super::Subject;
use super::made::{audit, change, check_books, drain, entry, id, kept, key, loaded, put, remove, slice};
use crate::store::{AuditQuery, GroupBy, Store, StoreFault, StoredOperator, UsageQuery, UsageRow, Write, Written};

pub(crate) fn total(store: &dyn Store) -> UsageRow {
    let query =
        UsageQuery { from_ms: 0, to_ms: i64::MAX, group_by: GroupBy::Total, key: None, team_id: None, org_id: None };
    store.usage(&query).unwrap().remove(0)
}

fn fill(store: &dyn Store) {
    change(store, vec![put(&key(1)), put(&key(2)), put(&key(3)), remove(id(2))]).unwrap();
    drain(store, vec![slice(1, 1, &[entry(id(1)), entry(id(2)), entry(id(3))])]);
    store.write(Write::Keys { changes: vec![], audit: vec![audit(5, "key.create")], remember: None }).unwrap();
    let operator =
        StoredOperator { name: "root".into(), token_sha256: [1; 32], role: "write".into(), created_at_ms: 1 };
    store.write(Write::Operator(operator)).unwrap();
}

pub(crate) fn everything_is_there_after_opening_again(mut subject: Subject) {
    fill(subject.store());
    let read = |store: &dyn Store| {
        let mut states = Vec::new();
        store.load_states(&mut |key, state| states.push((key, state))).unwrap();
        let audit = store.audit(&AuditQuery { limit: 9, ..AuditQuery::default() }).unwrap();
        (loaded(store), states, audit, store.operators(), store.drained(), total(store), store.books())
    };
    let before = read(subject.store());
    assert_eq!((before.0.len(), before.1.len(), before.2.entries.len()), (2, 3, 1));
    subject.reopen();
    assert_eq!(read(subject.store()), before);
    assert_eq!(change(subject.store(), vec![put(&key(4))]), Ok(Written::Keys(vec![4])));
    assert_eq!(drain(subject.store(), vec![slice(1, 3, &[entry(id(3)), entry(id(3))])]), 1);
    check_books(subject.store());
}

pub(crate) fn a_copy_holds_the_same_and_nothing_is_written_over(subject: Subject) {
    let store = subject.store();
    fill(store);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy.db");
    store.back_up(&to).unwrap();
    let bytes = std::fs::read(&to).unwrap();
    change(store, vec![remove(id(1))]).unwrap();
    assert!(matches!(store.back_up(&to), Err(StoreFault::Unavailable(_))));
    assert_eq!(std::fs::read(&to).unwrap(), bytes);
    assert!(store.back_up(&folder.path().join("missing/copy.db")).is_err());
    assert_eq!(kept(store, id(1)), None);
}
