//! Large request bodies: CPU per MB, and the most memory they take.

use crate::backend::Backend;
use crate::load::closed::{Closed, Group, Outcome};
use crate::load::drive;
use crate::programs::{Bench, cells};

const MB: usize = 1_000_000;

/// MB of a body, how many are sent at once, and the window: long enough for a request more or less not to matter.
const SIZES: [(usize, usize, u64); 2] = [(1, 4, 1_500), (20, 2, 3_500)];

pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let mut programs = bench.rivals(backend.address, false)?;
    programs.extend(bench.keywards(backend.address)?);
    for (size, connections, window_ms) in SIZES {
        let (warm_ms, window_ms) = bench.arguments.pick((200, window_ms), (100, 1_000));
        let turns = bench.rounds(&format!("bodies of {size} MB"), &programs, |program| {
            drive(Closed {
                target: program.address,
                secrets: program.secrets.clone(),
                groups: vec![Group { connections, pause_us: 0, opens_after_ms: 0 }],
                body_bytes: size * MB,
                warm_ms,
                window_ms,
                watched: program.pid()?,
            })
        });
        let per_mb = |turn: &Outcome| Some(turn.us_per_request() / size as f64);
        bench.table.add(format!("bodies of {size} MB: CPU us/MB"), cells(&turns, per_mb), "<= 1.00 nginx");
        let peak = |turn: &Outcome| Some(turn.peak_kib as f64 / 1024.0);
        let what = format!("... MiB resident at the most, {connections} at once");
        bench.table.add_alone(what, cells(&turns, peak), "bounded by body_budget");
    }
    Ok(())
}
