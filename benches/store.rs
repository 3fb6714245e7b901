//! The embedded store at a million keys: the start, pages, changes, and the draining of a journal.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use keyward::clock::Clock;
use keyward::keys::{KeyRecord, Source};
use keyward::policy::{
    AddressRules, DialectName, Endpoint, Glob, KeyPolicy, KeyStatus, ModelRules, QuotaReset, QuotaRule, Usage,
};
use keyward::store::embedded::Embedded;
use keyward::store::{
    Entry, GroupBy, JournalSlice, KeyDetails, KeyFilter, KeyRef, Mask, Order, Outcome, PageFrom, StatusFilter, Store,
    StoreFault, StoredChange, StoredKey, UsageBatch, UsageQuery, Write,
};
use keyward::units::{KeyDigest, KeyId, Parallel, Rpm, Tpm};
use uuid::Uuid;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MANY: u64 = 1_000_000;

fn id(n: u64) -> KeyId {
    KeyId(Uuid::from_u128(u128::from(n) << 64 | 0x7000_8000_0000_0000))
}

/// Scattered as digests are.
fn digest(n: u64) -> KeyDigest {
    let mut bytes = [0; 32];
    for (at, part) in (1_u64..).zip(bytes.chunks_mut(8)) {
        let mixed = (n + at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        part.copy_from_slice(&(mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes());
    }
    KeyDigest(bytes)
}

/// When pages are asked for: all keys are made by then.
const ASKED_MS: i64 = 1_701_000_000_000;

/// One in seven may ask for any model; the others have one of forty lists, a few a rare one.
fn models(n: u64) -> ModelRules {
    let variant = format!("llama-{}-*", n % 40);
    let globs: &[&str] = match n {
        _ if n.is_multiple_of(5_003) => &["o1-pro"],
        _ if n.is_multiple_of(7) => &[],
        _ if n.is_multiple_of(3) => &["gpt-4o*", &variant],
        _ => &["gpt-4o-mini", "claude-*", &variant],
    };
    ModelRules::new(globs.iter().copied().filter_map(Glob::new).collect())
}

fn key(n: u64, version: u64) -> StoredKey {
    let created_at_ms = 1_700_000_000_000 + i64::try_from(n * 7_919 % MANY).unwrap_or(0) * 1_000;
    let policy = KeyPolicy {
        org_id: Some(format!("org-{}", n % 1_000).into()),
        team_id: Some(if n.is_multiple_of(10) { "team-large".into() } else { format!("team-{}", n % 20_000).into() }),
        rpm: Rpm::new(600),
        tpm: Tpm::new(100_000),
        max_parallel: Parallel::new(50),
        quota: Some(QuotaRule { limit: 1_000_000, reset: QuotaReset::Monthly }),
        models: models(n),
        is_disabled: n.is_multiple_of(23),
        expires_at_ms: n.is_multiple_of(5).then_some(created_at_ms + 200_000_000),
        is_sandbox: n.is_multiple_of(101),
        allowed_ips: AddressRules::compile(&["10.0.0.0/8"]).unwrap_or_default(),
        ..KeyPolicy::unlimited(id(n), &format!("customer-{n:07}"), &format!("sk-kw-{:06}", n % 999_983))
    };
    let mask = Mask { head: "sk-kw-3FqZbM".into(), tail: "12345678".into() };
    StoredKey {
        number: 0,
        record: KeyRecord { policy, current: digest(n), previous: Vec::new(), source: Source::Api },
        details: KeyDetails { version, created_at_ms, updated_at_ms: created_at_ms, mask, ..KeyDetails::default() },
    }
}

fn put(key: StoredKey) -> Write {
    Write::Keys { changes: vec![StoredChange::Put(Box::new(key))], audit: Vec::new(), remember: None }
}

fn entry(n: u64) -> Entry {
    Entry {
        request_id: format!("req-{n:020}").into(),
        at_unix_ms: 1_700_000_000_000 + i64::try_from(n).unwrap_or(0),
        key: id(n * 31 % 1_000),
        previous_secret: None,
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        model: "gpt-4o-mini".into(),
        outcome: Outcome::Answered,
        reason: "".into(),
        status: 200,
        usage: Usage { input: 900, cached_input: 100, output: 300, ..Usage::default() },
        units: 1_200,
        since_day: 19_675,
        touched_day: 19_675,
        first_byte_us: 200_000 + n % 50_000,
        duration_us: 3_000_000 + n % 900_000,
        requests: 1,
    }
}

/// Spends the quota of every fortieth key.
fn spend() -> Write {
    let one = |n: u64| Entry { key: id(n * 40), units: 1_000_000, ..entry(n) };
    let entries = (1..=MANY / 40 - 1).map(|n| (n, one(n))).collect();
    let slices = vec![JournalSlice { journal: Uuid::from_u128(2), entries, is_last: false }];
    Write::Usage(UsageBatch { slices })
}

fn slice(journal: u128, entries: u64) -> Write {
    let entries = (1..=entries).map(|n| (n, entry(n))).collect();
    let slices = vec![JournalSlice { journal: Uuid::from_u128(journal), entries, is_last: false }];
    Write::Usage(UsageBatch { slices })
}

/// Says how long something took that is done once.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let clock = Clock::system();
    let begin = clock.monotonic_ns();
    let done = work();
    println!("{what}: {:?}", Duration::from_nanos(clock.monotonic_ns() - begin));
    done
}

fn fill(path: &Path) -> Result<Embedded, StoreFault> {
    let store = Embedded::open(path)?;
    for first in (0..MANY).step_by(50_000) {
        let changes = (first..first + 50_000).map(|n| StoredChange::Put(Box::new(key(n, 1)))).collect();
        store.write(Write::Keys { changes, audit: Vec::new(), remember: None })?;
    }
    Ok(store)
}

fn pages(c: &mut Criterion, store: &Embedded) {
    let mut group = c.benchmark_group("page of 100 and total at 1,000,000 keys");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    let all = KeyFilter::default;
    let text = |text: &str| Some(text.into());
    let org = KeyFilter { org_id: text("org-7"), ..all() };
    let status =
        |status| KeyFilter { status: Some(StatusFilter { status, at_ms: ASKED_MS, certain_ms: ASKED_MS }), ..all() };
    let cursor = PageFrom::After { created_at_ms: 1_700_500_000_000, number: 500_000 };
    let start = PageFrom::Offset(0);
    let (newest, by_number) = (Order::NewestFirst, Order::NumberDescending);
    for (what, filter, order, from) in [
        ("newest first", all(), newest, start),
        ("by number", all(), by_number, start),
        ("from a cursor", all(), newest, cursor),
        ("after 500,000", all(), newest, PageFrom::Offset(500_000)),
        ("of an organisation", org.clone(), newest, start),
        ("of an organisation by number", org.clone(), by_number, start),
        ("by part of the name", KeyFilter { name_contains: text("er-09999"), ..all() }, newest, start),
        ("by a part of every name", KeyFilter { name_contains: text("customer"), ..all() }, newest, start),
        ("by a name like", KeyFilter { name_like: text("cust%999%"), ..all() }, by_number, start),
        ("by prefix", KeyFilter { prefix: text("sk-kw-0999"), ..all() }, newest, start),
        ("by every prefix", KeyFilter { prefix: text("sk-kw"), ..all() }, newest, start),
        ("by model", KeyFilter { model: text("gpt-4o-mini"), ..all() }, newest, start),
        ("by a rare model", KeyFilter { model: text("x"), ..all() }, newest, start),
        ("sandbox", KeyFilter { is_sandbox: Some(true), ..all() }, newest, start),
        ("active ones", status(KeyStatus::Active), newest, start),
        ("active ones from a cursor", status(KeyStatus::Active), newest, cursor),
        ("active ones by number, after 500,000", status(KeyStatus::Active), by_number, PageFrom::Offset(500_000)),
        ("disabled ones", status(KeyStatus::Disabled), newest, start),
        ("expired ones", status(KeyStatus::Expired), newest, start),
        ("exhausted ones", status(KeyStatus::Exhausted), newest, start),
        ("active, by model", KeyFilter { model: text("gpt-4o-mini"), ..status(KeyStatus::Active) }, newest, start),
        ("expired, by name", KeyFilter { name_contains: text("99"), ..status(KeyStatus::Expired) }, newest, start),
        ("active of an organisation", KeyFilter { org_id: text("org-7"), ..status(KeyStatus::Active) }, newest, start),
        ("active of a small team", KeyFilter { team_id: text("team-7"), ..status(KeyStatus::Active) }, newest, start),
        ("active of 100,000", KeyFilter { team_id: text("team-large"), ..status(KeyStatus::Active) }, newest, start),
    ] {
        group.bench_function(what, |b| b.iter(|| black_box(store.keys(&filter, order, from, 100))));
    }
    group.finish();
}

fn changes(c: &mut Criterion, store: &Embedded) {
    c.bench_function("one key at 1,000,000", |b| b.iter(|| black_box(store.key(KeyRef::Id(id(777_777))))));
    let mut version = 1;
    c.bench_function("one change at 1,000,000 keys, on disk", |b| {
        b.iter(|| {
            version += 1;
            black_box(store.write(put(key(4_321, version))))
        });
    });
    let mut new = 2 * MANY;
    c.bench_function("one new key at 1,000,000 keys, on disk", |b| {
        b.iter(|| {
            new += 1;
            black_box(store.write(put(key(new, 1))))
        });
    });
    let mut version = 1;
    c.bench_function("one switched off or on at 1,000,000 keys, on disk", |b| {
        b.iter(|| {
            version += 1;
            let mut changed = key(1_234, version);
            changed.record.policy.is_disabled = version.is_multiple_of(2);
            black_box(store.write(put(changed)))
        });
    });
    let mut journal = 100;
    c.bench_function("1,000 settled requests, on disk", |b| {
        let make = || {
            journal += 1;
            slice(journal, 1_000)
        };
        b.iter_batched(make, |write| black_box(store.write(write)), BatchSize::LargeInput);
    });
}

fn bench(c: &mut Criterion) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("store.db");
    let filled = timed("1,000,000 keys written in 20 commits", || fill(&path));
    drop(filled);
    let Ok(store) = timed("opened", || Embedded::open(&path)) else { return };
    let mut loaded = 0;
    let result = timed("1,000,000 keys loaded", || store.load_keys(&mut |key| loaded += u64::from(key.number > 0)));
    assert_eq!((result, loaded), (Ok(()), MANY));
    let write = slice(1, 100_000);
    timed("100,000 settled requests in one commit", || store.write(write))
        .map_or_else(|fault| println!("{fault}"), |_| ());
    timed("25,000 quotas spent in one commit", || store.write(spend()))
        .map_or_else(|fault| println!("{fault}"), |_| ());
    timed("the books of 125,000 records", || store.books()).map_or_else(|fault| println!("{fault}"), |_| ());
    let query = |group_by| UsageQuery { from_ms: 0, to_ms: i64::MAX, group_by, key: None, team_id: None, org_id: None };
    c.bench_function("usage by key", |b| b.iter(|| black_box(store.usage(&query(GroupBy::Key)))));
    let copied = timed("a copy", || store.back_up(&folder.path().join("copy.db")));
    assert_eq!(copied, Ok(()));
    pages(c, &store);
    changes(c, &store);
}

criterion_group!(benches, bench);
criterion_main!(benches);
