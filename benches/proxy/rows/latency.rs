//! Latency at a fixed rate, without coordinated omission: what each proxy adds to the backend's own.

use super::{BODY_BYTES, CONNECTIONS};
use crate::backend::Backend;
use crate::load::drive;
use crate::load::paced::{Outcome, Paced};
use crate::programs::{Bench, Program, Turns, cells};
use crate::series::Series;
use crate::table::Column;

const PER_SECOND: u64 = 2_000;

pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let mut programs = vec![Program::direct(backend.address)];
    programs.extend(bench.rivals(backend.address, false)?);
    programs.extend(bench.keywards(backend.address)?);
    let (warm_ms, window_ms) = bench.arguments.pick((300, 3_000), (100, 500));
    let turns = bench.rounds("latency", &programs, |program| {
        drive(Paced {
            target: program.address,
            secrets: program.secrets.clone(),
            connections: CONNECTIONS,
            per_second: PER_SECOND,
            body_bytes: BODY_BYTES,
            warm_ms,
            window_ms,
        })
    });
    let table = &mut bench.table;
    let added = |percentile: fn(&Outcome) -> Option<f64>| added(&turns, percentile);
    table.add("added latency at 2,000/s, p50 us (direct: whole)", added(|turn| Some(turn.p50_us)), "<= 1.00 HAProxy");
    table.add("... p99 us", added(|turn| Some(turn.p99_us)), "<= 1.00 HAProxy");
    table.add("... p99.9 us", added(|turn| Some(turn.p999_us)), "");
    Ok(())
}

/// Less the direct run of the same round.
fn added(turns: &[Turns<Outcome>], percentile: impl Fn(&Outcome) -> Option<f64>) -> Vec<(Column, Series)> {
    let mut all = cells(turns, percentile).into_iter();
    let Some(direct) = all.next() else { return Vec::new() };
    let less = all.map(|(column, series)| (column, series.pair(&direct.1, |whole, direct| whole - direct)));
    let less = less.collect::<Vec<_>>();
    std::iter::once(direct).chain(less).collect()
}
