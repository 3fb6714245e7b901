//! Crowds, hot connections and brief ones, on workers that are only numbers.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const TICK_NS: u64 = TICK.as_nanos() as u64;

/// A worker that does what its connections ask for, in steps of a millisecond.
struct Model {
    lately: Lately,
    teller: Teller,
    connections: usize,
    /// The share of a core that they ask for.
    asked: f64,
    cpu_ns: u64,
}

/// All workers, and the time.
struct House {
    now_ns: u64,
    workers: Vec<Model>,
}

impl House {
    fn new(workers: usize) -> Self {
        let model =
            |_| Model { lately: Lately::default(), teller: Teller::new(0, 0), connections: 0, asked: 0.0, cpu_ns: 0 };
        Self { now_ns: 0, workers: (0..workers).map(model).collect() }
    }

    /// A millisecond; workers tick at moments of their own.
    fn step(&mut self) {
        self.now_ns += 1_000_000;
        let count = self.workers.len() as u64;
        for (place, worker) in self.workers.iter_mut().enumerate() {
            worker.cpu_ns += (worker.asked.min(1.0) * 1e6) as u64;
            let phase_ms = 100 * place as u64 / count;
            if (self.now_ns / 1_000_000 + phase_ms).is_multiple_of(100) {
                worker.teller.tell(&worker.lately, self.now_ns, worker.cpu_ns, worker.connections);
            }
        }
    }

    fn pass(&mut self, milliseconds: usize) {
        (0..milliseconds).for_each(|_| self.step());
    }

    /// One more connection, which asks for this share of a core.
    fn connect(&mut self, asks: f64) -> usize {
        let standing = |worker: &Model| worker.lately.standing(self.now_ns, worker.connections);
        let place = least_busy(self.workers.iter().map(standing)).unwrap();
        self.workers[place].connections += 1;
        self.workers[place].asked += asks;
        place
    }

    /// So many more, which ask for this much each.
    fn connect_all(&mut self, count: usize, asks: f64) {
        for _ in 0..count {
            self.connect(asks);
        }
    }

    fn leave(&mut self, place: usize, asked: f64) {
        self.workers[place].connections -= 1;
        self.workers[place].asked -= asked;
    }

    fn counts(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.connections).collect()
    }

    fn asked(&self) -> Vec<f64> {
        self.workers.iter().map(|worker| worker.asked).collect()
    }
}

fn unevenness(loads: &[f64]) -> f64 {
    loads.iter().copied().fold(0.0, f64::max) / (loads.iter().sum::<f64>() / loads.len() as f64)
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// One connection asks for `hot`, three for little; then a crowd comes within so many milliseconds.
fn hot_and_crowd(hot: f64, crowd: f64, within: usize) -> House {
    let mut house = House::new(2);
    house.pass(150);
    house.connect(hot);
    house.connect_all(3, 0.01);
    house.pass(300);
    for _ in 0..within {
        house.connect_all(2_000 / within, crowd / 2_000.0);
        house.step();
    }
    house
}

#[test]
fn a_crowd_beside_a_hot_connection_evens_the_workers_out() {
    for within in [1, 50, 100, 500] {
        for (hot, crowd) in [(0.5, 0.5), (0.6, 0.6), (0.9, 0.9), (0.6, 0.45), (0.45, 0.6)] {
            let house = hot_and_crowd(hot, crowd, within);
            let uneven = unevenness(&house.asked());
            assert!(uneven <= 1.3, "{hot} and {crowd} within {within} ms: {uneven:.2}, {:?}", house.counts());
        }
    }
}

#[test]
fn a_crowd_leaves_no_worker_further_ahead_than_it_was() {
    for crowd in [0.1, 0.3, 0.5, 0.7, 1.0] {
        let asked = hot_and_crowd(0.5, crowd, 1).asked();
        assert!((asked[0] - asked[1]).abs() <= 0.52, "{crowd}: {asked:?}");
    }
}

#[test]
fn a_handful_of_idle_connections_has_a_worker_for_each() {
    for pause in [0, 1, 30, 700] {
        let mut house = House::new(4);
        house.pass(250);
        for _ in 0..8 {
            house.connect(0.0);
            house.pass(pause);
        }
        assert_eq!(house.counts(), [2; 4], "{pause} ms between them");
    }
}

#[test]
fn a_connection_that_turns_hot_is_left_alone() {
    let mut house = House::new(2);
    house.connect_all(2, 0.0);
    house.workers[0].asked = 0.8;
    house.pass(400);
    assert_eq!([house.connect(0.0), house.connect(0.0), house.connect(0.0)], [1; 3]);
}

#[test]
fn whoever_does_not_tell_is_busy_and_where_nobody_tells_counts_decide() {
    let (late, told) = (Lately::default(), Lately::default());
    let now_ns = 100 * TICK_NS;
    Teller::new(0, 0).tell(&told, now_ns, now_ns / 10, 50);
    let stuck = late.standing(now_ns, 0);
    assert_eq!(least_busy([stuck, told.standing(now_ns, 50)].into_iter()), Some(1));
    assert_eq!(least_busy([late.standing(now_ns, 3), late.standing(now_ns, 2)].into_iter()), Some(1));
    assert_eq!(least_busy(std::iter::empty()), None);
}

#[test]
fn idle_connections_beside_a_hot_one_drift_apart_by_a_bound() {
    let mut house = House::new(2);
    house.connect(0.7);
    house.pass(1_000);
    for _ in 0..100_000 {
        house.connect(0.0);
        // 20 a millisecond at first, then ever as many.
        if house.workers[1].connections.is_multiple_of(20) {
            house.step();
        }
    }
    let counts = house.counts();
    // No more than 0.7 of what a core comes to.
    assert!((25_000..=35_000).contains(&spread(&counts)), "{counts:?}");
}

/// Connections of one request each, so many in a millisecond: the CPU of every worker over all, and the most uneven second.
fn brief(workers: usize, each_ms: usize, lasting: usize, idle: usize, load: f64) -> f64 {
    let mut house = House::new(workers);
    house.pass(150);
    house.connect_all(idle * workers, 0.0);
    house.pass(1_000);
    let asks = load * workers as f64 / (each_ms * lasting) as f64;
    let mut open = VecDeque::new();
    let mut worst = 1.0_f64;
    for _ in 0..5 {
        let before = house.workers.iter().map(|worker| worker.cpu_ns).collect::<Vec<_>>();
        for _ in 0..1_000 {
            (0..each_ms).for_each(|_| open.push_back((house.now_ns, house.connect(asks))));
            house.step();
            let ended = |(since, _): &(u64, usize)| house.now_ns - since >= lasting as u64 * 1_000_000;
            let count = open.iter().take_while(|one| ended(one)).count();
            open.drain(..count).for_each(|(_, place)| house.leave(place, asks));
        }
        let used = house.workers.iter().zip(before).map(|(worker, before)| (worker.cpu_ns - before) as f64);
        worst = worst.max(unevenness(&used.collect::<Vec<_>>()));
    }
    worst
}

#[test]
fn brief_connections_do_not_go_to_and_fro() {
    for (workers, idle) in [(2, 0), (2, 500), (8, 0), (8, 500)] {
        for lasting in [1, 20, 100, 300, 1_000] {
            for load in [0.2, 0.5, 0.9] {
                let worst = brief(workers, workers, lasting, idle, load);
                assert!(
                    worst <= 1.3,
                    "{workers} workers, {idle} idle, {lasting} ms each, load {load}: {worst:.2} in a second"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn workers_that_are_equally_busy_have_equally_many(
        workers in 1_usize..9,
        bursts in proptest::collection::vec((1_usize..400, 0_usize..300), 1..6),
        share in 0.0_f64..1.0,
    ) {
        let mut house = House::new(workers);
        house.workers.iter_mut().for_each(|worker| worker.asked = share);
        house.pass(2_000);
        for (count, pause) in bursts {
            house.connect_all(count, 0.0);
            house.pass(pause);
            // Workers tell at moments of their own: what one has measured of a burst another has not yet.
            let counts = house.counts();
            prop_assert!(spread(&counts) <= 2 + counts.iter().max().unwrap() / 3, "{counts:?}");
        }
    }

    #[test]
    fn of_a_burst_the_busier_gets_no_more(
        workers in proptest::collection::vec((0.0_f64..1.0, 0_usize..50), 2..9),
        burst in 1_usize..3_000,
    ) {
        let mut house = House::new(workers.len());
        for (worker, (asked, _)) in house.workers.iter_mut().zip(&workers) {
            (worker.asked, worker.connections) = (*asked, 20);
        }
        house.pass(1_000);
        house.connect_all(burst, 0.0);
        for (one, (busy, _)) in house.workers.iter().zip(&workers) {
            for (other, (busier, _)) in house.workers.iter().zip(&workers) {
                prop_assert!(busier < busy || other.connections <= one.connections + 1, "{:?}", house.counts());
            }
        }
    }

    #[test]
    fn connections_that_come_one_after_the_other_even_out_whatever_they_ask_for(
        workers in 2_usize..6,
        asks in proptest::collection::vec(0.2_f64..1.0, 200..300),
    ) {
        let mut house = House::new(workers);
        // A few ask for much and most for little, all together for half of what there is.
        let weights = asks.iter().map(|ask| ask.powi(6)).collect::<Vec<_>>();
        let unit = workers as f64 / 2.0 / weights.iter().sum::<f64>();
        for weight in weights {
            house.connect((weight * unit).min(0.05));
            house.pass(50);
        }
        prop_assert!(unevenness(&house.asked()) <= 1.4, "{:?}", house.asked());
    }
}
