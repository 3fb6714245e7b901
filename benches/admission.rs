//! The decision: from a secret to a settled request, every policy on, without the scan of the body.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use keyward::admission::{admit, identify};
use keyward::clock::Clock;
use keyward::keys::{Digester, KeyChange, KeyRecord, KeyTable, Pepper, Source};
use keyward::limits::LimitSettings;
use keyward::policy::{
    AddressRules, DialectName, Endpoint, EndpointRules, Estimate, Glob, KeyPolicy, ModelRules, Price, QuotaReset,
    QuotaRule, RequestFacts, Usage, authorize,
};
use keyward::units::{KeyId, ModelName, Parallel, Rpm, Tpm};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u32 = 10_000;

struct House {
    table: KeyTable,
    digester: Digester,
    clock: Clock,
    settings: LimitSettings,
    facts: RequestFacts,
}

/// Every policy on, and none of them ever in the way.
fn policy(n: u32, is_limited: bool) -> KeyPolicy {
    let id = KeyId(Uuid::from_u128(u128::from(n)));
    let plain = KeyPolicy::unlimited(id, "customer", "sk-kw-3FqZbM");
    if !is_limited {
        return plain;
    }
    KeyPolicy {
        models: ModelRules::new(["gpt-4o*", "o3"].iter().filter_map(|glob| Glob::new(glob)).collect()),
        endpoints: EndpointRules::compile(&["chat", "embeddings"]).unwrap_or(EndpointRules::ALL),
        rpm: Rpm::new(Rpm::MAX),
        tpm: Tpm::new(Tpm::MAX),
        max_parallel: Parallel::new(1_000),
        quota: Some(QuotaRule { limit: u64::MAX / 2, reset: QuotaReset::Monthly }),
        allowed_ips: AddressRules::compile(&["10.0.0.0/8", "192.168.0.0/16", "::1"]).unwrap_or_default(),
        expires_at_ms: Some(i64::MAX),
        ..plain
    }
}

fn secret(n: u32) -> String {
    format!("sk-kw-{n:049}")
}

impl House {
    fn new(is_limited: bool) -> Self {
        let (table, digester) = (KeyTable::new(), Digester::new(&Pepper::generate()));
        for n in 0..KEYS {
            let current = digester.digest(secret(n).as_bytes());
            let record =
                KeyRecord { policy: policy(n, is_limited), current, previous: Vec::new(), source: Source::Api };
            if let Err(refused) = table.apply(KeyChange::Put(Box::new(record))) {
                eprintln!("{refused}");
            }
        }
        let facts = RequestFacts {
            dialect: DialectName::OpenAi,
            endpoint: Endpoint::ChatCompletions,
            model: ModelName::new("gpt-4o-mini"),
            other_models: Vec::new(),
            model_free: false,
            stream: false,
            estimate: Estimate { prompt: 300, output: 512, choices: 1, output_is_stated: true, least_output: 1 },
        };
        Self { table, digester, clock: Clock::system(), settings: LimitSettings::default(), facts }
    }

    /// One whole request but for its body and its answer. Whether it was admitted.
    fn request(&self, secret: &str) -> bool {
        let now = self.clock.now();
        let digest = self.digester.digest(secret.as_bytes());
        let address = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
        let Ok(caller) = identify(&self.table, Some(digest), address, now) else { return false };
        let Ok(charge) = authorize(caller.policy(), &self.facts, Price::TOKEN) else { return false };
        let Ok(mut admitted) = admit(caller, self.facts.clone(), charge, &self.settings, &self.clock, now) else {
            return false;
        };
        admitted.reservation().forwarded();
        black_box(admitted.standing(now));
        let settled = admitted.settle(Usage { input: 280, output: 100, ..Usage::default() }, self.clock.now());
        black_box(settled.units) > 0
    }
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admission");
    let digester = Digester::new(&Pepper::generate());
    let hot = secret(7);
    group.bench_function("digest", |bencher| bencher.iter(|| digester.digest(black_box(hot.as_bytes()))));
    for (name, is_limited) in [("every_policy", true), ("no_policy", false)] {
        let house = House::new(is_limited);
        group.bench_function(format!("{name}/one_key"), |bencher| bencher.iter(|| house.request(&hot)));
        let secrets: Vec<String> = (0..KEYS).map(secret).collect();
        let mut next = 0;
        group.bench_function(format!("{name}/many_keys"), |bencher| {
            bencher.iter(|| {
                next = (next + 7_919) % secrets.len();
                house.request(&secrets[next])
            });
        });
    }
    let house = House::new(true);
    let stranger = secret(u32::MAX);
    group.bench_function("unknown_key", |bencher| bencher.iter(|| house.request(&stranger)));
    group.finish();
}

/// Two threads at once, of which the time of one request each is measured: on one key, whose state they pass to and fro, and
/// on keys of their own.
fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admission/two_threads");
    let house = House::new(true);
    for (name, second) in [("one_key", 7), ("a_key_each", 8)] {
        let secrets = [secret(7), secret(second)];
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| together(&house, &secrets, rounds));
        });
    }
    group.finish();
}

fn together(house: &House, secrets: &[String; 2], rounds: u64) -> Duration {
    let start = Barrier::new(secrets.len());
    let slowest = std::thread::scope(|scope| {
        let threads = secrets.each_ref().map(|secret| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let from = house.clock.now().monotonic_ns;
                for _ in 0..rounds {
                    black_box(house.request(secret));
                }
                house.clock.now().monotonic_ns - from
            })
        });
        threads.into_iter().filter_map(|thread| thread.join().ok()).max()
    });
    Duration::from_nanos(slowest.unwrap_or(0))
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
