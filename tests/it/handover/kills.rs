//! `kill -9` of either process at a random moment of a hand-over.

use std::time::Duration;

use super::processes::{is_alive, kill};
use super::{CONFIG, books_are_exact, house, restarts};
use crate::harness::dice::Dice;
use crate::harness::program::{PATIENCE, Stopwatch};
use crate::harness::time::eventually;
use crate::ledger::load::Load;
use crate::ledger::secrets;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_either_process_at_any_moment_loses_and_doubles_nothing() {
    let seed = std::env::var("KEYWARD_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_127);
    let mut dice = Dice::new(seed);
    let mut house = house(CONFIG).await;
    let mut whole = Vec::new();
    let mut survived = [0; 3];
    for round in 0..restarts(6) {
        let load = Load::start(house.data, &secrets(), &format!("k{round}"), 4);
        let began = Stopwatch::start();
        while load.count() == 0 {
            assert!(began.elapsed() < PATIENCE, "round {round} of seed {seed}: nobody answers:\n{}", house.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let failures = |log: &str| log.matches("the hand-over failed; this process goes on").count();
        let failed_before = failures(&house.log());
        house.ask_to_hand_over();
        let (old, began) = (house.pid, Stopwatch::start());
        let moment = Duration::from_millis(dice.below(120));
        let mut next = None;
        while began.elapsed() < moment || next.is_none() {
            next = house.note_children().first().copied().or(next);
            assert!(began.elapsed() < PATIENCE, "nobody is started:\n{}", house.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let victims: &[Option<u32>] = match dice.below(3) {
            0 => &[Some(old)],
            1 => &[next],
            _ => &[Some(old), next],
        };
        for victim in victims.iter().flatten() {
            // It may have ended by itself.
            let _was_there = kill(*victim, "KILL");
        }
        eventually("the killed are gone", || !victims.iter().flatten().any(|pid| is_alive(*pid))).await;
        whole.extend(load.end());
        // Whoever is left serves, by itself; where nobody is, somebody starts it again.
        let began = Stopwatch::start();
        loop {
            let (old_lives, next_lives) = (is_alive(old), next.is_some_and(is_alive));
            if next_lives && house.look() && Some(house.pid) == next && !old_lives {
                survived[1] += 1;
                break;
            }
            // One that has handed over already does not come back.
            if old_lives && !next_lives && failures(&house.log()) > failed_before {
                survived[0] += 1;
                break;
            }
            if !old_lives && !next_lives && !house.is_anybody_there() {
                survived[2] += 1;
                house.start_again().await;
                break;
            }
            assert!(began.elapsed() < 4 * PATIENCE, "round {round} of seed {seed}:\n{}", house.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    println!("old {}, new {}, neither {}; {} whole answers", survived[0], survived[1], survived[2], whole.len());
    let whole = whole.into_iter().map(|answer| super::Whole { request_id: answer.request_id, tokens: answer.tokens });
    books_are_exact(house, &whole.collect::<Vec<_>>(), true).await;
}
