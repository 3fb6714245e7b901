//! Streams: CPU per relayed event, how long an event is under way, and what comes of events that arrive together.

use anyhow::Context as _;

use crate::backend::Backend;
use crate::load::drive;
use crate::load::streams::{Outcome, Streams};
use crate::probe::Probe;
use crate::programs::{Bench, Program, cells};

/// Ten events a second, each on its own.
const INTERVAL_US: u64 = 100_000;
const BURST: usize = 16;

pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let mut programs = vec![Program::direct(backend.address)];
    programs.extend(bench.rivals(backend.address, true)?);
    programs.extend(bench.keywards(backend.address)?);
    for program in &programs[1..] {
        let check = Probe::open(program.address).and_then(|mut probe| probe.check_stream(&program.secrets[0]));
        check.with_context(|| format!("a short stream through {}", program.column.name()))?;
    }
    single_events(bench, &programs);
    bursts(bench, &programs);
    Ok(())
}

fn single_events(bench: &mut Bench, programs: &[Program]) {
    let streams = bench.arguments.pick(1_000, 100);
    let (warm_ms, window_ms) = bench.arguments.pick((500, 3_000), (100, 500));
    let turns = bench.rounds("streams", programs, |program| drive(job(program, streams, 1, warm_ms, window_ms)));
    let table = &mut bench.table;
    // The direct run has no CPU of a proxy.
    table.add(format!("{streams} streams: CPU us/event"), cells(&turns[1..], us_per_event), "<= 1.00 nginx");
    table.add("... relay p50 us", cells(&turns, |turn| Some(turn.p50_us)), "");
    table.add("... relay p99 us", cells(&turns, |turn| Some(turn.p99_us)), "<= 1.00 nginx");
    table.add("... relay of each first event, p99 us", cells(&turns, |turn| Some(turn.first_p99_us)), "never delayed");
}

fn bursts(bench: &mut Bench, programs: &[Program]) {
    let streams = bench.arguments.pick(100, 20);
    let (warm_ms, window_ms) = bench.arguments.pick((300, 1_500), (100, 500));
    let turns = bench.rounds("bursts", programs, |program| drive(job(program, streams, BURST, warm_ms, window_ms)));
    let table = &mut bench.table;
    table.add(format!("{BURST} events at once: CPU us/event"), cells(&turns[1..], us_per_event), "");
    let reads = |turn: &Outcome| Some(turn.reads as f64 * BURST as f64 / turn.events as f64);
    table.add_alone("... client reads they arrive in", cells(&turns, reads), "1 = one write");
}

fn us_per_event(turn: &Outcome) -> Option<f64> {
    Some(turn.spent.as_ref()?.total_ns as f64 / 1e3 / turn.events as f64)
}

fn job(program: &Program, streams: usize, burst: usize, warm_ms: u64, window_ms: u64) -> Streams {
    Streams {
        target: program.address,
        secrets: program.secrets.clone(),
        streams,
        interval_us: INTERVAL_US,
        burst,
        warm_ms,
        window_ms,
        watched: program.pid().ok(),
    }
}
