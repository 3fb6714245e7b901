//! Keyward end to end, beside HAProxy and nginx where they are installed: CPU, latency, streams, memory, skew, bodies and start,
//! in one table.
//!
//! `cargo bench --bench proxy` runs everything, `cargo bench --bench proxy -- requests streams` some rows of it, `-- --help`
//! says what else there is. The program starts its own backend and its own load, each a process of its own, so that only the
//! proxy's CPU is counted: from `/proc/PID/task/*/schedstat`. All programs are driven in turn with the same bytes.

#[path = "proxy/arguments.rs"]
mod arguments;
#[path = "proxy/backend.rs"]
mod backend;
#[path = "proxy/cpu.rs"]
mod cpu;
#[path = "proxy/guard.rs"]
mod guard;
#[path = "proxy/keyward.rs"]
mod keyward_process;
#[path = "proxy/load.rs"]
mod load;
#[path = "proxy/moment.rs"]
mod moment;
#[path = "proxy/probe.rs"]
mod probe;
#[path = "proxy/programs.rs"]
mod programs;
#[path = "proxy/request.rs"]
mod request;
#[path = "proxy/rivals.rs"]
mod rivals;
#[path = "proxy/rows.rs"]
mod rows;
#[path = "proxy/series.rs"]
mod series;
#[path = "proxy/surroundings.rs"]
mod surroundings;
#[path = "proxy/table.rs"]
mod table;

use std::process::ExitCode;

use arguments::{Arguments, Asked};

fn main() -> ExitCode {
    let words = std::env::args().skip(1).collect::<Vec<_>>();
    let ended = match words.first().map(String::as_str) {
        Some(guard::MODE) => guard::become_program(&words[1..]).map(|never| match never {}),
        Some(backend::MODE) => backend::run(),
        Some(load::MODE) => load::run(),
        _ => return measure(&words),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy bench, {}: {error:#}", words[0]);
            ExitCode::FAILURE
        }
    }
}

fn measure(words: &[String]) -> ExitCode {
    let arguments = match arguments::read(words) {
        Asked::Measure(arguments) => arguments,
        Asked::Train => return report(train()),
        Asked::Help => {
            println!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        // `cargo test --benches` runs every bench without `--bench`; this one has nothing to say then.
        Asked::Nothing => return ExitCode::SUCCESS,
        Asked::Unknown(word) => {
            eprintln!("proxy bench: {word:?} is not known\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    report(run(arguments))
}

fn report(ended: anyhow::Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("proxy bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn train() -> anyhow::Result<bool> {
    guard::raise_descriptor_limit()?;
    let mut bench = programs::Bench::new(Arguments { rows: Vec::new(), rounds: 1, is_quick: false })?;
    rows::train::run(&mut bench).map(|()| true)
}

/// True when every row asked for was measured.
fn run(arguments: Arguments) -> anyhow::Result<bool> {
    guard::raise_descriptor_limit()?;
    let mut bench = programs::Bench::new(arguments)?;
    let mut is_whole = true;
    for row in bench.arguments.rows.clone() {
        bench.say(&format!("{}:", row.name()));
        if let Err(error) = rows::measure(row, &mut bench) {
            is_whole = false;
            bench.notes.push(format!("{}: {error:#}", row.name()));
            eprintln!("{}: {error:#}", row.name());
        }
    }
    println!("{}", bench.table.render());
    for note in &bench.notes {
        println!("* {note}");
    }
    Ok(is_whole && bench.table.is_whole())
}
