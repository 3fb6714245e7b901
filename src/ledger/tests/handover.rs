//! The store goes from one process to another while requests run: what either settles, at whatever moment, is in the store once, and the one that has
//! the store is told of it once.

use super::*;
use proptest::prelude::*;

fn still() -> Settings {
    Settings { window: std::time::Duration::from_secs(3_600), journal_size: ROOMY, ..Settings::default() }
}

impl Bench {
    fn next_ledger(&self, settings: Settings, is_paused: bool) -> (Ledger, Arc<Mutex<Vec<Entry>>>) {
        self.ledger_told(Arc::<Embedded>::clone(&self.store), settings, is_paused)
    }
}

fn hand_over(old: &Ledger) {
    old.pause().unwrap();
    old.release();
}

fn units(told: &Mutex<Vec<Entry>>) -> u64 {
    told.lock().unwrap().iter().map(|entry| entry.units).sum()
}

#[test]
fn what_the_old_process_settles_after_it_has_let_go_is_taken_up_while_it_runs_and_when_it_has_ended() {
    let bench = Bench::new();
    let (old, _) = bench.next_ledger(still(), false);
    let running = old.journal().unwrap();
    running.append(&entry(1, 5));
    hand_over(&old);
    running.append(&entry(1, 7));
    let (new, told) = bench.next_ledger(still(), true);
    assert_eq!(
        (units(&told), bench.used(1)),
        (7, 5),
        "told before the first request, and not in the store before it is to be"
    );
    new.resume();
    running.append(&entry(1, 11));
    new.flush().unwrap();
    assert_eq!((units(&told), bench.used(1)), (18, 23), "read along");
    assert!(old.flush().is_err(), "it has no store any more");
    running.append(&entry(1, 13));
    old.close().unwrap();
    drop((old, running));
    assert_eq!(bench.journals(), 1);
    new.flush().unwrap();
    assert_eq!((units(&told), bench.used(1), bench.agree(), bench.journals()), (31, 36, 4, 0));
    assert!(bench.store.drained().unwrap().is_empty(), "and nothing is remembered of it");
}

#[test]
fn a_hand_over_that_fails_leaves_everything_to_the_old_process() {
    let bench = Bench::new();
    let (old, told) = bench.next_ledger(still(), false);
    let running = old.journal().unwrap();
    running.append(&entry(1, 5));
    hand_over(&old);
    running.append(&entry(1, 7));
    let (new, _) = bench.next_ledger(still(), true);
    let _unused = new.journal().unwrap();
    assert!(matches!(old.retake(), Err(LedgerFault::Held { .. })), "as long as the new one lives");
    drop((new, _unused));
    old.retake().unwrap();
    old.resume();
    running.append(&entry(1, 11));
    old.flush().unwrap();
    assert_eq!((units(&told), bench.used(1), bench.agree()), (0, 23, 3), "its own it has counted itself");
    drop(running);
    old.close().unwrap();
    assert_eq!(bench.journals(), 0);
}

#[test]
fn what_had_no_room_in_a_journal_of_the_old_process_is_left_in_one_more() {
    let bench = Bench::new();
    let (old, _) = bench.next_ledger(Settings { journal_size: 64 + 4 * 256, ..still() }, false);
    let running = old.journal().unwrap();
    hand_over(&old);
    let (new, told) = bench.next_ledger(still(), false);
    (0..100).for_each(|turn| running.append(&entry(turn % 3, 2)));
    old.close().unwrap();
    drop((running, old));
    new.flush().unwrap();
    assert_eq!((units(&told), bench.agree(), bench.journals()), (200, 100, 0));
}

#[test]
fn an_old_process_that_is_killed_loses_nothing() {
    let bench = Bench::new();
    let (old, _) = bench.next_ledger(still(), false);
    let running = old.journal().unwrap();
    hand_over(&old);
    let (new, told) = bench.next_ledger(still(), false);
    running.append(&entry(1, 3));
    // As a kill does: no order, no end.
    drop((old, running));
    new.flush().unwrap();
    assert_eq!((units(&told), bench.used(1), bench.journals()), (3, 3, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any mix of settlements of three generations, each of which may be the last to end, or be killed.
    #[test]
    fn every_settlement_of_any_generation_counts_once(steps in prop::collection::vec((0_u8..6, 1_u64..50), 1..60), frames in 3_usize..60) {
        let bench = Bench::new();
        let settings = Settings { journal_size: 64 + frames * 256, ..still() };
        let mut alive = vec![{
            let (ledger, told) = bench.next_ledger(settings.clone(), false);
            let journal = ledger.journal().unwrap();
            (ledger, journal, told)
        }];
        let (mut settled, mut requests) = (0, 0);
        // Of the generation that has the store: what it has settled itself.
        let mut own = 0;
        for (step, amount) in steps {
            match step {
                0..=2 => {
                    let at = usize::from(step) % alive.len();
                    alive[at].1.append(&entry(1, amount));
                    (settled, requests) = (settled + amount, requests + 1);
                    if at + 1 == alive.len() {
                        own += amount;
                    }
                }
                3 => alive.last().unwrap().0.flush().unwrap(),
                4 if alive.len() < 3 => {
                    let before = bench.used(1);
                    hand_over(&alive.last().unwrap().0);
                    let (ledger, told) = bench.next_ledger(settings.clone(), true);
                    // What is in the store at the open is counted by whoever opens it.
                    let counted = bench.used(1);
                    prop_assert!(counted >= before);
                    own = counted;
                    ledger.resume();
                    let journal = ledger.journal().unwrap();
                    alive.push((ledger, journal, told));
                }
                5 if alive.len() > 1 => {
                    let (ledger, journal, _) = alive.remove(0);
                    ledger.close().unwrap();
                    drop((journal, ledger));
                }
                _ => {}
            }
        }
        let (last, journal, told) = alive.pop().unwrap();
        for (ledger, journal, _) in alive {
            ledger.close().unwrap();
            drop((journal, ledger));
        }
        last.flush().unwrap();
        prop_assert_eq!(own + units(&told), settled, "what the last generation enforces");
        prop_assert_eq!((bench.used(1), bench.agree()), (settled, requests));
        drop(journal);
        last.close().unwrap();
        prop_assert_eq!(bench.journals(), 0);
    }
}
