//! The audit.

use super::Subject;
use super::made::{audit, id};
use crate::store::{AuditEntry, AuditQuery, Write};

pub(crate) fn the_audit_is_read_newest_first_in_pages(subject: Subject) {
    let store = subject.store();
    let entries = (0..20_i64).map(|at| AuditEntry {
        key: Some(id(u128::try_from(at % 3).unwrap())),
        org_id: (at % 2 == 0).then(|| "even".into()),
        team_id: (at % 5 == 0).then(|| "five".into()),
        operator: if at % 4 == 0 { "root".into() } else { "anna".into() },
        before: (at == 3).then(|| "{\"a\":1}".to_owned()),
        address: (at != 3).then(|| "2001:db8::1".parse().unwrap()),
        ..audit(at * 10, if at < 10 { "key.create" } else { "key.update" })
    });
    store.write(Write::Keys { changes: vec![], audit: entries.collect(), remember: None }).unwrap();
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let page = store.audit(&all).unwrap();
    assert!(!page.has_more && page.entries.len() == 20 && page.entries.is_sorted_by_key(|row| -row.number));
    let third = &page.entries[16];
    assert_eq!((third.at_ms, third.before.as_deref(), &third.address), (30, Some("{\"a\":1}"), &None));
    assert_eq!(
        (&*third.operator, &*third.via, &*third.action, third.key),
        ("anna", "native", "key.create", Some(id(0)))
    );
    assert_eq!(page.entries[0].address.as_deref(), Some("2001:db8::1"));
    let times = |query: AuditQuery| -> Vec<i64> {
        store.audit(&query).unwrap().entries.iter().map(|row| row.at_ms / 10).collect()
    };
    let query = || all.clone();
    assert_eq!(times(AuditQuery { key: Some(id(1)), from_ms: Some(40), to_ms: Some(130), ..query() }), [10, 7, 4]);
    assert_eq!(times(AuditQuery { org_id: Some("even".into()), team_id: Some("five".into()), ..query() }), [10, 0]);
    let changed_by_root = AuditQuery { operator: Some("root".into()), action: Some("key.update".into()), ..query() };
    assert_eq!(times(changed_by_root), [16, 12]);
    let first = store.audit(&AuditQuery { limit: 8, ..query() }).unwrap();
    assert!(first.has_more);
    let second = AuditQuery { limit: 12, before_number: Some(first.entries[7].number), ..query() };
    let second = store.audit(&second).unwrap();
    assert!(!second.has_more);
    assert_eq!([first.entries, second.entries].concat(), page.entries);
}
