//! Uneven load on two workers, and one hot key against many.

use super::BODY_BYTES;
use crate::backend::Backend;
use crate::keyward_process::Setup;
use crate::load::closed::{Closed, Group, Outcome};
use crate::load::drive;
use crate::programs::{Bench, Program};
use crate::series::Series;
use crate::table::Column;

const WORKERS: usize = 2;
/// As the kernel keeps it: 15 characters.
const WORKER_THREAD: &str = "keyward-worker-";

/// One that asks without a pause, and three that ask 50 times a second.
const FOUR: [Group; 2] = [
    Group { connections: 1, pause_us: 0, opens_after_ms: 0 },
    Group { connections: 3, pause_us: 20_000, opens_after_ms: 0 },
];

/// Comes once the four have been at work for a while; each asks eight times a second, together about as much as a hot one. No less: one connection has one
/// worker, so that two workers beside a hot one can only be even where the others are worth as much.
const CROWD: Group = Group { connections: 2_000, pause_us: 125_000, opens_after_ms: 300 };

pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let setup = Setup { workers: WORKERS, keys: 1_000, has_policy: true, has_access_log: false };
    let crowd = bench.arguments.pick(CROWD, Group { connections: 200, ..CROWD });
    let (warm_ms, window_ms) = bench.arguments.pick((1_200, 2_000), (900, 400));
    let (mut few, mut many, mut hot) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=bench.arguments.rounds {
        bench.say(&format!("  skew, round {round} of {}", bench.arguments.rounds));
        // Anew in each round: where a connection lands depends on those before it.
        let program = bench.keyward(Column::Policy, backend.address, setup)?;
        let turn = drive(job(&program, &FOUR, program.secrets.clone(), 300, window_ms)?);
        few.push(bench.keep("skew", Column::Policy, turn.and_then(|turn| unevenness(&turn))));
        let all = [FOUR.as_slice(), &[crowd]].concat();
        let turn = drive(job(&program, &all, program.secrets.clone(), warm_ms, window_ms)?);
        many.push(bench.keep("skew", Column::Policy, turn.and_then(|turn| unevenness(&turn))));
        let turn = hot_key(&program, bench.arguments.pick(2_000, 300));
        hot.push(bench.keep("hot key", Column::Policy, turn));
    }
    let table = &mut bench.table;
    let alone = |series| vec![(Column::Policy, Series(series))];
    table.add_alone("2 workers, CPU max/mean: 4 connections, 1 hot", alone(few), "(one connection has one worker)");
    table.add_alone(format!("... then {} more", crowd.connections), alone(many), "<= 1.30");
    table.add_alone("one hot key / many keys: CPU per request", alone(hot), "<= 1.20");
    Ok(())
}

fn job(
    program: &Program,
    groups: &[Group],
    secrets: Vec<String>,
    warm_ms: u64,
    window_ms: u64,
) -> anyhow::Result<Closed> {
    let (target, watched) = (program.address, program.pid()?);
    Ok(Closed { target, secrets, groups: groups.to_vec(), body_bytes: BODY_BYTES, warm_ms, window_ms, watched })
}

/// The busiest worker's CPU over the mean of all.
fn unevenness(turn: &Outcome) -> anyhow::Result<f64> {
    let workers = turn.spent.threads.iter().filter(|(name, _)| name.starts_with(WORKER_THREAD));
    let cpu = workers.map(|(_, ns)| *ns as f64).collect::<Vec<_>>();
    anyhow::ensure!(cpu.len() == WORKERS, "{} threads named {WORKER_THREAD}", cpu.len());
    let mean = cpu.iter().sum::<f64>() / cpu.len() as f64;
    Ok(cpu.into_iter().fold(0.0, f64::max) / mean)
}

/// What a request costs when all connections use one key, over what it costs when each uses its own.
fn hot_key(program: &Program, window_ms: u64) -> anyhow::Result<f64> {
    let groups = [Group { connections: 64, pause_us: 0, opens_after_ms: 0 }];
    let many = drive(job(program, &groups, program.secrets.clone(), 200, window_ms)?)?;
    let one = drive(job(program, &groups, program.secrets[..1].to_vec(), 200, window_ms)?)?;
    Ok(one.us_per_request() / many.us_per_request())
}
