//! What is counted of every request: by each worker for itself, and summed when somebody asks.

use std::cell::Cell;
use std::iter::successors;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

use crate::policy::{DialectName, Usage};
use crate::telemetry::metrics::{AnsweredLabel, Kind};
use crate::units::{Tokens, Units};

/// The labels of status classes.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// In the order of their counts.
const KINDS: [&str; 3] = ["input", "cached_input", "output"];

/// The upper bounds of the buckets, seconds.
const BOUNDS: [f64; 13] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Which of [`CLASSES`].
pub(super) fn class_index(status: u16) -> usize {
    usize::from((status / 100).clamp(1, 5) - 1)
}

/// A number that one thread writes and any reads: adding to it takes no more than that of a number of one's own.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn add(&self, more: u64) {
        // Nobody else writes between the two.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What one worker has counted. On lines of its own, so that no other waits for it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Numbers {
    in_flight: Number,
    /// By dialect, then by status class.
    answers: [[Number; CLASSES.len()]; DialectName::ALL.len()],
    /// Answers that were charged.
    charged: Number,
    tokens: [Number; KINDS.len()],
    units: Number,
    estimated: Number,
    /// By bucket; the last has no bound.
    first_bytes: [Number; BOUNDS.len() + 1],
    first_byte_ns: Number,
    next: OnceLock<Arc<Numbers>>,
}

/// Where one worker counts. There is one of each, and no two threads may use it at a time.
#[derive(Debug)]
pub struct Counts {
    numbers: Arc<Numbers>,
    of_one_thread: PhantomData<Cell<()>>,
}

impl Counts {
    /// Counts a request that has begun.
    pub fn began(&self) {
        self.numbers.in_flight.add(1);
    }

    /// It has ended.
    pub fn ended(&self) {
        self.numbers.in_flight.add(u64::MAX);
    }

    /// Those under way.
    pub fn in_flight(&self) -> u64 {
        self.numbers.in_flight.get()
    }

    /// Counts an answer.
    pub fn answer(&self, dialect: DialectName, status: u16) {
        let row = self.numbers.answers.get(dialect as usize);
        if let Some(number) = row.and_then(|row| row.get(class_index(status))) {
            number.add(1);
        }
    }

    /// Counts what was charged.
    pub fn usage(&self, usage: &Usage, units: Units) {
        for (number, tokens) in self.numbers.tokens.iter().zip([usage.input, usage.cached_input, usage.output]) {
            number.add(tokens);
        }
        self.numbers.units.add(units);
        self.numbers.estimated.add(u64::from(usage.estimated));
        self.numbers.charged.add(1);
    }

    /// Counts the first byte of an answer, that long after the request's head.
    pub fn first_byte(&self, ns: u64) {
        let seconds = ns as f64 / 1e9;
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(number) = self.numbers.first_bytes.get(bucket) {
            number.add(1);
        }
        self.numbers.first_byte_ns.add(ns);
    }
}

/// What all workers have counted together; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals(Arc<OnceLock<Arc<Numbers>>>);

impl Totals {
    /// For one more worker.
    pub(super) fn counts(&self) -> Counts {
        let numbers = Arc::new(Numbers::default());
        let (mut end, mut own) = (&*self.0, Arc::clone(&numbers));
        while let Err(taken) = end.set(own) {
            own = taken;
            let Some(other) = end.get() else { break };
            end = &other.next;
        }
        Counts { numbers, of_one_thread: PhantomData }
    }

    fn sum(&self, number: impl Fn(&Numbers) -> u64) -> u64 {
        let all = successors(self.0.get(), |numbers| numbers.next.get());
        all.map(|numbers| number(numbers)).fold(0, u64::wrapping_add)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.sum(|numbers| numbers.in_flight.get())
    }

    pub(super) fn units(&self) -> Units {
        self.sum(|numbers| numbers.units.get())
    }

    pub(super) fn estimated(&self) -> u64 {
        self.sum(|numbers| numbers.estimated.get())
    }

    /// By kind; none before any answer was charged.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (Kind, Tokens)> {
        let is_any = self.sum(|numbers| numbers.charged.get()) > 0;
        let of = |at: usize| self.sum(|numbers| numbers.tokens.get(at).map_or(0, Number::get));
        KINDS.into_iter().enumerate().filter(move |_| is_any).map(move |(at, kind)| (Kind { kind }, of(at)))
    }

    /// Those that there were.
    fn answers(&self) -> impl Iterator<Item = (AnsweredLabel, u64)> {
        let all =
            DialectName::ALL.into_iter().flat_map(|dialect| CLASSES.into_iter().map(move |status| (dialect, status)));
        all.enumerate().filter_map(|(at, (dialect, status))| {
            let (row, class) = (at / CLASSES.len(), at % CLASSES.len());
            let of = |numbers: &Numbers| numbers.answers.get(row).and_then(|row| row.get(class)).map_or(0, Number::get);
            let sum = self.sum(of);
            (sum > 0).then_some((AnsweredLabel { dialect: dialect.as_str(), status }, sum))
        })
    }
}

/// One of the [`Totals`] as it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    totals: Totals,
    what: What,
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    InFlight,
    Answers,
    Tokens,
    Units,
    Estimated,
    FirstByte,
}

impl Shown {
    pub(super) fn of(totals: &Totals, what: What) -> Self {
        Self { totals: totals.clone(), what }
    }
}

impl EncodeMetric for Shown {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let totals = &self.totals;
        match self.what {
            What::InFlight => encoder.encode_gauge(&totals.in_flight()),
            What::Answers => labelled(&mut encoder, totals.answers()),
            What::Tokens => labelled(&mut encoder, totals.tokens()),
            What::Units => count(&mut encoder, totals.units()),
            What::Estimated => count(&mut encoder, totals.estimated()),
            What::FirstByte => {
                let of = |at: usize| totals.sum(|numbers| numbers.first_bytes.get(at).map_or(0, Number::get));
                let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
                let buckets: Vec<_> = bounds.enumerate().map(|(at, bound)| (bound, of(at))).collect();
                let sum = totals.sum(|numbers| numbers.first_byte_ns.get()) as f64 / 1e9;
                let all = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<Kind>(sum, all, &buckets, None)
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self.what {
            What::InFlight => MetricType::Gauge,
            What::FirstByte => MetricType::Histogram,
            What::Answers | What::Tokens | What::Units | What::Estimated => MetricType::Counter,
        }
    }

    fn is_empty(&self) -> bool {
        match self.what {
            What::Answers => self.totals.answers().next().is_none(),
            What::Tokens => self.totals.tokens().next().is_none(),
            What::InFlight | What::Units | What::Estimated | What::FirstByte => false,
        }
    }
}

fn count(encoder: &mut MetricEncoder<'_>, sum: u64) -> Result<(), std::fmt::Error> {
    encoder.encode_counter::<Kind, _, u64>(&sum, None)
}

fn labelled<L: EncodeLabelSet>(
    encoder: &mut MetricEncoder<'_>,
    sums: impl Iterator<Item = (L, u64)>,
) -> Result<(), std::fmt::Error> {
    for (label, sum) in sums {
        count(&mut encoder.encode_family(&label)?, sum)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn what_workers_count_at_once_is_summed_exactly() {
        let metrics = Metrics::new();
        let usage = Usage { input: 3, cached_input: 1, output: 2, ..Usage::default() };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let counts = metrics.counts();
                scope.spawn(move || {
                    counts.began();
                    for round in 0..10_000 {
                        counts.began();
                        counts.answer(DialectName::Gemini, 200);
                        counts.usage(&Usage { estimated: round % 2 == 0, ..usage }, 7);
                        counts.first_byte(1_000_000);
                        counts.ended();
                    }
                });
            }
        });
        let text = metrics.render();
        for line in [
            "keyward_requests_total{dialect=\"gemini\",status=\"2xx\"} 40000",
            "keyward_tokens_total{kind=\"input\"} 120000",
            "keyward_tokens_total{kind=\"cached_input\"} 40000",
            "keyward_tokens_total{kind=\"output\"} 80000",
            "keyward_quota_units_total 280000",
            "keyward_usage_estimated_total 20000",
            "keyward_requests_in_flight 4",
            "keyward_first_byte_seconds_sum 40.0",
            "keyward_first_byte_seconds_count 40000",
            "keyward_first_byte_seconds_bucket{le=\"0.001\"} 40000",
            "keyward_first_byte_seconds_bucket{le=\"60.0\"} 40000",
            "keyward_first_byte_seconds_bucket{le=\"+Inf\"} 40000",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        assert_eq!((metrics.units(), metrics.estimated(), metrics.in_flight()), (280_000, 20_000, 4));
    }

    #[test]
    fn nothing_with_labels_shows_before_it_counts() {
        let metrics = Metrics::new();
        let counts = metrics.counts();
        let text = metrics.render();
        assert!(!text.contains("keyward_requests_total") && !text.contains("keyward_tokens"), "{text}");
        counts.usage(&Usage::default(), 0);
        assert!(metrics.render().contains("keyward_tokens_total{kind=\"cached_input\"} 0\n"));
    }

    #[test]
    fn dialects_stand_in_their_order() {
        assert!(DialectName::ALL.into_iter().enumerate().all(|(at, dialect)| dialect as usize == at));
    }
}
