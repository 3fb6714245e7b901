//! Many threads on one key: no limit is passed, and nothing is held at the end.

use super::*;

/// Eight threads, 125 requests each, at once, with the clock standing still.
fn admitted_of_a_thousand(policy: KeyPolicy, charge: Charge) -> (usize, Key) {
    let key = Key::new(policy);
    let start = Barrier::new(8);
    let admitted = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    (0..125).filter_map(|_| key.reserve(charge).ok()).collect::<Vec<_>>()
                })
            })
            .collect();
        let held: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let count = held.len();
        held.into_iter().for_each(|one| one.void(key.now()));
        count
    });
    (admitted, key)
}

#[test]
fn a_thousand_at_once_pass_no_limit() {
    let fixed = Charge { can_clamp: false, ..charge(7, 3) };
    let (n, key) = admitted_of_a_thousand(KeyPolicy { rpm: Rpm::new(100), ..policy() }, fixed);
    assert_eq!(n, 100);
    assert_eq!(key.standing().requests.unwrap().remaining, 0);
    let (n, key) = admitted_of_a_thousand(KeyPolicy { tpm: Tpm::new(1_005), ..policy() }, fixed);
    assert_eq!(n, 100);
    assert_eq!(key.standing().tokens.unwrap().reset_ns, 0, "voided at the same moment: as if never taken");
    let (n, key) = admitted_of_a_thousand(KeyPolicy { quota: quota(1_005), ..policy() }, fixed);
    assert_eq!((n, key.state.quota_committed()), (100, 0));
    let (n, key) = admitted_of_a_thousand(KeyPolicy { max_parallel: Parallel::new(100), ..policy() }, fixed);
    assert_eq!((n, key.state.in_use()), (100, 0));
}

#[test]
fn a_thousand_at_once_share_a_clamped_quota_without_overdraft() {
    let key = Key::new(KeyPolicy { quota: quota(10_000), ..policy() });
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..125_u64 {
                    if let Ok(held) = key.reserve(charge(20, 100 + round)) {
                        let output = held.clamp().unwrap_or(100 + round);
                        let settled = held.settle(usage(20, output), key.now());
                        assert_eq!(settled.units, 20 + output);
                    }
                }
            });
        }
    });
    assert_eq!(key.state.quota_committed(), key.state.quota_used());
    let left = 10_000 - key.state.quota_used();
    assert!(left <= 20, "all but what no prompt and token fit into is spent: {left}");
}

#[test]
fn every_limit_at_once_under_fire_ends_where_it_began() {
    let key =
        Key::new(KeyPolicy { max_parallel: Parallel::new(5), tpm: Tpm::new(3_000), quota: quota(2_000), ..policy() });
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let key = &key;
            scope.spawn(move || {
                for round in 0..2_000_u64 {
                    let Ok(mut held) = key.reserve(charge(100 + thread, round % 300)) else { continue };
                    if round % 3 == 0 {
                        held.void(key.now());
                    } else if round % 3 == 1 {
                        drop(held);
                    } else {
                        held.forwarded();
                        let settled = held.settle(Usage::default(), key.now());
                        assert_eq!(settled.tokens, 0);
                    }
                }
            });
        }
    });
    let end = key.standing();
    assert_eq!(end.tokens.map(|gauge| gauge.reset_ns), Some(0));
    assert_eq!((key.state.in_use(), key.state.quota_committed(), key.state.quota_used()), (0, 0, 0));
    key.clock.advance_ns(NS_PER_SECOND);
    assert!(key.reserve(charge(1_000, 0)).is_ok());
}
