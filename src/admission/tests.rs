//! The order of the checks, and that a refusal costs nothing.

use uuid::Uuid;

use super::*;
use crate::keys::{KeyChange, KeyRecord, PreviousSecret, Source};
use crate::policy::{AddressRules, DialectName, Endpoint, Estimate, Price, QuotaReset, QuotaRule, authorize};
use crate::units::{KeyId, ModelName, Rpm};

const NOW: Now = Now { monotonic_ns: 60_000_000_000, unix_ms: 1_717_416_000_000 };
const SECRET: KeyDigest = KeyDigest([1; 32]);
const OLD: KeyDigest = KeyDigest([2; 32]);

fn home() -> IpAddr {
    "10.0.0.1".parse().unwrap()
}

fn record(policy: KeyPolicy) -> KeyRecord {
    KeyRecord { policy, current: SECRET, previous: Vec::new(), source: Source::Api }
}

fn plain() -> KeyPolicy {
    KeyPolicy::unlimited(KeyId(Uuid::from_u128(7)), "k", "sk-kw-abc")
}

fn table(record: KeyRecord) -> KeyTable {
    let table = KeyTable::new();
    table.apply(KeyChange::Put(Box::new(record))).unwrap();
    table
}

fn refusal(table: &KeyTable, digest: KeyDigest, now: Now) -> Option<Refusal> {
    identify(table, Some(digest), home(), now).err().map(|(_, refusal)| refusal)
}

fn standing(caller: &Caller) -> Standing {
    caller.slot().entry().limits().standing(caller.policy(), NOW)
}

#[test]
fn no_secret_and_an_unknown_one_are_the_same_refusal() {
    let table = table(record(plain()));
    assert!(matches!(identify(&table, None, home(), NOW), Err((None, Refusal::InvalidKey))));
    assert_eq!(refusal(&table, OLD, NOW), Some(Refusal::InvalidKey));
    assert_eq!(refusal(&table, SECRET, NOW), None);
}

#[test]
fn only_the_holder_of_a_secret_is_told_and_in_this_order() {
    let at_unix_ms = NOW.unix_ms;
    let mut all = record(KeyPolicy {
        is_disabled: true,
        expires_at_ms: Some(at_unix_ms),
        allowed_ips: AddressRules::compile(&["192.0.2.0/24"]).unwrap(),
        ..plain()
    });
    all.previous = vec![PreviousSecret { digest: OLD, until_unix_ms: at_unix_ms }];
    let table = table(all.clone());
    let mut change = |edit: &dyn Fn(&mut KeyPolicy)| {
        edit(&mut all.policy);
        table.apply(KeyChange::Put(Box::new(all.clone()))).unwrap();
    };
    assert_eq!(refusal(&table, OLD, NOW), Some(Refusal::KeyDisabled));
    change(&|policy| policy.is_disabled = false);
    assert_eq!(refusal(&table, OLD, NOW), Some(Refusal::KeyExpired { at_unix_ms }));
    change(&|policy| policy.expires_at_ms = Some(at_unix_ms + 1));
    assert_eq!(refusal(&table, OLD, NOW), Some(Refusal::GraceEnded { at_unix_ms }));
    assert_eq!(refusal(&table, SECRET, NOW), Some(Refusal::AddressNotAllowed { address: home() }));
    change(&|policy| policy.allowed_ips = AddressRules::default());
    assert_eq!(refusal(&table, SECRET, NOW), None);
    let earlier = Now { unix_ms: at_unix_ms - 1, ..NOW };
    assert_eq!(refusal(&table, OLD, earlier), None, "until its end the old secret works");
}

#[test]
fn the_use_of_an_old_secret_is_noted() {
    let rotated = PreviousSecret { digest: OLD, until_unix_ms: i64::MAX };
    let table = table(KeyRecord { previous: vec![rotated], ..record(plain()) });
    let caller = identify(&table, Some(OLD), home(), NOW).unwrap();
    assert_eq!((caller.slot().uses(), caller.slot().last_used_unix_ms()), (1, Some(NOW.unix_ms)));
    assert_eq!(format!("{caller:?}"), "Caller { key: KeyId(00000000-0000-0000-0000-000000000007), .. }");
}

fn facts() -> RequestFacts {
    RequestFacts {
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        model: ModelName::new("gpt-4o"),
        other_models: Vec::new(),
        model_free: false,
        stream: false,
        estimate: Estimate { prompt: 10, output: 20, choices: 1, output_is_stated: true, least_output: 1 },
    }
}

#[test]
fn from_secret_to_settlement() {
    let table = table(record(KeyPolicy {
        rpm: Rpm::new(2),
        quota: Some(QuotaRule { limit: 45, reset: QuotaReset::None }),
        ..plain()
    }));
    let (clock, settings) = (Clock::manual(NOW), LimitSettings::default());
    let ask = || {
        let caller = identify(&table, Some(SECRET), home(), NOW).unwrap();
        let charge = authorize(caller.policy(), &facts(), Price::TOKEN).unwrap();
        admit(caller, facts(), charge, &settings, &clock, NOW)
    };
    let mut first = ask().unwrap();
    assert_eq!((first.clamp(), first.standing(NOW).quota.unwrap().reserved), (None, 30));
    first.reservation().forwarded();
    let second = ask().unwrap();
    assert_eq!(second.clamp(), Some(5));
    second.void(NOW);
    let (caller, refused) = ask().unwrap_err();
    assert!(matches!(refused, Refusal::RequestsExceeded { limit: 2, .. }));
    assert_eq!(standing(&caller).quota.unwrap().reserved, 30, "a refusal holds nothing");
    let usage = Usage { input: 9, output: 4, ..Usage::default() };
    let settled = first.settle(usage, NOW);
    assert_eq!((settled.units, settled.tokens), (13, 13));
    assert_eq!(standing(&caller).quota.unwrap().used, 13);
}

#[test]
fn a_key_that_is_switched_off_while_its_request_is_read_is_not_admitted() {
    let table = table(record(plain()));
    let (clock, settings) = (Clock::manual(NOW), LimitSettings::default());
    let change = |policy: KeyPolicy| table.apply(KeyChange::Put(Box::new(record(policy)))).unwrap();
    let ask = |between: &dyn Fn()| {
        let caller = identify(&table, Some(SECRET), home(), NOW).unwrap();
        let charge = authorize(caller.policy(), &facts(), Price::TOKEN).unwrap();
        between();
        admit(caller, facts(), charge, &settings, &clock, NOW)
            .map(|admitted| admitted.void(NOW))
            .map_err(|(_, refusal)| refusal)
    };
    assert_eq!(ask(&|| {}), Ok(()));
    assert_eq!(ask(&|| change(KeyPolicy { is_disabled: true, ..plain() })), Err(Refusal::KeyDisabled));
    change(plain());
    assert_eq!(ask(&|| table.apply(KeyChange::Remove(plain().id)).unwrap()), Err(Refusal::InvalidKey));
}

#[test]
fn limits_changed_while_a_request_is_read_hold_for_it() {
    let quota = |limit| Some(QuotaRule { limit, reset: QuotaReset::Monthly });
    let table = table(record(KeyPolicy { quota: quota(1_000), ..plain() }));
    let caller = identify(&table, Some(SECRET), home(), NOW).unwrap();
    let charge = authorize(caller.policy(), &facts(), Price::TOKEN).unwrap();
    let lowered = KeyPolicy { quota: quota(5), ..plain() };
    table.apply(KeyChange::Put(Box::new(record(lowered)))).unwrap();
    let (caller, refused) =
        admit(caller, facts(), charge, &LimitSettings::default(), &Clock::manual(NOW), NOW).unwrap_err();
    assert!(matches!(refused, Refusal::QuotaSpent { limit: 5, .. }), "{refused:?}");
    assert_eq!(standing(&caller).quota.unwrap().limit, 5);
}

#[test]
fn a_secret_that_changes_hands_while_it_is_looked_up_is_one_keys_or_the_others() {
    let record = |id: u128, secret: u8| KeyRecord {
        policy: KeyPolicy::unlimited(KeyId(Uuid::from_u128(id)), "k", "p"),
        current: KeyDigest([secret; 32]),
        previous: Vec::new(),
        source: Source::File,
    };
    let (table, address) = (KeyTable::new(), "127.0.0.1".parse().unwrap());
    let put = |records: [KeyRecord; 2]| {
        table.apply_all(records.map(|record| KeyChange::Put(Box::new(record))).into()).unwrap();
    };
    put([record(1, 1), record(2, 2)]);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for _ in 0..2_000 {
                put([record(1, 2), record(2, 1)]);
                put([record(1, 1), record(2, 2)]);
            }
        });
        let mut looks = 0_u64;
        while !changing.is_finished() || looks == 0 {
            let caller = identify(&table, Some(KeyDigest([1; 32])), address, NOW);
            assert!(caller.is_ok(), "{caller:?}");
            looks += 1;
        }
    });
}
