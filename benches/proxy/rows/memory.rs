//! Memory per open stream, as the slope between two numbers of them; and what stays when they are gone.
//!
//! Memory does not depend on who else runs, so all programs hold their streams at the same time, each with a backend of its own.

use crate::backend::Backend;
use crate::guard::descriptor_limit;
use crate::keyward_process::Setup;
use crate::load::Load;
use crate::load::held::{Held, Outcome};
use crate::programs::{Bench, Program, Turns, cells};
use crate::table::Column;

/// Memory varies little; each round takes half a minute.
const MOST_ROUNDS: usize = 3;

pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let rounds = bench.arguments.rounds.min(MOST_ROUNDS);
    let steps = steps(bench);
    let mut all: Vec<Turns<Outcome>> = Vec::new();
    for round in 1..=rounds {
        bench.say(&format!("  memory, round {round} of {rounds}"));
        for (column, turn) in hold(bench, &steps)? {
            match all.iter_mut().find(|turns| turns.column == column) {
                Some(turns) => turns.turns.push(turn),
                None => all.push(Turns { column, turns: vec![turn] }),
            }
        }
    }
    let (few, some, most) = (steps[0], steps[1], steps[2]);
    let table = &mut bench.table;
    let slope = |from, to| cells(&all, move |turn: &Outcome| turn.slope(from, to));
    table.add(format!("KiB (Pss)/stream, {few} to {some} open"), slope(0, 1), "<= 1.00 nginx");
    table.add(format!("... {some} to {most} open"), slope(1, 2), "<= 1.00 nginx");
    let mib = |kib: u64| kib as f64 / 1024.0;
    table.add("MiB resident (Rss), idle", cells(&all, |turn| Some(mib(turn.before.rss_kib))), "< 15 MB");
    let at_most = cells(&all, |turn| Some(mib(turn.held.last()?.1.rss_kib)));
    table.add(format!("... with {most} streams"), at_most, "");
    let after = if bench.arguments.is_quick { "... 1 s after all closed" } else { "... 10 s after all closed" };
    table.add(after, cells(&all, |turn| Some(mib(turn.after.rss_kib))), "<= 1.2 idle");
    let kept = cells(&all, |turn| Some(turn.after.rss_kib as f64 / turn.before.rss_kib as f64));
    table.add_alone("... over idle", kept, "<= 1.20");
    Ok(())
}

/// Numbers of streams, as many as the descriptors are enough for: a proxied stream takes two.
fn steps(bench: &mut Bench) -> [usize; 3] {
    let wanted = bench.arguments.pick([500, 1_000, 5_000], [50, 100, 300]);
    let most = descriptor_limit().saturating_sub(300) / 2;
    if most >= wanted[2] {
        return wanted;
    }
    bench.notes.push(format!("memory: `ulimit -n` allows {most} streams only"));
    [most / 10, most / 5, most]
}

/// One round: all programs anew, all streams opened, held and closed.
fn hold(bench: &mut Bench, steps: &[usize]) -> anyhow::Result<Vec<(Column, Option<Outcome>)>> {
    let (settle_ms, interval_us, after_ms) = bench.arguments.pick((3_500, 3_000_000, 10_000), (700, 500_000, 1_000));
    let policy = Setup { workers: 1, keys: 64, has_policy: true, has_access_log: false };
    let backends = [Backend::start()?, Backend::start()?, Backend::start()?];
    let mut programs = Vec::new();
    programs.extend(bench.haproxy(backends[0].address)?);
    programs.extend(bench.nginx(backends[1].address, true)?);
    programs.push(bench.keyward(Column::Policy, backends[2].address, policy)?);
    let job = |program: &Program| -> anyhow::Result<Held> {
        Ok(Held {
            target: program.address,
            secrets: program.secrets.clone(),
            steps: steps.to_vec(),
            interval_us,
            settle_ms,
            after_ms,
            watched: program.pid()?,
        })
    };
    let loads = programs.iter().map(|program| Load::start(job(program)?)).collect::<Vec<anyhow::Result<_>>>();
    let ended = programs.iter().zip(loads).map(|(program, load)| (program.column, load.and_then(Load::finish)));
    Ok(ended.map(|(column, turn)| (column, bench.keep("memory", column, turn))).collect())
}
