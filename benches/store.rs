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

fn key(n: u64, version: u64) -> StoredKey {
    let created_at_ms = 1_700_000_000_000 + i64::try_from(n * 7_919 % MANY).unwrap_or(0) * 1_000;
    let policy = KeyPolicy {
        org_id: Some(format!("org-{}", n % 1_000).into()),
        team_id: Some(format!("team-{}", n % 20_000).into()),
        rpm: Rpm::new(600),
        tpm: Tpm::new(100_000),
        max_parallel: Parallel::new(50),
        quota: Some(QuotaRule { limit: 1_000_000, reset: QuotaReset::Monthly }),
        models: ModelRules::new(["gpt-4o*", "claude-*"].into_iter().filter_map(Glob::new).collect()),
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
    group.sample_size(20);
    let all = KeyFilter::default();
    let org = KeyFilter { org_id: Some("org-7".into()), ..KeyFilter::default() };
    let name = KeyFilter { name_contains: Some("er-09999".into()), ..KeyFilter::default() };
    let model = KeyFilter { model: Some("gpt-4o-mini".into()), ..KeyFilter::default() };
    let at_ms = 1_700_000_000_000;
    let active = StatusFilter { status: KeyStatus::Active, at_ms };
    let active = KeyFilter { status: Some(active), ..KeyFilter::default() };
    let cursor = PageFrom::After { created_at_ms: at_ms + 500_000_000, number: 500_000 };
    for (what, filter, order, from) in [
        ("newest first", &all, Order::NewestFirst, PageFrom::Offset(0)),
        ("by number", &all, Order::NumberDescending, PageFrom::Offset(0)),
        ("from a cursor", &all, Order::NewestFirst, cursor),
        ("after 500,000", &all, Order::NewestFirst, PageFrom::Offset(500_000)),
        ("of an organisation", &org, Order::NewestFirst, PageFrom::Offset(0)),
        ("of an organisation by number", &org, Order::NumberDescending, PageFrom::Offset(0)),
        ("by part of the name", &name, Order::NewestFirst, PageFrom::Offset(0)),
        ("by model", &model, Order::NewestFirst, PageFrom::Offset(0)),
        ("active ones", &active, Order::NewestFirst, PageFrom::Offset(0)),
    ] {
        group.bench_function(what, |b| b.iter(|| black_box(store.keys(filter, order, from, 100))));
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
    timed("the books of 100,000 records", || store.books()).map_or_else(|fault| println!("{fault}"), |_| ());
    let query = |group_by| UsageQuery { from_ms: 0, to_ms: i64::MAX, group_by, key: None, team_id: None, org_id: None };
    c.bench_function("usage by key", |b| b.iter(|| black_box(store.usage(&query(GroupBy::Key)))));
    let copied = timed("a copy", || store.back_up(&folder.path().join("copy.db")));
    assert_eq!(copied, Ok(()));
    pages(c, &store);
    changes(c, &store);
}

criterion_group!(benches, bench);
criterion_main!(benches);
