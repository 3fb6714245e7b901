//! The way from a worker to the store: exactly once, whatever the store does and whenever the process ends.

mod handover;
mod unwell;

use std::collections::HashMap;

use super::*;
use crate::clock::Now;
use crate::limits::QuotaCount;
use crate::store::embedded::{Embedded, Options};
use crate::store::frame::tests::entry;
use crate::store::{KeyState, StoreFault, Write};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Reason;
use crate::units::KeyId;
use unwell::Unwell;

struct Bench {
    folder: tempfile::TempDir,
    store: Arc<Embedded>,
    metrics: LedgerMetrics,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { busy_timeout: std::time::Duration::from_millis(50), ..Options::default() };
        let store = Arc::new(Embedded::open_with(&folder.path().join("keyward.db"), options).unwrap());
        Self { folder, store, metrics: Metrics::new().ledger }
    }

    /// A ledger that drains only when it is told to.
    fn ledger(&self, journal_size: usize) -> (Ledger, Vec<Entry>) {
        let window = std::time::Duration::from_secs(3_600);
        self.ledger_over(Arc::<Embedded>::clone(&self.store), Settings { window, journal_size, ..Settings::default() })
    }

    fn ledger_over(&self, store: Arc<dyn Store>, settings: Settings) -> (Ledger, Vec<Entry>) {
        let (ledger, left) = self.ledger_told(store, settings, false);
        let left = std::mem::take(&mut *left.lock().unwrap());
        (ledger, left)
    }

    /// With what it is told of others' entries, now and later.
    fn ledger_told(
        &self,
        store: Arc<dyn Store>,
        settings: Settings,
        is_paused: bool,
    ) -> (Ledger, Arc<Mutex<Vec<Entry>>>) {
        let (folder, told) = (self.folder.path().join("journals"), Arc::new(Mutex::new(Vec::new())));
        let tell = Arc::clone(&told);
        let counted = Counted::by(move |entry| tell.lock().unwrap().push(entry.clone()));
        let (clock, metrics) = (Clock::system(), self.metrics.clone());
        let hold = Hold::take(&folder).unwrap();
        let ledger = Ledger::open(Opening { hold, settings, store, clock, metrics, counted, is_paused });
        (ledger.unwrap(), told)
    }

    fn used(&self, key: u128) -> u64 {
        let mut states: HashMap<KeyId, KeyState> = HashMap::new();
        self.store.load_states(&mut |id, state| drop(states.insert(id, state))).unwrap();
        states.get(&KeyId(uuid::Uuid::from_u128(key))).map_or(0, |state| state.counted.used)
    }

    fn agree(&self) -> u64 {
        let books = self.store.books().unwrap();
        assert_eq!(books.mismatches, []);
        books.requests
    }

    fn journals(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("journals")).unwrap().count()
    }
}

const ROOMY: usize = 4 << 20;

#[test]
fn what_is_settled_is_in_the_store_once_and_an_end_in_order_leaves_nothing() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journals = [ledger.journal().unwrap(), ledger.journal().unwrap()];
    for turn in 0..300 {
        journals[turn % 2].append(&entry(turn as u128 % 3, 10));
        if turn % 50 == 0 {
            ledger.flush().unwrap();
        }
    }
    ledger.flush().unwrap();
    assert_eq!((bench.used(0), bench.used(1), bench.used(2), bench.agree()), (1_000, 1_000, 1_000, 300));
    assert_eq!((bench.metrics.stored.get(), bench.metrics.pending_bytes.get()), (300, 0));
    drop(journals);
    ledger.close().unwrap();
    assert_eq!(bench.journals(), 0);
}

#[test]
fn a_clock_that_was_set_forward_by_mistake_costs_no_records() {
    let (now, day) = (1_800_000_000_000, 86_400_000);
    let clock = Clock::manual(Now { monotonic_ns: 1 << 40, unix_ms: now }).guarded(None, None);
    clock.step_wall_ms(now + 400 * day);
    clock.keep();
    let kept = std::time::Duration::from_secs(90 * 86_400);
    let Write::Tidy { now_ms, records_before_ms } = drain::old(&clock, kept) else { panic!("it tidies") };
    // As near as clocks are to each other.
    assert!((now..now + 10_000).contains(&now_ms), "{now_ms}");
    assert_eq!(records_before_ms, now_ms - 90 * day);
}

#[test]
fn what_a_killed_process_left_counts_from_the_start_and_is_drained_once() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journal = ledger.journal().unwrap();
    (0..5).for_each(|_| journal.append(&entry(1, 7)));
    ledger.flush().unwrap();
    (0..4).for_each(|_| journal.append(&entry(1, 7)));
    drop((journal, ledger));
    assert_eq!(bench.used(1), 35);

    for _ in 0..3 {
        // The first of these is killed before it drains anything.
        let (ledger, left) = bench.ledger(ROOMY);
        assert_eq!(left.iter().map(|entry| entry.units).sum::<u64>(), 28);
        drop(ledger);
    }
    let (ledger, left) = bench.ledger(ROOMY);
    assert_eq!(left.len(), 4);
    ledger.flush().unwrap();
    assert_eq!((bench.used(1), bench.agree(), bench.journals()), (63, 9, 0));
    drop(ledger);
    let (_ledger, left) = bench.ledger(ROOMY);
    assert_eq!(left, []);
}

#[test]
fn what_a_worker_settles_after_the_end_is_for_the_next_start() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let (ended, cut) = (ledger.journal().unwrap(), ledger.journal().unwrap());
    [&ended, &cut].iter().for_each(|journal| journal.append(&entry(1, 5)));
    drop(ended);
    ledger.close().unwrap();
    cut.append(&entry(1, 7));
    drop((cut, ledger));
    assert_eq!((bench.used(1), bench.journals()), (10, 1));
    let (ledger, left) = bench.ledger(ROOMY);
    assert_eq!(left.iter().map(|entry| entry.units).collect::<Vec<_>>(), [7]);
    ledger.flush().unwrap();
    assert_eq!((bench.used(1), bench.agree(), bench.journals()), (17, 3, 0));
}

#[test]
fn a_store_has_one_program_at_a_time() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("journals");
    let (ledger, _) = bench.ledger(ROOMY);
    assert!(matches!(Hold::take(&folder), Err(LedgerFault::Held { .. })));
    drop(ledger);
    bench.ledger(ROOMY).0.close().unwrap();
}

#[test]
fn a_file_that_cannot_be_removed_holds_up_nothing_else() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journal = ledger.journal().unwrap();
    journal.append(&entry(1, 5));
    drop((journal, ledger));
    let (ledger, left) = bench.ledger(ROOMY);
    assert_eq!(left.len(), 1);
    let journal = ledger.journal().unwrap();
    journal.append(&entry(1, 7));
    // In the place of the file that was left stands what is removed in another way.
    let held = bench.folder.path().join("journals").join(format!("{}.journal", journal.id().simple()));
    let files = std::fs::read_dir(bench.folder.path().join("journals")).unwrap();
    let old = files.map(|file| file.unwrap().path()).find(|path| *path != held).unwrap();
    std::fs::remove_file(&old).unwrap();
    std::fs::create_dir(&old).unwrap();
    assert!(matches!(ledger.flush(), Err(StoreFault::Unavailable(_))));
    assert_eq!((bench.used(1), journal.pending(), bench.metrics.behind.get()), (12, 0, 1));
    std::fs::remove_dir(&old).unwrap();
    ledger.flush().unwrap();
    assert_eq!((bench.used(1), bench.agree(), bench.store.drained().unwrap().len()), (12, 2, 1));
}

#[test]
fn old_records_are_folded_away_however_often_somebody_asks_for_a_flush() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journal = ledger.journal().unwrap();
    (0..12_000).for_each(|_| journal.append(&entry(1, 1)));
    (0..610).for_each(|_| ledger.flush().unwrap());
    let books = bench.store.books().unwrap();
    assert_eq!((books.records, books.requests, books.mismatches.len()), (0, 12_000, 0));
}

#[test]
fn whoever_waits_for_a_store_that_takes_long_to_say_no_waits_together() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journal = ledger.journal().unwrap();
    journal.append(&entry(1, 1));
    let other = rusqlite::Connection::open(bench.folder.path().join("keyward.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    thread::scope(|scope| {
        let asking = (0..30).map(|_| scope.spawn(|| ledger.flush())).collect::<Vec<_>>();
        assert!(asking.into_iter().all(|asked| asked.join().unwrap().is_err()));
    });
    let tried = bench.metrics.failures.get_or_create(&Reason { reason: "locked" }).get();
    assert!(tried < 10, "{tried} attempts for 30 who ask");
    other.execute_batch("ROLLBACK").unwrap();
    ledger.flush().unwrap();
}

#[test]
fn what_a_store_that_does_not_answer_holds_up_is_on_disk_all_the_same() {
    let bench = Bench::new();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let before_write = move || {
        let _over = wait.lock().unwrap().recv();
    };
    let window = std::time::Duration::from_millis(10);
    let store = Arc::new(Unwell { store: Arc::clone(&bench.store), before_write });
    let (ledger, _) = bench.ledger_over(store, Settings { window, journal_size: ROOMY, ..Settings::default() });
    ledger.journal().unwrap().append(&entry(1, 5));
    // Nothing says no: it is in the middle of the first write, for as long as we like.
    let began = Clock::system();
    let start = began.now().monotonic_ns;
    while bench.metrics.synced.get() < 3 {
        assert!(began.now().monotonic_ns - start < 20_000_000_000, "it is never brought to disk");
        thread::yield_now();
    }
    assert_eq!(bench.used(1), 0);
    drop(go);
    ledger.flush().unwrap();
    assert_eq!((bench.used(1), bench.agree()), (5, 1));
}

#[test]
fn that_the_folder_goes_and_the_lock_with_it_is_told_while_the_program_runs() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journal = ledger.journal().unwrap();
    std::fs::remove_dir_all(bench.folder.path().join("journals")).unwrap();
    for _ in 0..2 {
        journal.append(&entry(1, 5));
        let Err(StoreFault::Unavailable(why)) = ledger.flush() else { panic!("not told") };
        assert!(why.contains("was removed or replaced"), "{why}");
        std::fs::create_dir_all(bench.folder.path().join("journals")).unwrap();
    }
    assert_eq!((bench.used(1), bench.metrics.behind.get()), (10, 1), "what is settled is counted all the same");
}

#[test]
fn a_bug_in_the_drain_is_told_and_tried_again() {
    let bench = Bench::new();
    let is_well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let before_write = move || assert!(well.load(std::sync::atomic::Ordering::Relaxed), "a bug, made on purpose");
    let store = Arc::new(Unwell { store: Arc::clone(&bench.store), before_write });
    let window = std::time::Duration::from_secs(3_600);
    let (ledger, _) = bench.ledger_over(store, Settings { window, journal_size: ROOMY, ..Settings::default() });
    let journal = ledger.journal().unwrap();
    journal.append(&entry(1, 5));
    assert!(matches!(ledger.flush(), Err(StoreFault::Unavailable(_))));
    assert_eq!(bench.metrics.behind.get(), 1);
    is_well.store(true, std::sync::atomic::Ordering::Relaxed);
    ledger.flush().unwrap();
    assert_eq!((bench.used(1), bench.agree(), bench.metrics.behind.get()), (5, 1, 0));
}

#[test]
fn a_store_that_is_full_loses_nothing_and_takes_it_all_once_there_is_room() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journal = ledger.journal().unwrap();
    journal.append(&entry(1, 1));
    ledger.flush().unwrap();
    bench.store.set_max_pages(Some(1));
    let mut refused = None;
    let mut settled = 1;
    while refused.is_none() {
        for _ in 0..200 {
            journal.append(&entry(1, 1));
            settled += 1;
        }
        refused = ledger.flush().err();
        assert!(settled < 20_000, "a store of one page takes on and on");
    }
    assert!(matches!(refused, Some(StoreFault::Full(_))), "{refused:?}");
    assert_eq!(bench.metrics.behind.get(), 1);
    (0..100).for_each(|_| journal.append(&entry(1, 1)));
    assert!(ledger.flush().is_err());
    bench.store.set_max_pages(None);
    ledger.flush().unwrap();
    assert_eq!((bench.used(1), bench.agree(), bench.metrics.behind.get()), (settled + 100, settled + 100, 0));
}

#[test]
fn charges_of_a_full_journal_are_summed_up_and_the_books_agree() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(64 + 20 * 256);
    let journal = ledger.journal().unwrap();
    let other = rusqlite::Connection::open(bench.folder.path().join("keyward.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for turn in 0..100 {
        journal.append(&entry(turn % 2, 3));
    }
    assert!(matches!(ledger.flush(), Err(StoreFault::Locked(_))));
    assert!(bench.metrics.summed.get() >= 80);
    other.execute_batch("ROLLBACK").unwrap();
    ledger.flush().unwrap();
    assert_eq!((bench.used(0), bench.used(1), bench.agree()), (150, 150, 100));
    drop(journal);
    ledger.close().unwrap();
    assert_eq!(bench.journals(), 0);
}

#[test]
fn counts_come_out_the_same_in_whatever_order_the_journals_are_drained() {
    let bench = Bench::new();
    let (ledger, _) = bench.ledger(ROOMY);
    let journals = [ledger.journal().unwrap(), ledger.journal().unwrap()];
    let of_day = |day: i32, units| Entry { since_day: day, touched_day: day, ..entry(1, units) };
    // The first journal is drained first, and holds what was settled after the turn of the day.
    journals[0].append(&of_day(8, 5));
    journals[1].append(&of_day(7, 100));
    journals[1].append(&of_day(8, 6));
    ledger.flush().unwrap();
    let mut counted = QuotaCount::default();
    bench.store.load_states(&mut |_, state| counted = state.counted).unwrap();
    assert_eq!(counted, QuotaCount { used: 11, since_day: 8, touched_day: 8 });
    assert_eq!(bench.agree(), 3);
}
