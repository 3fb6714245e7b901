//! The store as the rest of the program meets it when its calls fail.

use keyward::keys::{KeyRecord, Source};
use keyward::limits::QuotaCount;
use keyward::policy::{DialectName, Endpoint, KeyPolicy, Usage};
use keyward::store::embedded::Embedded;
use keyward::store::{
    Entry, JournalSlice, KeyDetails, KeyRef, Outcome, Store, StoreFault, StoredChange, StoredKey, UsageBatch, Write,
    Written,
};
use keyward::units::{KeyDigest, KeyId};
use uuid::Uuid;

use crate::harness::failing_store::{FailingStore, Moment};

fn key(number: u128, version: u64) -> StoredKey {
    let id = KeyId(Uuid::from_u128(number));
    StoredKey {
        number: 0,
        record: KeyRecord {
            policy: KeyPolicy::unlimited(id, "a key", "sk-kw-abcdef"),
            current: KeyDigest([u8::try_from(number).unwrap(); 32]),
            previous: Vec::new(),
            source: Source::Api,
        },
        details: KeyDetails { version, ..KeyDetails::default() },
    }
}

fn put(key: StoredKey) -> Write {
    Write::Keys { changes: vec![StoredChange::Put(Box::new(key))], audit: Vec::new(), remember: None }
}

fn batch(first: u64, count: u64) -> Write {
    let entry = Entry {
        request_id: "r".into(),
        at_unix_ms: 1,
        key: KeyId(Uuid::from_u128(1)),
        previous_secret: None,
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        model: "m".into(),
        outcome: Outcome::Answered,
        reason: "".into(),
        status: 200,
        usage: Usage::default(),
        units: 1,
        since_day: QuotaCount::NEVER,
        touched_day: 0,
        first_byte_us: 1,
        duration_us: 1,
        requests: 1,
    };
    let entries = (first..first + count).map(|at| (at, entry.clone())).collect();
    let slices = vec![JournalSlice { journal: Uuid::from_u128(9), entries, is_last: false }];
    Write::Usage(UsageBatch { slices })
}

/// A run of calls, each made again until it is done, as the program does: whichever of them fails, and whether or not it was
/// done when it said that it was not, what is in the store at the end is the same.
#[test]
fn whichever_call_fails_nothing_is_lost_or_doubled_by_asking_again() {
    let fault = StoreFault::Unavailable("cut off".to_owned());
    for (nth, moment) in (1..=6).flat_map(|nth| [(nth, Moment::Before), (nth, Moment::After)]) {
        let folder = tempfile::tempdir().unwrap();
        let store = FailingStore::new(Embedded::open(&folder.path().join("store.db")).unwrap());
        store.fail_nth(nth, moment, fault.clone());
        let mut failures = 0;
        for write in [put(key(1, 1)), batch(1, 5), put(key(1, 2)), batch(4, 6), put(key(2, 1))] {
            loop {
                match store.write(write.clone()) {
                    Ok(_) => break,
                    // Done already, though nobody said so.
                    Err(StoreFault::Stale) if moment == Moment::After => break,
                    Err(found) => {
                        assert_eq!(found, fault, "{nth} {moment:?}");
                        failures += 1;
                    }
                }
            }
        }
        assert_eq!(failures, u64::from(nth < 6), "{nth} {moment:?}");
        let (first, state) = store.inner().key(KeyRef::Number(1)).unwrap().unwrap();
        assert_eq!((first.details.version, state.counted.used), (2, 9), "{nth} {moment:?}");
        let books = store.inner().books().unwrap();
        assert_eq!((books.records, books.mismatches), (9, vec![]), "{nth} {moment:?}");
    }
}

#[test]
fn a_store_that_is_gone_and_comes_back_is_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = FailingStore::new(Embedded::open(&folder.path().join("store.db")).unwrap());
    assert_eq!(store.write(put(key(1, 1))), Ok(Written::Keys(vec![1])));
    let locked = StoreFault::Locked("held".to_owned());
    store.fail_all(locked.clone());
    assert_eq!(store.write(put(key(1, 2))), Err(locked.clone()));
    assert_eq!(store.drained(), Err(locked));
    store.recover();
    assert_eq!(store.write(put(key(1, 2))), Ok(Written::Keys(vec![1])));
    assert_eq!(store.calls(), 4);
}
