//! The promises of a reservation: all limits or none, nothing leaked, nothing lost, whatever becomes of the request.

mod threads;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::clock::{NS_PER_MINUTE, NS_PER_SECOND};
use crate::policy::{Estimate, Price, QuotaRule};
use crate::units::{KeyId, Parallel, Rpm, Tpm};

const START: Now = Now { monotonic_ns: NS_PER_MINUTE, unix_ms: 1_717_416_000_000 };

fn policy() -> KeyPolicy {
    KeyPolicy::unlimited(KeyId(Uuid::nil()), "k", "sk-kw-abc")
}

fn charge(prompt: u64, output: u64) -> Charge {
    Charge {
        estimate: Estimate { prompt, output, choices: 1, output_is_stated: true, least_output: 1 },
        price: Price::TOKEN,
        bills_quota: true,
        can_clamp: true,
        least_output: 1,
    }
}

fn quota(limit: u64) -> Option<QuotaRule> {
    Some(QuotaRule { limit, reset: QuotaReset::None })
}

/// One key, a clock and the settings: what every test starts from.
struct Key {
    state: Arc<KeyLimits>,
    policy: Arc<KeyPolicy>,
    settings: LimitSettings,
    clock: Clock,
}

impl Key {
    fn new(policy: KeyPolicy) -> Self {
        Self {
            state: Arc::new(KeyLimits::new()),
            policy: Arc::new(policy),
            settings: LimitSettings::default(),
            clock: Clock::manual(START),
        }
    }

    fn reserve(&self, charge: Charge) -> Result<Box<Reservation>, Refusal> {
        reserve(Arc::clone(&self.state), &self.policy, charge, &self.settings, &self.clock, self.clock.now())
    }

    fn standing(&self) -> Standing {
        self.state.standing(&self.policy, self.clock.now())
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

#[test]
fn whatever_limit_refuses_leaves_the_others_as_they_were() {
    let tight = [
        KeyPolicy { rpm: Rpm::new(1), ..roomy() },
        KeyPolicy { tpm: Tpm::new(20), ..roomy() },
        KeyPolicy { max_parallel: Parallel::new(1), ..roomy() },
        KeyPolicy { quota: quota(15), ..roomy() },
    ];
    for policy in tight {
        let key = Key::new(policy);
        let first = key.reserve(charge(10, 5)).unwrap();
        let before = key.standing();
        let refused = key.reserve(charge(11, 4)).unwrap_err();
        assert_eq!(key.standing(), before, "{refused:?}");
        let settled = first.settle(usage(10, 5), key.now());
        assert_eq!((settled.units, settled.tokens), (15, 15));
    }
}

fn roomy() -> KeyPolicy {
    KeyPolicy {
        rpm: Rpm::new(100),
        tpm: Tpm::new(10_000),
        max_parallel: Parallel::new(100),
        quota: quota(10_000),
        ..policy()
    }
}

#[test]
fn the_order_of_refusals_is_quota_parallel_tokens_requests() {
    let none_left =
        KeyPolicy { rpm: Rpm::new(1), tpm: Tpm::new(15), max_parallel: Parallel::new(1), quota: quota(15), ..policy() };
    let mut key = Key::new(none_left.clone());
    let held = key.reserve(charge(10, 5)).unwrap();
    let refusal = |key: &Key| key.reserve(charge(10, 5)).unwrap_err();
    assert!(matches!(refusal(&key), Refusal::QuotaSpent { .. }));
    key.policy = Arc::new(KeyPolicy { quota: None, ..none_left.clone() });
    assert!(matches!(refusal(&key), Refusal::TooManyParallel { limit: 1 }));
    key.policy = Arc::new(KeyPolicy { quota: None, max_parallel: None, ..none_left.clone() });
    assert!(matches!(refusal(&key), Refusal::TokensExceeded { limit: 15, remaining: 0, asked: 15, .. }));
    key.policy = Arc::new(KeyPolicy { quota: None, max_parallel: None, tpm: None, ..none_left });
    assert_eq!(refusal(&key), Refusal::RequestsExceeded { limit: 1, retry_after_ns: NS_PER_MINUTE });
    held.void(key.now());
}

#[test]
fn a_voided_request_costs_nothing_but_its_place_in_the_minute() {
    let key = Key::new(roomy());
    let mut held = key.reserve(charge(100, 200)).unwrap();
    held.forwarded();
    held.void(key.now());
    let after = key.standing();
    assert_eq!(after.requests.unwrap().remaining, 99);
    assert_eq!(after.tokens.unwrap().remaining, 10_000);
    assert_eq!((after.quota.unwrap().used, after.quota.unwrap().reserved), (0, 0));
    assert_eq!(after.parallel.unwrap().in_use, 0);
}

#[test]
fn a_drop_is_void_before_the_request_is_forwarded_and_a_charge_after() {
    let key = Key::new(roomy());
    drop(key.reserve(charge(100, 200)).unwrap());
    assert_eq!(key.state.quota_used(), 0);

    let mut sent = key.reserve(charge(100, 200)).unwrap();
    sent.forwarded();
    assert_eq!(sent.seen(), Some(Usage { input: 100, estimated: true, ..Usage::default() }));
    drop(sent);
    assert_eq!(key.state.quota_used(), 100, "the prompt went to a backend");

    let mut cut = key.reserve(charge(100, 200)).unwrap();
    cut.observe(Usage { output: 7, estimated: true, ..Usage::default() });
    drop(cut);
    assert_eq!(key.state.quota_used(), 207);

    let mut reported = key.reserve(charge(100, 200)).unwrap();
    reported.observe(usage(60, 3));
    drop(reported);
    assert_eq!(key.state.quota_used(), 270, "a backend's own count is not raised to our estimate");
    assert_eq!(key.standing().parallel.unwrap().in_use, 0);
    assert_eq!(key.state.quota_committed(), 270);
}

#[test]
fn a_clamped_request_reserves_what_is_left_and_says_what_it_covers() {
    let mut key = Key::new(KeyPolicy { tpm: Tpm::new(10_000), quota: quota(100), ..policy() });
    let held = key.reserve(charge(40, 500)).unwrap();
    assert_eq!(held.clamp(), Some(60));
    assert_eq!(key.standing().tokens.unwrap().remaining, 9_900, "only the clamped output is reserved");
    assert_eq!(key.standing().quota.unwrap().remaining(), 0);
    held.void(key.now());

    let fixed = Charge { can_clamp: false, ..charge(40, 500) };
    assert!(matches!(key.reserve(fixed), Err(Refusal::QuotaSpent { limit: 100, used: 0, asked: 540, .. })));
    key.settings.on_low_quota = OnLowQuota::Refuse;
    assert!(matches!(key.reserve(charge(40, 500)), Err(Refusal::QuotaSpent { .. })));
}

#[test]
fn absurd_usage_is_clamped_and_marked_and_wraps_nothing() {
    let key = Key::new(roomy());
    let all = Usage {
        input: u64::MAX,
        cached_input: u64::MAX,
        cache_write: u64::MAX,
        output: u64::MAX,
        reasoning: u64::MAX,
        audio_ms: u64::MAX,
        estimated: false,
    };
    let settled = key.reserve(charge(10, 10)).unwrap().settle(all, key.now());
    assert!(settled.usage.estimated);
    assert_eq!((settled.tokens, settled.units), (2 * MOST_TOKENS, 2 * MOST_TOKENS));
    assert!(key.reserve(charge(1, 1)).is_err());
    let wild = Charge {
        estimate: Estimate { prompt: u64::MAX, output: u64::MAX, choices: u64::MAX, ..charge(0, 0).estimate },
        ..charge(0, 0)
    };
    assert!(key.reserve(wild).is_err());
    let free = Key::new(policy());
    let settled = free.reserve(wild).unwrap().settle(all, free.now());
    assert_eq!(settled.units, 2 * MOST_TOKENS);
    assert_eq!(free.state.quota_committed(), free.state.quota_used());
}

#[test]
fn a_sandbox_key_meets_every_limit_and_bills_no_quota() {
    let key = Key::new(roomy());
    let sandbox = Charge { bills_quota: false, ..charge(100, 200) };
    let settled = key.reserve(sandbox).unwrap().settle(usage(100, 150), key.now());
    assert_eq!((settled.units, settled.tokens), (0, 250));
    assert_eq!(key.standing().tokens.unwrap().remaining, 9_750);
    assert_eq!(key.standing().quota.unwrap().used, 0);
}

#[test]
fn a_free_call_takes_no_tokens_even_in_debt_and_whatever_is_reported_for_it() {
    let key = Key::new(KeyPolicy { tpm: Tpm::new(10), ..policy() });
    let deep = key.reserve(charge(5, 5)).unwrap().settle(usage(500, 0), key.now());
    assert_eq!(deep.tokens, 500);
    let before = key.standing();
    let free = Charge { bills_quota: false, ..charge(0, 0) };
    let settled = key.reserve(free).unwrap().settle(usage(900, 0), key.now());
    assert_eq!((settled.tokens, settled.units), (0, 0));
    assert_eq!(key.standing(), before);
}

#[test]
fn a_billed_call_estimated_at_nothing_owes_what_it_turns_out_to_use() {
    let key = Key::new(roomy());
    let settled = key.reserve(charge(0, 0)).unwrap().settle(usage(40, 2), key.now());
    assert_eq!((settled.tokens, settled.units), (42, 42));
    assert_eq!(key.standing().tokens.unwrap().remaining, 9_958);
}

/// How a request of the property ends.
#[derive(Debug, Clone)]
enum End {
    Answered(u64, u64),
    Voided,
    /// Dropped while the answer was coming, with this much seen.
    Cut(u64, u64),
    /// Dropped before it was forwarded.
    Dropped,
    /// Dropped after it was forwarded, before anything was seen.
    TimedOut,
    /// A panic with this much seen.
    Panicked(u64, u64),
}

#[derive(Debug, Clone)]
enum Step {
    Ask {
        prompt: u64,
        output: u64,
        bills: bool,
        clamps: bool,
    },
    Finish(prop::sample::Index, End),
    Wait(u64),
    /// The limits are changed: rpm, tpm, parallel, quota; 0 for none.
    Change(u32, u64, u32, u64),
}

fn end() -> impl Strategy<Value = End> {
    let amount = || prop_oneof![9 => 0_u64..3_000, 1 => any::<u64>()];
    prop_oneof![
        4 => (amount(), amount()).prop_map(|(i, o)| End::Answered(i, o)),
        1 => Just(End::Voided),
        1 => (amount(), amount()).prop_map(|(i, o)| End::Cut(i, o)),
        1 => Just(End::Dropped),
        1 => Just(End::TimedOut),
        1 => (0_u64..3_000, 0_u64..3_000).prop_map(|(i, o)| End::Panicked(i, o)),
    ]
}

fn limits() -> impl Strategy<Value = (u32, u64, u32, u64)> {
    (
        prop_oneof![Just(0_u32), 1_u32..30],
        prop_oneof![Just(0_u64), 1_u64..20_000],
        prop_oneof![Just(0_u32), 1_u32..6],
        prop_oneof![Just(0_u64), 1_u64..60_000],
    )
}

fn steps(changes: bool) -> impl Strategy<Value = Vec<Step>> {
    let ask = (0_u64..2_000, 0_u64..2_000, any::<bool>(), any::<bool>())
        .prop_map(|(prompt, output, bills, clamps)| Step::Ask { prompt, output, bills, clamps });
    let weight = u32::from(changes);
    prop::collection::vec(
        prop_oneof![
            6 => ask,
            5 => (any::<prop::sample::Index>(), end()).prop_map(|(which, end)| Step::Finish(which, end)),
            2 => (0_u64..20_000_000_000).prop_map(Step::Wait),
            weight => limits().prop_map(|(a, b, c, d)| Step::Change(a, b, c, d)),
        ],
        1..120,
    )
}

fn limited((rpm, tpm, parallel, units): (u32, u64, u32, u64)) -> KeyPolicy {
    KeyPolicy {
        rpm: Rpm::new(rpm),
        tpm: Tpm::new(tpm),
        max_parallel: Parallel::new(parallel),
        quota: (units > 0).then_some(QuotaRule { limit: units, reset: QuotaReset::None }),
        ..policy()
    }
}

/// Every limit there could be, to look at all of the state.
fn everything() -> KeyPolicy {
    limited((1_000_000, 1_000_000_000, 1_000_000, u64::MAX))
}

/// What a sequence came to.
#[derive(Default)]
struct Tally {
    units: u64,
    /// What estimates were short of the truth, in units.
    short: u64,
    largest_limit: u64,
}

impl Tally {
    fn count(&mut self, held: u64, settled: u64) {
        self.units += settled;
        self.short = self.short.saturating_add(settled.saturating_sub(held));
    }
}

fn finish(key: &Key, mut held: Box<Reservation>, end: &End, tally: &mut Tally) {
    let (reserved, before) = (held.held.as_ref().unwrap().units(), key.state.quota_used());
    match *end {
        End::Answered(input, output) => {
            let settled = held.settle(usage(input, output), key.now());
            assert_eq!(settled.units, key.state.quota_used() - before);
        }
        End::Voided => held.void(key.now()),
        End::Cut(input, output) => {
            held.observe(usage(input, output));
            drop(held);
        }
        End::Dropped => drop(held),
        End::TimedOut => {
            held.forwarded();
            drop(held);
        }
        End::Panicked(input, output) => {
            let fell = catch_unwind(AssertUnwindSafe(|| {
                let mut held = held;
                held.observe(usage(input, output));
                std::panic::resume_unwind(Box::new("the relay fell over"));
            }));
            assert!(fell.is_err());
        }
    }
    tally.count(reserved, key.state.quota_used() - before);
}

fn run(first: (u32, u64, u32, u64), steps: &[Step]) -> (Key, Tally) {
    let mut key = Key::new(limited(first));
    let mut tally = Tally { largest_limit: first.3, ..Tally::default() };
    let mut open: Vec<Box<Reservation>> = Vec::new();
    let watched = everything();
    for step in steps {
        match step {
            Step::Ask { prompt, output, bills, clamps } => {
                let before = key.state.standing(&watched, key.now());
                let charge = Charge { bills_quota: *bills, can_clamp: *clamps, ..charge(*prompt, *output) };
                match key.reserve(charge) {
                    Ok(held) => open.push(held),
                    Err(refusal) => assert_eq!(key.state.standing(&watched, key.now()), before, "{refusal:?}"),
                }
            }
            Step::Finish(which, end) if !open.is_empty() => {
                let held = open.remove(which.index(open.len()));
                finish(&key, held, end, &mut tally);
            }
            Step::Finish(..) => {}
            Step::Wait(ns) => key.clock.advance_ns(*ns),
            Step::Change(rpm, tpm, parallel, units) => {
                let before = key.state.standing(&watched, key.now());
                key.policy = Arc::new(limited((*rpm, *tpm, *parallel, *units)));
                key.state.adopt(&key.policy);
                assert_eq!(key.state.standing(&watched, key.now()), before, "a change of policy touched the state");
                tally.largest_limit = tally.largest_limit.max(*units);
            }
        }
        let held: u64 = open.iter().map(|held| held.held.as_ref().unwrap().units()).sum();
        assert_eq!(key.state.quota_committed(), key.state.quota_used() + held);
        assert_eq!(key.state.in_use() as usize, open.len());
    }
    for held in open {
        finish(&key, held, &End::TimedOut, &mut tally);
    }
    (key, tally)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// All limits or none on every refusal, nothing held at the end, and what is enforced is the sum of what was charged:
    /// through changes of policy too.
    #[test]
    fn nothing_leaks_and_nothing_is_lost(first in limits(), steps in steps(true)) {
        let (key, tally) = run(first, &steps);
        prop_assert_eq!(key.state.in_use(), 0);
        prop_assert_eq!(key.state.quota_committed(), key.state.quota_used());
        prop_assert_eq!(key.state.quota_used(), tally.units);
    }

    /// The quota is passed by no more than what the estimates were short.
    #[test]
    fn the_overdraft_is_at_most_the_shortage(first in limits(), steps in steps(false)) {
        let (key, tally) = run(first, &steps);
        if first.3 > 0 {
            prop_assert!(key.state.quota_used() <= tally.largest_limit.saturating_add(tally.short));
        }
    }

    /// With estimates that are exact no window of time sees more tokens than the capacity and its refill.
    #[test]
    fn tokens_of_any_window_fit_the_bucket(
        limit in 100_u64..20_000, asks in prop::collection::vec((0_u64..6_000_000_000, 1_u64..4_000, any::<bool>()), 1..80),
    ) {
        let key = Key::new(KeyPolicy { tpm: Tpm::new(limit), ..policy() });
        let mut granted: Vec<(u64, u64)> = Vec::new();
        for (wait, tokens, voided) in asks {
            key.clock.advance_ns(wait);
            if let Ok(held) = key.reserve(charge(tokens.min(limit), 0)) {
                key.clock.advance_ns(wait / 3);
                if voided {
                    held.void(key.now());
                } else {
                    let settled = held.settle(usage(tokens.min(limit), 0), key.now());
                    granted.push((key.now().monotonic_ns - wait / 3, settled.tokens));
                }
            }
        }
        for (i, (from, _)) in granted.iter().enumerate() {
            let mut sum = 0;
            for (to, tokens) in granted.iter().skip(i) {
                sum += tokens;
                let refill = u128::from(limit) * u128::from(to - from) / u128::from(NS_PER_MINUTE);
                prop_assert!(u128::from(sum) <= u128::from(limit) + refill + 1);
            }
        }
    }
}
