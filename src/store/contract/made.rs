//! Keys and entries to test with.

use proptest::prelude::*;
use uuid::Uuid;

use crate::keys::{KeyRecord, PreviousSecret, Source};
use crate::policy::{
    AddressRules, DialectName, Endpoint, EndpointRules, Glob, KeyPolicy, ModelRules, OnDisconnect, QuotaReset,
    QuotaRule, Usage,
};
use crate::store::{
    AuditEntry, Entry, JournalSlice, KeyDetails, KeyRef, KeyState, Mask, NewApiFields, OldSecret, Outcome, Store,
    StoreFault, StoredChange, StoredKey, UsageBatch, Write, Written,
};
use crate::units::{KeyDigest, KeyId, Parallel, Rpm, Tpm};

/// The identity of a numbered key.
pub(crate) fn id(number: u128) -> KeyId {
    KeyId(Uuid::from_u128(number))
}

/// The digest of a numbered secret; no two begin alike.
pub(crate) fn digest(number: u64) -> KeyDigest {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    KeyDigest(bytes)
}

/// A plain key at its first version, with a secret of its own.
pub(crate) fn key(number: u128) -> StoredKey {
    let secret = u64::try_from(number).expect("a small number");
    StoredKey {
        number: 0,
        record: KeyRecord {
            policy: KeyPolicy::unlimited(id(number), &format!("key {number}"), "sk-kw-abcdef"),
            current: digest(secret),
            previous: Vec::new(),
            source: Source::Api,
        },
        details: KeyDetails { version: 1, created_at_ms: 1_000, updated_at_ms: 1_000, ..KeyDetails::default() },
    }
}

/// The same key at its next version.
pub(crate) fn next(key: &StoredKey) -> StoredKey {
    let mut next = key.clone();
    next.details.version += 1;
    next
}

/// To put it.
pub(crate) fn put(key: &StoredKey) -> StoredChange {
    StoredChange::Put(Box::new(key.clone()))
}

/// To remove it.
pub(crate) fn remove(id: KeyId) -> StoredChange {
    StoredChange::Remove { id, at_ms: 2_000 }
}

/// A write of these changes alone.
pub(crate) fn changes(changes: Vec<StoredChange>) -> Write {
    Write::Keys { changes, audit: Vec::new(), remember: None }
}

/// Makes these changes.
pub(crate) fn change(store: &dyn Store, all: Vec<StoredChange>) -> Result<Written, StoreFault> {
    store.write(changes(all))
}

/// The key as it is kept, and what is counted of it.
pub(crate) fn kept(store: &dyn Store, id: KeyId) -> Option<(StoredKey, KeyState)> {
    store.key(KeyRef::Id(id)).expect("it can be read")
}

/// Every key that the start would read, by id.
pub(crate) fn loaded(store: &dyn Store) -> Vec<StoredKey> {
    let mut keys = Vec::new();
    store.load_keys(&mut |key| keys.push(key)).expect("they can be read");
    keys.sort_by_key(|key| key.record.policy.id);
    keys
}

/// An entry of the audit.
pub(crate) fn audit(at_ms: i64, action: &'static str) -> AuditEntry {
    AuditEntry {
        number: 0,
        at_ms,
        operator: "root".into(),
        via: "native",
        action,
        key: Some(id(1)),
        org_id: None,
        team_id: None,
        address: Some("10.0.0.7".parse().expect("an address")),
        before: None,
        after: Some("{\"rpm_limit\":5}".to_owned()),
    }
}

/// An answered request of a key: ten units on day 0.
pub(crate) fn entry(key: KeyId) -> Entry {
    Entry {
        request_id: "req-1".into(),
        at_unix_ms: 5_000,
        key,
        previous_secret: None,
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        model: "gpt-4o".into(),
        outcome: Outcome::Answered,
        reason: "".into(),
        status: 200,
        usage: Usage { input: 7, cached_input: 2, output: 3, ..Usage::default() },
        units: 10,
        since_day: 0,
        touched_day: 0,
        first_byte_us: 2_000,
        duration_us: 9_000,
        requests: 1,
    }
}

/// A part of a numbered journal, its entries numbered from `first` on.
pub(crate) fn slice(journal: u128, first: u64, entries: &[Entry]) -> JournalSlice {
    let entries = (first..).zip(entries.iter().cloned()).collect();
    JournalSlice { journal: Uuid::from_u128(journal), entries, is_last: false }
}

/// Writes it, and says how many entries were new.
pub(crate) fn drain(store: &dyn Store, slices: Vec<JournalSlice>) -> usize {
    match store.write(Write::Usage(UsageBatch { slices })) {
        Ok(Written::Usage(new)) => new,
        other => panic!("{other:?}"),
    }
}

/// The books must agree.
pub(crate) fn check_books(store: &dyn Store) {
    assert_eq!(store.books().expect("they can be read").mismatches, []);
}

/// Any key there can be, at its first version; its secrets are those of its number.
pub(crate) fn any_key(number: u64) -> impl Strategy<Value = StoredKey> {
    (any_policy(number), any_details(), prop::collection::vec((".{0,12}", any::<i64>()), 0..3)).prop_map(
        move |(policy, mut details, old)| {
            let previous = (1..).zip(&old).map(|(at, (_, until_unix_ms))| PreviousSecret {
                digest: digest(number * 100 + at),
                until_unix_ms: *until_unix_ms,
            });
            let previous = previous.collect();
            details.old_secrets = old.iter().map(|(prefix, _)| OldSecret { prefix: prefix.as_str().into() }).collect();
            let source = if number.is_multiple_of(2) { Source::Api } else { Source::File };
            StoredKey {
                number: 0,
                record: KeyRecord { policy, current: digest(number * 100), previous, source },
                details,
            }
        },
    )
}

fn any_policy(number: u64) -> impl Strategy<Value = KeyPolicy> {
    let text = || prop::option::of(any::<String>().prop_map(String::into_boxed_str));
    let models = prop::collection::vec("[A-Za-z0-9._:/@+*-]{1,20}", 0..4)
        .prop_map(|all| ModelRules::new(all.iter().filter_map(|one| Glob::new(one)).collect()));
    let endpoints = prop::sample::subsequence(Endpoint::ALL.to_vec(), 0..Endpoint::ALL.len()).prop_map(|all| {
        EndpointRules::compile(&all.into_iter().map(Endpoint::as_str).collect::<Vec<_>>()).expect("their own names")
    });
    let rates = (any::<u32>(), any::<u64>(), any::<u32>())
        .prop_map(|(rpm, tpm, most)| (Rpm::new(rpm >> 2), Tpm::new(tpm >> 31), Parallel::new(most >> 12)));
    let quota = prop::option::of((any::<u64>(), prop::sample::select(QuotaReset::ALL.to_vec())));
    let quota = quota.prop_map(|quota| quota.map(|(limit, reset)| QuotaRule { limit, reset }));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let labels = (any::<String>(), any::<String>(), text(), text());
    (labels, models, endpoints, rates, quota, addresses(), prop::option::of(any::<i64>()), flags).prop_map(
        move |(labels, models, endpoints, rates, quota, allowed_ips, expires_at_ms, flags)| KeyPolicy {
            id: id(u128::from(number)),
            name: labels.0.into(),
            key_prefix: labels.1.into(),
            org_id: labels.2,
            team_id: labels.3,
            models,
            endpoints,
            rpm: rates.0,
            tpm: rates.1,
            max_parallel: rates.2,
            quota,
            allowed_ips,
            expires_at_ms,
            is_sandbox: flags.0,
            on_disconnect: if flags.1 { OnDisconnect::Drain } else { OnDisconnect::Cancel },
            is_disabled: flags.2,
        },
    )
}

fn addresses() -> impl Strategy<Value = AddressRules> {
    let v4 = (any::<u32>(), 0_u32..=32).prop_map(|(a, bits)| format!("{}/{bits}", std::net::Ipv4Addr::from(a)));
    let v6 = (any::<u128>(), 0_u32..=128).prop_map(|(a, bits)| format!("{}/{bits}", std::net::Ipv6Addr::from(a)));
    prop::collection::vec(prop_oneof![v4, v6], 0..4).prop_map(|all| AddressRules::compile(&all).expect("prefixes"))
}

fn any_details() -> impl Strategy<Value = KeyDetails> {
    let text = || any::<String>().prop_map(String::into_boxed_str);
    let newapi = (text(), any::<bool>(), prop::option::of(text()), any::<i64>());
    let newapi = newapi.prop_map(|(group, cross_group_retry, dormant_models, dormant_remain)| NewApiFields {
        group,
        cross_group_retry,
        dormant_models,
        dormant_remain,
    });
    let metadata = prop::collection::vec((text(), text()), 0..4);
    (any::<(i64, i64)>(), (text(), text()), metadata, newapi).prop_map(|(times, mask, metadata, newapi)| KeyDetails {
        version: 1,
        created_at_ms: times.0,
        updated_at_ms: times.1,
        mask: Mask { head: mask.0, tail: mask.1 },
        old_secrets: Vec::new(),
        metadata,
        newapi,
    })
}
