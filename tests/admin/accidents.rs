//! The store fails amid a change, before or after it took it; many change one key at once; somebody goes away. What is answered well is in the
//! store and in force, and store and table come to agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward::admin::service::{Caller, IfMatch, KeyFields, KeyView, NewKey, Rotation, ServiceFault};
use keyward::admin::{Role, Scope};
use keyward::keys::{KeyChange, KeyRecord, Source};
use keyward::store::embedded::Embedded;
use keyward::store::{KeyRef, Store, StoreFault, StoredChange, Write};
use keyward::units::KeyId;
use serde_json::json;

use crate::failing_store::{FailingStore, Moment};
use crate::house::{House, caller};

struct Accident {
    house: House,
    store: Arc<FailingStore<Embedded>>,
    ops: Caller,
    _folder: tempfile::TempDir,
}

impl Accident {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(FailingStore::new(Embedded::open(&folder.path().join("keys.db")).expect("a store")));
        let house = House::over(store.clone()).await;
        Self { house, store, ops: caller("ops", Role::Write, Scope::default()), _folder: folder }
    }

    fn stored(&self) -> BTreeMap<KeyId, KeyRecord> {
        let mut all = BTreeMap::new();
        let inner = self.store.inner();
        inner.load_keys(&mut |key| drop(all.insert(key.record.policy.id, key.record))).expect("readable");
        all
    }

    /// Store and table know the same keys, policies and secrets.
    fn agree(&self, when: &str) {
        let stored = self.stored();
        assert_eq!(stored.len(), self.house.keys.len(), "{when}");
        for (id, record) in stored {
            let entry = self.house.keys.get(id).unwrap_or_else(|| panic!("{when}: {id} is in the store alone"));
            assert_eq!(*entry.policy_at_rest(), record.policy, "{when}");
            let slots = self.house.keys.secrets_of(id);
            let known: Vec<_> = slots.iter().map(|slot| (slot.digest(), slot.until_unix_ms())).collect();
            let listed: Vec<_> =
                record.secrets().map(|(digest, until)| (digest, (until != i64::MAX).then_some(until))).collect();
            assert_eq!(known, listed, "{when}");
        }
    }

    async fn create(&self, name: &str) -> Result<KeyView, ServiceFault> {
        let new = NewKey { fields: KeyFields::named(name), secret: None };
        self.house.service.create(&self.ops, new).await.map(|made| made.view)
    }

    async fn rename(&self, key: KeyRef, name: &'static str) -> Result<KeyView, ServiceFault> {
        let edit = move |fields: &mut KeyFields, _: &KeyView| {
            fields.name = name.into();
            Ok(())
        };
        self.house.service.edit(&self.ops, key, IfMatch::Always, "key.update", edit).await
    }

    /// One of the calls that change a key; whether it was acknowledged.
    async fn change(&self, what: &str, key: KeyRef) -> Result<(), ServiceFault> {
        let (service, always) = (&self.house.service, IfMatch::Always);
        match what {
            "rename" => self.rename(key, "renamed").await.map(drop),
            "disable" => service.set_disabled(&self.ops, key, always, true).await.map(drop),
            "rotate" => service.rotate(&self.ops, key, always, Rotation::default()).await.map(drop),
            "end" => service.end_grace(&self.ops, key, always).await.map(drop),
            _ => service.delete(&self.ops, key, always).await,
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_at_any_call_leaves_nothing_acknowledged_undone_and_recovers() {
    for what in ["rename", "disable", "rotate", "end", "delete"] {
        for moment in [Moment::Before, Moment::After] {
            for nth in 1..=3 {
                let accident = Accident::start().await;
                let key = KeyRef::Id(accident.create("k").await.expect("made").id);
                accident.change("rotate", key).await.expect("rotated");
                let before = accident.stored();
                let when = format!("{what}, call {nth} {moment:?}");
                accident.store.fail_nth(nth, moment, StoreFault::Unavailable("cut".to_owned()));
                let verdict = accident.change(what, key).await;
                accident.store.recover();
                match verdict {
                    Ok(()) => assert!(accident.stored() != before, "{when}: acknowledged and not stored"),
                    Err(ServiceFault::Unavailable(_)) => {}
                    Err(other) => panic!("{when}: {other:?}"),
                }
                if verdict_is_sure(moment) {
                    accident.agree(&when);
                }
                // Whoever was refused asks again.
                let again = accident.change(what, key).await;
                assert!(matches!(again, Ok(()) | Err(ServiceFault::NotFound)), "{when}: {again:?}");
                accident.agree(&format!("{when}, asked again"));
            }
        }
    }
}

/// A store that fails before it does anything leaves no doubt.
fn verdict_is_sure(moment: Moment) -> bool {
    moment == Moment::Before
}

#[tokio::test]
async fn a_key_whose_making_nobody_was_told_of_is_made_once_and_given_again() {
    for moment in [Moment::Before, Moment::After] {
        for nth in 1..=3 {
            let accident = Accident::start().await;
            let service = &accident.house.service;
            let call = || service.idempotent(&accident.ops, b"call", "POST", "/keys", b"{}").expect("a key");
            let new = || NewKey { fields: KeyFields::named("once"), secret: None };
            let render = |made: &keyward::admin::service::Made| json!({ "key": made.secret.expose() }).to_string();
            accident.store.fail_nth(nth, moment, StoreFault::Unavailable("cut".to_owned()));
            let first = service.create_once(&accident.ops, new(), call(), render).await;
            accident.store.recover();
            let again = service.create_once(&accident.ops, new(), call(), render).await.expect("given");
            assert!(first.is_err() || first.is_ok_and(|first| first.body == again.body));
            assert_eq!(accident.stored().len(), 1);
            let told: serde_json::Value = serde_json::from_str(&again.body).expect("JSON");
            assert!(accident.house.works(told["key"].as_str().expect("a secret")), "call {nth} {moment:?}");
            accident.agree(&format!("call {nth} {moment:?}"));
        }
    }
}

#[tokio::test]
async fn while_the_store_is_down_changes_are_503_and_keys_work_on() {
    let accident = Accident::start().await;
    let made = accident.house.made(json!({ "name": "k" })).await;
    let path = format!("keys/{}", made["id"].as_str().expect("an id"));
    accident.store.fail_all(StoreFault::Full("no room".to_owned()));
    for (method, path, body) in [
        ("GET", "keys", None),
        ("GET", path.as_str(), None),
        ("POST", "keys", Some(json!({ "name": "two" }))),
        ("PUT", path.as_str(), Some(json!({ "name": "two" }))),
        ("DELETE", path.as_str(), None),
        ("GET", "usage", None),
        ("GET", "audit", None),
        ("GET", "ledger", None),
    ] {
        let refused = accident.house.call(method, path, body).await;
        assert_eq!(refused.status, 503, "{method} {path}");
        assert!(!refused.text().contains("no room"), "what is wrong with the disk is for the log");
    }
    assert!(accident.house.works(made["key"].as_str().expect("a secret")));
    let metrics = accident.house.raw("GET", "/metrics", &[], "").await.text();
    assert!(metrics.contains("keyward_store_faults_total{reason=\"full\"} 7"), "{metrics}");
    accident.store.recover();
    assert_eq!(accident.house.call("PUT", &path, Some(json!({ "name": "two" }))).await.status, 200);
    accident.agree("recovered");
}

#[tokio::test]
async fn what_the_table_refuses_is_undone_in_the_store() {
    let accident = Accident::start().await;
    let view = accident.create("k").await.expect("made");
    let record = accident.stored().remove(&view.id).expect("stored");
    let foreign = KeyRecord { source: Source::File, ..record.clone() };
    accident.house.keys.apply(KeyChange::Remove(view.id)).expect("removed");
    accident.house.keys.apply(KeyChange::Put(Box::new(foreign))).expect("put");
    let refused = accident.rename(KeyRef::Id(view.id), "renamed").await;
    assert_eq!(refused.map(drop), Err(ServiceFault::Overtaken));
    assert_eq!(accident.stored().remove(&view.id), Some(record), "as it was");
}

#[tokio::test]
async fn what_the_store_took_unseen_is_in_force_after_the_next_call() {
    let accident = Accident::start().await;
    let view = accident.create("k").await.expect("made");
    let (id, key) = (view.id, KeyRef::Id(view.id));
    let write = |change| {
        let write = Write::Keys { changes: vec![change], audit: Vec::new(), remember: None };
        accident.store.inner().write(write).expect("written")
    };
    let (mut stored, _) = accident.store.inner().key(key).expect("readable").expect("there");
    stored.record.policy.is_disabled = true;
    stored.details.version += 1;
    write(StoredChange::Put(Box::new(stored)));
    accident.change("disable", key).await.expect("it is so already");
    accident.agree("disabled");
    write(StoredChange::Remove { id, at_ms: 0 });
    assert_eq!(accident.change("delete", key).await, Err(ServiceFault::NotFound));
    assert!(accident.house.keys.is_empty(), "what the store does not have is not in force");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_to_one_key_at_once_are_all_made() {
    let accident = Accident::start().await;
    let key = KeyRef::Id(accident.create("k").await.expect("made").id);
    let add = |n: usize| {
        let edit = move |fields: &mut KeyFields, _: &KeyView| {
            fields.metadata.push((n.to_string().into(), "x".into()));
            Ok::<_, ServiceFault>(())
        };
        accident.house.service.edit(&accident.ops, key, IfMatch::Always, "key.update", edit)
    };
    let all = futures_util::future::join_all((0..16).map(add)).await;
    assert!(all.iter().all(Result::is_ok));
    let view = accident.house.service.get(&accident.ops, key).await.expect("there");
    assert_eq!((view.fields.metadata.len(), view.version), (16, 17));
    let stale = (0..8).map(|_| {
        let condition = IfMatch::Versions(vec![17]);
        accident.house.service.rotate(&accident.ops, key, condition, Rotation::default())
    });
    let rotated = futures_util::future::join_all(stale).await;
    assert_eq!(rotated.iter().filter(|verdict| verdict.is_ok()).count(), 1, "one of those who saw the same version");
    accident.agree("after all");
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_change_half_made() {
    let accident = Accident::start().await;
    let key = KeyRef::Id(accident.create("k").await.expect("made").id);
    for _ in 0..20 {
        let change = accident.house.service.rotate(
            &accident.ops,
            key,
            IfMatch::Always,
            Rotation { grace_seconds: 0, secret: None },
        );
        // Started, and dropped before it is over or just after.
        let _gone = tokio::time::timeout(std::time::Duration::from_micros(200), change).await;
    }
    // Comes after all of them, since changes to one key come one after another.
    accident.rename(key, "last").await.expect("changed");
    accident.agree("after those who went away");
}
