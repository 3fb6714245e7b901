//! The key table: a lookup at 10, 1,000 and 1,000,000 keys, one change at 1,000,000, and what a million keys weigh.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use keyward::keys::{Digester, KeyChange, KeyRecord, KeyTable, Pepper, PreviousSecret, Source};
use keyward::policy::{KeyPolicy, QuotaReset, QuotaRule};
use keyward::units::{KeyDigest, KeyId, Parallel, Rpm, Tpm};
use uuid::Uuid;

/// The program's own allocator, so that the weight is the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MANY: u32 = 1_000_000;

struct Fill {
    digester: Digester,
}

impl Fill {
    fn new() -> Self {
        let pepper = Pepper::new(*b"a pepper for the bench").unwrap_or_else(|_| Pepper::generate());
        Self { digester: Digester::new(&pepper) }
    }

    fn digest(&self, n: u32) -> KeyDigest {
        self.digester.digest(format!("sk-kw-{n:049}").as_bytes())
    }

    fn record(&self, n: u32) -> KeyRecord {
        let id = KeyId(Uuid::from_u128(u128::from(n) << 64 | 0x7000_8000_0000_0000));
        let policy = KeyPolicy {
            rpm: Rpm::new(600),
            tpm: Tpm::new(100_000),
            max_parallel: Parallel::new(50),
            quota: Some(QuotaRule { limit: 1_000_000, reset: QuotaReset::Monthly }),
            ..KeyPolicy::unlimited(id, &format!("customer-{n:07}"), "sk-kw-3FqZbM")
        };
        KeyRecord { policy, current: self.digest(n), previous: Vec::new(), source: Source::Api }
    }

    fn table(&self, keys: u32) -> KeyTable {
        let table = KeyTable::new();
        for n in 0..keys {
            if let Err(refused) = table.apply(KeyChange::Put(Box::new(self.record(n)))) {
                eprintln!("{refused}");
            }
        }
        table
    }
}

/// Resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn find(criterion: &mut Criterion) {
    let fill = Fill::new();
    let mut group = criterion.benchmark_group("key_table/find");
    for keys in [10, 1_000, MANY] {
        let before = resident();
        let table = fill.table(keys);
        if keys == MANY {
            report_weight(&table, before);
        }
        // Asked for in an order that no cache can guess.
        let wanted: Vec<KeyDigest> =
            (0..65_536_u64).map(|n| fill.digest((n * 2_654_435_761 % u64::from(keys)) as u32)).collect();
        let mut next = 0;
        group.bench_function(BenchmarkId::new("any", keys), |bencher| {
            bencher.iter(|| {
                next = (next + 1) % wanted.len();
                black_box(table.find(&wanted[next]))
            });
        });
        group.bench_function(BenchmarkId::new("of_ten_hot", keys), |bencher| {
            bencher.iter(|| {
                next = (next + 1) % 10;
                black_box(table.find(&wanted[next]))
            });
        });
        let stranger = fill.digest(u32::MAX);
        group.bench_function(BenchmarkId::new("unknown", keys), |bencher| {
            bencher.iter(|| black_box(table.find(&stranger)));
        });
        if keys == MANY {
            group.finish();
            change(criterion, &fill, &table);
            return;
        }
    }
}

/// Prints what the keys weigh asleep, and again when each has been used once.
fn report_weight(table: &KeyTable, before: u64) {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let asleep = resident().saturating_sub(before);
    println!("key_table/weight: {} keys asleep: {:.0} MB", table.len(), mb(asleep));
    for entry in table.entries() {
        black_box((entry.policy(), entry.limits()));
    }
    println!("key_table/weight: {} keys used: {:.0} MB", table.len(), mb(resident().saturating_sub(before)));
}

fn change(criterion: &mut Criterion, fill: &Fill, table: &KeyTable) {
    let mut group = criterion.benchmark_group("key_table/change_at_a_million");
    let mut n = 0;
    group.bench_function("policy", |bencher| {
        bencher.iter(|| {
            n = (n + 7_919) % MANY;
            let mut record = fill.record(n);
            record.policy.is_disabled = n % 2 == 0;
            table.apply(KeyChange::Put(Box::new(record)))
        });
    });
    let mut secret = MANY;
    group.bench_function("rotation", |bencher| {
        bencher.iter(|| {
            secret += 1;
            let previous = PreviousSecret { digest: fill.digest(secret - 1), until_unix_ms: 1 };
            let record = KeyRecord { current: fill.digest(secret), previous: vec![previous], ..fill.record(5) };
            table.apply(KeyChange::Put(Box::new(record)))
        });
    });
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);
