//! From the start to the first answer, and a reload of many keys while requests come in.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::{BODY_BYTES, CONNECTIONS};
use crate::backend::Backend;
use crate::keyward_process::Setup;
use crate::load::paced::Paced;
use crate::load::{Load, drive};
use crate::moment::Moment;
use crate::probe::Probe;
use crate::programs::{Bench, Program};
use crate::series::Series;
use crate::table::Column;

const PER_SECOND: u64 = 2_000;

pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let keys = bench.arguments.pick(10_000, 1_000);
    let setup = Setup { workers: 0, keys, has_policy: true, has_access_log: false };
    let mut started = Vec::new();
    for _ in 0..bench.arguments.rounds * 2 {
        let program = bench.keyward(Column::Policy, backend.address, setup)?;
        started.push(Some(program.started_in.as_secs_f64() * 1e3));
    }
    let started = vec![(Column::Policy, Series(started))];
    bench.table.add_alone(format!("start to first answer, {keys} file keys, ms"), started, "< 100");

    let keys = bench.many_keys();
    let program = bench.keyward(Column::Policy, backend.address, Setup { workers: 2, keys, ..setup })?;
    let (mut quiet, mut reloading, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=bench.arguments.rounds {
        bench.say(&format!("  reload, round {round} of {}", bench.arguments.rounds));
        let window_ms = bench.arguments.pick(4_000, 3_000);
        let turn = drive(job(&program, window_ms)).map(|turn| turn.most_us / 1e3);
        quiet.push(bench.keep("without reload", Column::Policy, turn));
        let turn = reload(&program, window_ms, round % 2 == 1);
        let turn = bench.keep("reload", Column::Policy, turn);
        reloading.push(turn.map(|(most_ms, _)| most_ms));
        seen.push(turn.map(|(_, seen_ms)| seen_ms));
    }
    let alone = |series| vec![(Column::Policy, Series(series))];
    let table = &mut bench.table;
    table.add_alone("longest wait of a request at 2,000/s, ms", alone(quiet), "");
    table.add_alone(format!("... while {keys} file keys are reloaded"), alone(reloading), "<= 5 over the line above");
    table.add_alone("one file key's change until a request sees it, ms", alone(seen), "");
    Ok(())
}

fn job(program: &Program, window_ms: u64) -> Paced {
    // The last key is the one that changes.
    let secrets = program.secrets.split_last().map_or_else(Vec::new, |(_, others)| others.to_vec());
    let (warm_ms, target) = (300, program.address);
    Paced {
        target,
        secrets,
        connections: CONNECTIONS,
        per_second: PER_SECOND,
        body_bytes: BODY_BYTES,
        warm_ms,
        window_ms,
    }
}

/// Changes one key of the file under load. The longest wait of a request, and the time until the change was seen, ms.
fn reload(program: &Program, window_ms: u64, is_disabled: bool) -> anyhow::Result<(f64, f64)> {
    let keys = program.keys.as_ref().context("a key file")?;
    let changed = keys.secrets.last().context("a key")?;
    let mut probe = Probe::open(program.address)?;
    let wanted = if is_disabled { 401 } else { 200 };
    ensure!(probe.ask(changed)? != wanted, "the key is changed already");
    // Before the load: to make it takes a core for longer than the program takes to read it.
    keys.write(is_disabled)?;
    let load = Load::start(job(program, window_ms))?;
    // Into the window, and then as an operator would: a new file, and a word that it is there.
    std::thread::sleep(Duration::from_millis(700));
    keys.put()?;
    let began = Moment::now();
    program.process.as_ref().context("a process")?.hang_up()?;
    let limit = Duration::from_millis(window_ms.saturating_sub(500));
    let seen = loop {
        if probe.ask(changed)? == wanted {
            break began.elapsed();
        }
        if began.elapsed() > limit {
            bail!("a change of the key file is not in force after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let outcome = load.finish()?;
    Ok((outcome.most_us / 1e3, seen.as_secs_f64() * 1e3))
}
