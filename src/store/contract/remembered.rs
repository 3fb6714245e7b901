//! Remembered answers, and operators.

use super::Subject;
use super::made::audit;
use crate::store::{Remembered, RememberedAnswer, StoreFault, StoredOperator, Write, Written};

fn write(operator: &str, key: &str, body: &str, at_ms: i64, until_ms: i64) -> Write {
    let answer = RememberedAnswer { call: [7; 32], body: body.to_owned(), seed: Some([9; 32]), etag: "\"1\"".into() };
    Write::Keys {
        changes: vec![],
        audit: vec![audit(at_ms, "key.create")],
        remember: Some(Box::new(Remembered { operator: operator.into(), key: key.into(), answer, at_ms, until_ms })),
    }
}

pub(crate) fn an_answer_is_given_until_it_is_over(subject: Subject) {
    let store = subject.store();
    store.write(write("anna", "k", "first", 0, 1_000)).unwrap();
    let body = |operator, key, now| store.remembered(operator, key, now).unwrap().map(|answer| answer.body);
    let answer = store.remembered("anna", "k", 999).unwrap().unwrap();
    assert_eq!((answer.call, answer.seed, &*answer.etag), ([7; 32], Some([9; 32]), "\"1\""));
    assert_eq!((body("anna", "k", 1_000), body("bert", "k", 0), body("anna", "K", 0)), (None, None, None));
    assert_eq!(store.write(write("anna", "k", "again", 999, 2_000)), Err(StoreFault::Repeated));
    store.write(write("bert", "k", "other", 999, 2_000)).unwrap();
    // One that is over gives its place up, tidied away or not.
    store.write(write("anna", "k", "second", 1_000, 2_000)).unwrap();
    assert_eq!((body("anna", "k", 1_000), body("bert", "k", 0)), (Some("second".into()), Some("other".into())));
    let tidy = |now_ms| store.write(Write::Tidy { now_ms, records_before_ms: 0 });
    assert_eq!(
        (tidy(1_999), tidy(2_000), tidy(2_000)),
        (Ok(Written::Tidied(0)), Ok(Written::Tidied(2)), Ok(Written::Tidied(0)))
    );
    assert_eq!(body("anna", "k", 0), None);
}

pub(crate) fn operators_are_kept(subject: Subject) {
    let store = subject.store();
    let operator = |name: &str, token| StoredOperator {
        name: name.into(),
        token_sha256: [token; 32],
        role: "write".into(),
        created_at_ms: 5,
    };
    assert_eq!(store.operators(), Ok(vec![]));
    for made in [operator("root", 1), operator("anna", 2), operator("root", 3)] {
        assert_eq!(store.write(Write::Operator(made)), Ok(Written::Done));
    }
    assert_eq!(store.operators(), Ok(vec![operator("anna", 2), operator("root", 3)]));
}

pub(crate) fn the_first_mark_of_a_pepper_stays(subject: Subject) {
    let store = subject.store();
    assert_eq!(store.pepper_mark(), Ok(None));
    for mark in [[1; 32], [2; 32]] {
        assert_eq!(store.write(Write::PepperMark(mark)), Ok(Written::Done));
    }
    assert_eq!(store.pepper_mark(), Ok(Some([1; 32])));
}
