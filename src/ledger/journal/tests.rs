//! What is appended is there after the process is not, and what does not fit is summed up.

use super::*;
use crate::ledger::others::{self, Other, Others};
use crate::store::Outcome;
use crate::store::frame::tests::{entry, owned};
use crate::telemetry::Metrics;

fn journal(folder: &Path, frames: usize) -> (Journal, Arc<Sums>, LedgerMetrics) {
    let metrics = Metrics::new().ledger;
    let sums = Arc::new(Sums::new(metrics.clone()));
    let size = FIRST + frames * frame::length(&entry(1, 1));
    (Journal::create(folder, size, Arc::clone(&sums), metrics.clone()).unwrap(), sums, metrics)
}

fn found(folder: &Path, drained: &[(Uuid, u64)]) -> (Vec<Other>, u64) {
    let mut others = Others::in_folder(folder);
    let news = others.look(&[], &mut || Ok(drained.to_vec()), &mut |_| {}).unwrap();
    (others.known, news.missing)
}

#[test]
fn what_was_appended_is_found_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, ..) = journal(folder.path(), 10);
    (1..=5).for_each(|units| journal.append(&entry(7, units)));
    let (held, _) = found(folder.path(), &[]);
    assert_eq!((held[0].is_left, held[0].entries.len()), (false, 5), "a journal that is held is read along");
    let id = journal.id();
    drop(journal);
    let (left, _) = found(folder.path(), &[(id, 2)]);
    let found: Vec<_> = left[0].entries.iter().map(|(sequence, entry)| (*sequence, entry.units)).collect();
    assert_eq!((left.len(), left[0].id, found), (1, id, vec![(3, 3), (4, 4), (5, 5)]));
    assert_eq!(left[0].entries[0].1, owned(&entry(7, 3)));
    assert!(File::open(&left[0].path).unwrap().try_lock().is_ok(), "a thousand of them would be too many open files");
}

#[test]
fn entries_come_out_in_order_however_often_the_front_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, sums, _) = journal(folder.path(), 7);
    let mut next = 1;
    for round in 0..50 {
        for _ in 0..round % 6 + 1 {
            journal.append(&entry(1, next));
            next += 1;
        }
        let mut last = 0;
        loop {
            let (entries, place) = journal.oldest(Vec::new()).unwrap();
            let Some(sequence) = entries.last() else { break };
            assert!(entries.iter().all(|(sequence, entry)| sequence == entry.units));
            assert!(sequence > last);
            last = sequence;
            journal.advance(place);
        }
        assert_eq!((last, journal.last(), journal.pending()), (next - 1, next - 1, 0));
    }
    assert!(sums.is_empty());
}

#[test]
fn what_is_appended_while_the_drain_looks_at_an_empty_journal_stays_pending() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, ..) = journal(folder.path(), 10);
    (1..=3).for_each(|units| journal.append(&entry(1, units)));
    let (_, place) = journal.oldest(Vec::new()).unwrap();
    journal.advance(place);
    let (none, place) = journal.oldest(Vec::new()).unwrap();
    assert!(none.is_empty());
    // It begins anew at the front, before what the drain has seen.
    journal.append(&entry(1, 4));
    journal.advance(place);
    assert_eq!(journal.pending(), frame::length(&entry(1, 4)));
    let (entries, _) = journal.oldest(Vec::new()).unwrap();
    assert_eq!(entries.iter().map(|(sequence, _)| sequence).collect::<Vec<_>>(), [4]);
}

#[test]
fn what_does_not_fit_is_summed_up_and_refusals_give_way_before() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, sums, metrics) = journal(folder.path(), 8);
    for _ in 0..8 {
        journal.append(&Entry { outcome: Outcome::Refused, ..entry(1, 0) });
    }
    assert_eq!((journal.last(), metrics.uncounted.get()), (5, 3));
    for _ in 0..5 {
        journal.append(&entry(1, 4));
    }
    assert_eq!((journal.last(), metrics.summed.get()), (8, 2));
    assert_eq!(sums.take()[0].units, 8);
}

#[test]
fn a_damaged_entry_costs_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _, metrics) = journal(folder.path(), 5);
    (1..=5).for_each(|units| journal.append(&entry(1, units)));
    let length = frame::length(&entry(1, 1));
    journal.file.write_all_at(&[0xee; 20], (FIRST + length + 100) as u64).unwrap();
    let (entries, place) = journal.oldest(Vec::new()).unwrap();
    assert_eq!(entries.iter().map(|(sequence, _)| sequence).collect::<Vec<_>>(), [1, 3, 4, 5]);
    assert!(metrics.lost.get() > 0);
    journal.advance(place);
    assert_eq!(journal.pending(), 0);
    let id = journal.id();
    drop(journal);
    for (drained, found) in [(vec![], (4, 1)), (vec![(id, 2)], (3, 0))] {
        let (left, missing) = super::tests::found(folder.path(), &drained);
        assert_eq!((left[0].entries.len(), missing), found);
    }
}

#[test]
fn a_file_that_was_never_a_whole_journal_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    fs::write(&path, "KWJR").unwrap();
    assert!(found(folder.path(), &[]).0.is_empty() && !path.exists());
}

#[test]
fn a_file_that_cannot_be_read_is_kept_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, ..) = journal(folder.path(), 5);
    journal.append(&entry(1, 1));
    // Of a later version, as after a downgrade.
    journal.file.write_all_at(b"KWJRNL02", 0).unwrap();
    let (path, bytes) = (journal.path.clone(), fs::read(&journal.path).unwrap());
    drop(journal);
    assert_eq!(others::pending(folder.path(), &[]).unwrap(), 0);
    assert!(found(folder.path(), &[]).0.is_empty());
    assert!(!path.exists());
    assert_eq!(fs::read(path.with_added_extension("unreadable")).unwrap(), bytes);
}

#[test]
fn a_journal_is_its_owners_alone_and_has_its_blocks() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let (journal, ..) = journal(folder.path(), 100);
    let found = fs::metadata(&journal.path).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600);
    assert!(found.blocks() * 512 >= found.len());
    journal.remove().unwrap();
    assert!(!journal.path.exists());
}
