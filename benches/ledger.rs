//! What writing a settled request down costs its worker, and how fast journals are taken up and drained.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use keyward::clock::Clock;
use keyward::ledger::{Counted, Entry, Hold, Journal, Ledger, Opening, Outcome, Settings};
use keyward::limits::QuotaCount;
use keyward::policy::{DialectName, Endpoint, Usage};
use keyward::store::Store;
use keyward::store::embedded::Embedded;
use keyward::telemetry::Metrics;
use keyward::units::KeyId;
use uuid::Uuid;

const LEFT: u64 = 100_000;

fn entry(turn: u64) -> Entry<&'static str> {
    Entry {
        request_id: "req_0123456789abcdef0123456789abcdef",
        at_unix_ms: 1_767_225_600_000 + i64::try_from(turn).unwrap_or(0),
        key: KeyId(Uuid::from_u128(u128::from(turn % 1_000))),
        previous_secret: None,
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        model: "gpt-4o-mini",
        outcome: Outcome::Answered,
        reason: "",
        status: 200,
        usage: Usage { input: 300, output: 100, ..Usage::default() },
        units: 400,
        since_day: QuotaCount::NEVER,
        touched_day: 20_454,
        first_byte_us: 1_500 + turn % 700,
        duration_us: 2_500 + turn % 900,
        requests: 1,
    }
}

struct Place {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Embedded::open(&folder.path().join("keyward.db")).expect("a store"));
        Self { folder, store }
    }

    /// A ledger that drains when it is told to.
    fn ledger(&self) -> (Ledger, usize) {
        let settings = Settings { window: Duration::from_secs(7_200), journal_size: 64 << 20, ..Settings::default() };
        let left = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&left);
        let (store, metrics) = (Arc::clone(&self.store), Metrics::new().ledger);
        let folder = self.folder.path().join("journals");
        let counted = Counted::by(move |_| {
            told.fetch_add(1, Ordering::Relaxed);
        });
        let clock = Clock::system();
        let hold = Hold::take(&folder).expect("a folder");
        let ledger = Ledger::open(Opening { hold, settings, store, clock, metrics, counted, is_paused: false });
        (ledger.expect("a ledger"), left.load(Ordering::Relaxed))
    }
}

fn fill(journal: &Journal) {
    (0..LEFT).for_each(|turn| journal.append(&entry(turn)));
}

fn append(c: &mut Criterion) {
    let place = Place::new();
    let (ledger, _) = place.ledger();
    let journal = ledger.journal().expect("a journal");
    c.bench_function("ledger/append", |b| {
        b.iter_custom(|turns| {
            let clock = Clock::system();
            let (mut spent, mut done) = (0, 0);
            while done < turns {
                let some = (turns - done).min(50_000);
                let began = clock.monotonic_ns();
                (0..some).for_each(|turn| journal.append(black_box(&entry(turn))));
                spent += clock.monotonic_ns() - began;
                done += some;
                ledger.flush().expect("drained");
            }
            Duration::from_nanos(spent)
        });
    });
}

fn drain(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.sample_size(10);
    group.bench_function("drain 100,000 records", |b| {
        let prepare = || {
            let place = Place::new();
            let (ledger, _) = place.ledger();
            fill(&ledger.journal().expect("a journal"));
            (place, ledger)
        };
        b.iter_batched(
            prepare,
            |(place, ledger)| {
                ledger.flush().expect("drained");
                (place, ledger)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("take up 100,000 records of a killed process", |b| {
        let prepare = || {
            let place = Place::new();
            let (ledger, _) = place.ledger();
            fill(&ledger.journal().expect("a journal"));
            drop(ledger);
            place
        };
        let take_up = |place: Place| {
            let (ledger, left) = place.ledger();
            assert_eq!(left as u64, LEFT);
            (place, ledger)
        };
        b.iter_batched(prepare, take_up, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, append, drain);
criterion_main!(benches);
