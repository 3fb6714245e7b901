//! A little of every load, for a compiler that is to learn what runs how often (profile-guided optimization). Nothing is measured.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{BODY_BYTES, CONNECTIONS};
use crate::backend::Backend;
use crate::keyward_process::Setup;
use crate::load::closed::{Closed, Group};
use crate::load::drive;
use crate::load::streams::Streams;
use crate::programs::{Bench, Program};
use crate::table::Column;

/// How long a program may take to end, and to write down what it has counted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Drives Keyward with and without limits and access lines, and ends it as an operator would: what was counted is written at its end.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let plain = Setup { workers: 1, keys: 1_000, has_policy: false, has_access_log: false };
    let policy = Setup { has_policy: true, ..plain };
    for setup in [plain, policy, Setup { has_access_log: true, ..policy }] {
        let program = bench.keyward(Column::Policy, backend.address, setup)?;
        for (connections, body_bytes, window_ms) in
            [(CONNECTIONS, BODY_BYTES, 3_000), (2, BODY_BYTES, 1_000), (2, 1_000_000, 200)]
        {
            drive(requests(&program, connections, body_bytes, window_ms)?)?;
        }
        for burst in [1, 16] {
            drive(streams(&program, burst))?;
        }
        let process = program.process.context("Keyward is a process")?;
        ensure!(process.end(PATIENCE)?.success(), "it did not end in order");
    }
    Ok(())
}

fn requests(program: &Program, connections: usize, body_bytes: usize, window_ms: u64) -> anyhow::Result<Closed> {
    Ok(Closed {
        target: program.address,
        secrets: program.secrets.clone(),
        groups: vec![Group { connections, pause_us: 0, opens_after_ms: 0 }],
        body_bytes,
        warm_ms: 100,
        window_ms,
        watched: program.pid()?,
    })
}

fn streams(program: &Program, burst: usize) -> Streams {
    Streams {
        target: program.address,
        secrets: program.secrets.clone(),
        streams: 200,
        interval_us: 20_000,
        burst,
        warm_ms: 100,
        window_ms: 1_500,
        watched: program.pid().ok(),
    }
}
