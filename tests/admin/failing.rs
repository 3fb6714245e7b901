//! The store's calls fail, one at a time: what was not acknowledged is not in force, what was is on disk, and the next try works.

use std::sync::Arc;

use keyward::store::embedded::Embedded;
use keyward::store::{Store, StoreFault};
use serde_json::{Value, json};

use crate::client::Answer;
use crate::failing_store::{FailingStore, Moment};
use crate::house::House;

const KEYS: &str = "/api/v1/gateway/keys";

/// An operator who asks again when the store does not answer.
struct Patient<'a> {
    house: &'a House,
    /// Calls that had to be made again.
    failed: usize,
}

impl Patient<'_> {
    async fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let before = in_force(self.house);
        let first = self.house.call_with(method, path, headers, body.clone()).await;
        if first.status != 503 {
            return first;
        }
        self.failed += 1;
        assert!(first.json()["detail"].as_str().is_some_and(|text| !text.is_empty()), "{}", first.text());
        assert_eq!(in_force(self.house), before, "{method} {path} was not made, and nothing of it is in force");
        let second = self.house.call_with(method, path, headers, body).await;
        assert_ne!(second.status, 503, "only one call fails: {}", second.text());
        second
    }
}

/// Everything the data plane goes by, in a comparable shape.
fn in_force(house: &House) -> Vec<String> {
    let one = |entry: &Arc<keyward::keys::KeyEntry>| {
        let secrets = house.keys.secrets_of(entry.id());
        let secrets: Vec<_> = secrets.iter().map(|slot| (slot.digest().0, slot.until_unix_ms())).collect();
        format!("{:?} {secrets:?}", entry.policy_at_rest())
    };
    let mut all: Vec<String> = house.keys.entries().iter().map(one).collect();
    all.sort();
    all
}

/// A key's life, by every call that changes it.
async fn life(patient: &mut Patient<'_>) {
    let once = |key: &'static str| [("idempotency-key", key)];
    let made = patient.call("POST", KEYS, &once("make"), Some(json!({ "name": "a", "rpm_limit": 60 }))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("{KEYS}/{}", made.json()["id"].as_str().expect("an id"));
    let at = |end: &str| format!("{path}{end}");
    let changed = patient.call("PUT", &path, &[], Some(json!({ "tpm_limit": 1000, "metadata": { "a": "b" } }))).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let rotated = patient.call("PUT", &at("/rotate"), &once("turn"), Some(json!({ "grace_seconds": 60 }))).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    for end in ["/disable", "/enable", "/rotate/end"] {
        assert_eq!(patient.call("PUT", &at(end), &[], None).await.status, 200, "{end}");
    }
    let shown = patient.call("GET", &path, &[], None).await;
    assert_eq!((shown.json()["tpm_limit"].as_u64(), shown.json()["status"].as_str()), (Some(1000), Some("active")));
    let other = patient.call("POST", KEYS, &[], Some(json!({ "name": "b", "key": "a-chosen-secret" }))).await;
    assert_eq!(other.status, 201, "{}", other.text());
    let listed = patient.call("GET", &format!("{KEYS}?limit=10"), &[], None).await;
    assert_eq!(listed.json()["total"], 2, "{}", listed.text());
    assert_eq!(patient.call("DELETE", &path, &[], None).await.status, 204);
}

#[tokio::test]
async fn whichever_call_fails_nothing_acknowledged_is_lost_and_nothing_else_is_in_force() {
    let faults = [
        StoreFault::Full("no room".to_owned()),
        StoreFault::ReadOnly("mounted so".to_owned()),
        StoreFault::Locked("by another".to_owned()),
        StoreFault::Unavailable("gone".to_owned()),
    ];
    for nth in 1.. {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.db");
        let store = Arc::new(FailingStore::new(Embedded::open(&path).expect("a store")));
        let house = House::over(Arc::<FailingStore<Embedded>>::clone(&store)).await;
        store.fail_nth(nth, Moment::Before, faults[nth as usize % faults.len()].clone());
        let mut patient = Patient { house: &house, failed: 0 };
        life(&mut patient).await;
        assert_eq!(house.keys.len(), 1);

        // What the next start would find is what is in force now.
        let again = Embedded::open(&path).expect("the same store");
        let mut kept = Vec::new();
        again.load_keys(&mut |key| kept.push(key)).expect("read");
        let slots = house.keys.secrets_of(kept[0].record.policy.id);
        assert_eq!(kept.len(), 1, "call {nth}");
        assert_eq!(slots[0].digest(), kept[0].record.current);
        assert_eq!(*house.keys.entries()[0].policy_at_rest(), kept[0].record.policy);
        let audit = again.audit(&keyward::store::AuditQuery { limit: 100, ..Default::default() }).expect("read");
        let actions: Vec<&str> = audit.entries.iter().rev().map(|entry| &*entry.action).collect();
        let all = [
            "key.create",
            "key.update",
            "key.rotate",
            "key.disable",
            "key.enable",
            "key.rotate_end",
            "key.create",
            "key.delete",
        ];
        assert_eq!(actions, all, "call {nth}: each change is written down once");
        if patient.failed == 0 {
            assert!(nth > 15, "the life of a key asks the store more often than {nth} times");
            return;
        }
    }
}
