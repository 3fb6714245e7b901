//! Connections that ask at a steady pace, on workers that are only numbers.

use proptest::prelude::*;

use super::*;
use crate::proxy::seating::{Lately, Teller, least_busy};

struct Model {
    lately: Lately,
    teller: Teller,
    surplus: Surplus,
    connections: usize,
    cpu_ns: u64,
}

/// One that asks every so many milliseconds, and takes so much CPU for it.
struct Client {
    worker: usize,
    every_ms: u64,
    cost_ns: u64,
    pace: Pace,
    moves: usize,
}

struct House {
    now_ms: u64,
    workers: Vec<Model>,
    clients: Vec<Client>,
}

impl House {
    fn new(workers: usize) -> Self {
        let model = |_| Model {
            lately: Lately::default(),
            teller: Teller::new(0, 0),
            surplus: Surplus::default(),
            connections: 0,
            cpu_ns: 0,
        };
        Self { now_ms: 0, workers: (0..workers).map(model).collect(), clients: Vec::new() }
    }

    /// One more on this worker, which uses this share of a core.
    fn put(&mut self, worker: usize, every_ms: u64, share: f64) {
        self.workers[worker].connections += 1;
        let pace = self.workers[worker].surplus.pace();
        let cost_ns = (share * every_ms as f64 * 1e6) as u64;
        self.clients.push(Client { worker, every_ms, cost_ns, pace, moves: 0 });
    }

    fn least_busy(&self) -> usize {
        let now_ns = self.now_ms * 1_000_000;
        least_busy(self.workers.iter().map(|worker| worker.lately.standing(now_ns, worker.connections))).unwrap()
    }

    fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now_ms += 1;
            for at in 0..self.clients.len() {
                // Each at moments of its own.
                if (self.now_ms + at as u64).is_multiple_of(self.clients[at].every_ms) {
                    self.ask(at);
                }
            }
            self.tick();
        }
    }

    fn ask(&mut self, at: usize) {
        let own = self.clients[at].worker;
        let to = if self.workers[own].surplus.is_any() { self.least_busy() } else { own };
        if to != own && self.workers[own].surplus.give(self.clients[at].pace) {
            self.workers[own].connections -= 1;
            self.workers[to].connections += 1;
            let client = &mut self.clients[at];
            (client.worker, client.moves) = (to, client.moves + 1);
            client.pace = self.workers[to].surplus.pace();
        }
        let client = &mut self.clients[at];
        let worker = &mut self.workers[client.worker];
        worker.surplus.note(&mut client.pace);
        worker.cpu_ns += client.cost_ns;
    }

    fn tick(&mut self) {
        let (now_ns, count) = (self.now_ms * 1_000_000, self.workers.len() as u64);
        for at in 0..self.workers.len() {
            // Workers tick at moments of their own.
            if !(self.now_ms + 100 * at as u64 / count).is_multiple_of(100) {
                continue;
            }
            let worker = &mut self.workers[at];
            worker.teller.tell(&worker.lately, now_ns, worker.cpu_ns, worker.connections);
            let busy = |worker: &Model| worker.lately.standing(now_ns, worker.connections).busy();
            let average = self.workers.iter().map(busy).sum::<f64>() / count as f64;
            let least = self.workers.iter().map(busy).fold(1.0, f64::min);
            let worker = &self.workers[at];
            worker.surplus.tick((busy(worker), average, least));
        }
    }

    /// The busiest over the mean in a second.
    fn unevenness(&mut self) -> f64 {
        let before = self.workers.iter().map(|worker| worker.cpu_ns).collect::<Vec<_>>();
        self.pass(1_000);
        let used = self.workers.iter().zip(before).map(|(worker, before)| (worker.cpu_ns - before) as f64);
        let (most, sum) = used.fold((0.0, 0.0), |(most, sum), used| (f64::max(most, used), sum + used));
        most / (sum / self.workers.len() as f64)
    }

    fn moves(&self) -> usize {
        self.clients.iter().map(|client| client.moves).sum()
    }
}

#[test]
fn a_crowd_goes_where_there_is_room_whatever_it_was_expected_to_ask_for() {
    for (hot, crowd) in [(0.1, 0.9), (0.3, 0.9), (0.5, 0.9), (0.5, 0.5), (0.9, 0.95)] {
        for on_the_hot in [0, 1] {
            let mut house = House::new(2);
            house.put(0, 1, hot);
            for _ in 0..1_000 {
                // All on one worker, whichever that is.
                house.put(1 - on_the_hot, 125, crowd / 1_000.0);
            }
            house.pass(2_000);
            let uneven = house.unevenness();
            assert!(uneven <= 1.15, "{hot} and {crowd}, {on_the_hot}: {uneven:.2}");
            assert!(house.clients[0].moves <= 1, "a hot one does not go to and fro");
        }
    }
}

#[test]
fn two_hot_ones_on_a_worker_part() {
    let mut house = House::new(2);
    house.put(0, 1, 0.4);
    house.put(0, 1, 0.4);
    house.pass(1_000);
    assert_ne!(house.clients[0].worker, house.clients[1].worker);
    house.pass(60_000);
    assert_eq!(house.moves(), 1);
}

#[test]
fn one_that_is_all_its_worker_does_stays() {
    let mut house = House::new(4);
    house.put(2, 1, 0.9);
    house.pass(60_000);
    assert_eq!(house.moves(), 0);
}

#[test]
fn one_that_turns_hot_is_known_for_it_soon() {
    let surplus = Surplus::default();
    let (mut pace, mut other) = (surplus.pace(), surplus.pace());
    let tick = |pace: &mut Pace, other: &mut Pace, asks: u32| {
        (0..asks).for_each(|_| surplus.note(pace));
        (0..10).for_each(|_| surplus.note(other));
        surplus.tick((0.0, 0.0, 0.0));
    };
    (0..36_000).for_each(|at| tick(&mut pace, &mut other, u32::from(at % 100 == 0)));
    (0..50).for_each(|_| tick(&mut pace, &mut other, 90));
    let share = pace.asked as f64 / (surplus.asked.get() - pace.all) as f64;
    assert!(share > 0.85, "{pace:?}: {share}");
}

#[test]
fn one_that_does_nearly_all_stays_however_its_pace_changes() {
    let surplus = Surplus::default();
    let mut hot = surplus.pace();
    for round in 0..1_000_u32 {
        let asks = [1, 300, 40, 900, 2][round as usize % 5];
        (0..asks).for_each(|_| surplus.note(&mut hot));
        let busy = f64::from(asks) / 1_000.0;
        surplus.tick((busy.max(0.2), busy.max(0.2) / 2.0, 0.0));
        assert!(surplus.is_any() && !surplus.give(hot), "{round}: {hot:?}");
    }
}

#[test]
fn what_is_even_stays_as_it_is() {
    let mut house = House::new(4);
    for at in 0..400 {
        house.put(at % 4, 10 + at as u64 % 7, 0.005);
    }
    // Until all are measured.
    house.pass(1_000);
    let moves = house.moves();
    house.pass(10_000);
    assert_eq!(house.moves(), moves);
}

#[test]
fn who_has_not_been_seen_to_ask_stays() {
    let surplus = Surplus::default();
    surplus.tick((1.0, 0.2, 0.1));
    assert!(surplus.is_any() && !surplus.give(surplus.pace()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_there_is_evens_out_and_comes_to_rest(
        workers in 2_usize..6,
        clients in proptest::collection::vec((0_usize..6, 5_u64..200, 0.2_f64..1.0), 60..120),
    ) {
        let mut house = House::new(workers);
        let unit = 0.5 * workers as f64 / clients.iter().map(|(_, _, weight)| weight).sum::<f64>();
        for (worker, every_ms, weight) in clients {
            // At first on half of them.
            house.put(worker % workers.div_ceil(2), every_ms, weight * unit);
        }
        house.pass(20_000);
        let (uneven, moves) = (house.unevenness(), house.moves());
        prop_assert!(uneven <= 1.25, "{uneven:.2}");
        house.pass(20_000);
        let later = house.moves() - moves;
        prop_assert!(later <= house.clients.len() / 10, "{later} moves later, {moves} before");
    }
}
