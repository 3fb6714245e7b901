//! CPU per request at saturation: small bodies, kept connections, a closed loop.

use super::{BODY_BYTES, CONNECTIONS};
use crate::backend::Backend;
use crate::keyward_process::Setup;
use crate::load::closed::{Closed, Group, Outcome};
use crate::load::drive;
use crate::programs::{Bench, Program, cells};
use crate::table::Column;

pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let mut programs = bench.rivals(backend.address, false)?;
    programs.extend(bench.keywards(backend.address)?);
    let policies = Setup { workers: 1, keys: bench.many_keys(), has_policy: true, has_access_log: false };
    let guarded = bench.haproxy_with(backend.address, Some(policies))?;
    let has_guarded = guarded.is_some();
    programs.extend(guarded);
    let logging = Setup { has_access_log: true, ..policies };
    programs.push(bench.keyward(Column::Policy, backend.address, logging)?);
    let (warm_ms, window_ms) = bench.arguments.pick((300, 2_000), (100, 400));
    let mut turns = bench.rounds("requests", &programs, |program| drive(job(program, warm_ms, window_ms)?));
    // The last programs fill lines of their own.
    let logged = turns.pop();
    let guarded = has_guarded.then(|| turns.pop()).flatten();
    let table = &mut bench.table;
    table.add("CPU us/request", cells(&turns, total), "<= 1.00 HAProxy, <= 0.95 nginx");
    table.add("... user", cells(&turns, |turn| Some(total(turn)? * turn.spent.user_share)), "");
    table.add("... system", cells(&turns, |turn| Some(total(turn)? * (1.0 - turn.spent.user_share))), "");
    table.add("requests/s per core", cells(&turns, |turn| Some(1e6 / total(turn)?)), "");
    let ours = turns.last().filter(|_| guarded.is_some());
    let same_work = guarded.iter().chain(ours).flat_map(|one| cells(std::slice::from_ref(one), total)).collect();
    table.add("CPU us/request, HAProxy with keys, models, addresses, rpm", same_work, "");
    table.add("CPU us/request, access lines to /dev/null", cells(logged.as_slice(), total), "");
    Ok(())
}

fn total(turn: &Outcome) -> Option<f64> {
    Some(turn.us_per_request())
}

fn job(program: &Program, warm_ms: u64, window_ms: u64) -> anyhow::Result<Closed> {
    Ok(Closed {
        target: program.address,
        secrets: program.secrets.clone(),
        groups: vec![Group { connections: CONNECTIONS, pause_us: 0, opens_after_ms: 0 }],
        body_bytes: BODY_BYTES,
        warm_ms,
        window_ms,
        watched: program.pid()?,
    })
}
