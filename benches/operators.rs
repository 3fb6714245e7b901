//! What operators wait for with a store full of keys, and what their work costs the data plane: start, pages, changes, storms.
//!
//! `cargo bench --bench operators` fills a store with 1,000,000 keys (`KEYWARD_BENCH_KEYS` says another number), starts the program on it
//! and measures with traffic running. Quiet and storm alternate, so that both meet the same machine.

#[path = "operators/fill.rs"]
mod fill;
#[path = "operators/talk.rs"]
mod talk;
#[path = "operators/traffic.rs"]
mod traffic;

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use comfy_table::{Table, presets};
use keyward::clock::Clock;

use fill::Filled;
use talk::Talk;
use traffic::Latencies;

const TOKEN: &str = "an-operators-token-for-the-bench";
const ROUNDS: usize = 9;
const STORM_PER_SECOND: u32 = 500;
/// Keys of the other program.
const OTHER_KEYS: usize = 20_000;

fn main() -> ExitCode {
    if !std::env::args().any(|word| word == "--bench") {
        return ExitCode::SUCCESS; // `cargo test --benches` has nothing to measure
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("operators bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn config(folder: &Path) -> anyhow::Result<()> {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         tokens = [{{ name = \"bench\", token = \"{TOKEN}\", role = \"write\" }}]\n\
         [[upstreams]]\nname = \"sandbox\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n"
    );
    Ok(std::fs::write(folder.join("keyward.toml"), text)?)
}

/// The program; killed when dropped.
struct Program {
    child: Child,
    data: String,
    admin: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the program and says how long it took until it listened.
fn start(folder: &Path) -> anyhow::Result<(Program, Duration)> {
    let clock = Clock::system();
    let began = clock.monotonic_ns();
    let ready = folder.join("ready");
    let _ = std::fs::remove_file(&ready);
    let log = std::fs::File::create(folder.join("log"))?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["serve", "--config", "keyward.toml", "--ready-file", "ready"])
        .current_dir(folder)
        .env("KEYWARD_LOG", "warn")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let text = loop {
        if let Ok(text) = std::fs::read(&ready) {
            break text;
        }
        if child.try_wait()?.is_some() {
            anyhow::bail!("did not start: {}", std::fs::read_to_string(folder.join("log"))?);
        }
        thread::sleep(Duration::from_millis(1));
    };
    let took = Duration::from_nanos(clock.monotonic_ns() - began);
    let value: serde_json::Value = serde_json::from_slice(&text)?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("an address");
    Ok((Program { child, data: text(&value["data"][0])?, admin: text(&value["admin"])? }, took))
}

fn resident_mib(program: &Program) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}

fn run() -> anyhow::Result<()> {
    let count = std::env::var("KEYWARD_BENCH_KEYS").map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    config(folder.path())?;
    eprintln!("filling a store with {count} keys ...");
    let filled = fill::fill(folder.path(), count)?;
    let (program, started) = start(folder.path())?;
    let mut rows: Vec<(String, String)> = vec![
        (format!("{count} keys written"), format!("{:.1} s", filled.took.as_secs_f64())),
        ("start to ready".to_owned(), format!("{:.2} s", started.as_secs_f64())),
        ("resident after the start".to_owned(), format!("{:.0} MiB", resident_mib(&program)?)),
    ];
    let under_traffic = AtomicBool::new(true);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic::run(&program.data, &filled.secrets, None, &under_traffic));
        let measured = pages(&program, &filled, &mut rows).and_then(|()| changes(&program, &filled, &mut rows));
        under_traffic.store(false, Ordering::Relaxed);
        traffic.join().map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
        measured
    })?;
    storms(&program, &filled, Storm { on: &program, ids: &filled.ids, name: "storm" }, &mut rows)?;
    // What a storm costs a machine whose cores it shares, whatever program it is made on.
    let folder = tempfile::tempdir()?;
    config(folder.path())?;
    let other_keys = fill::fill(folder.path(), OTHER_KEYS)?;
    let (other, _) = start(folder.path())?;
    let elsewhere = Storm { on: &other, ids: &other_keys.ids, name: "storm on another program" };
    storms(&program, &filled, elsewhere, &mut rows)?;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(["what", "measured"]);
    for (what, measured) in rows {
        table.add_row([what, measured]);
    }
    println!("{table}");
    Ok(())
}

fn pages(program: &Program, filled: &Filled, rows: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let mut talk = Talk::connect(&program.admin, TOKEN)?;
    let (_, first) = talk.ask("GET", "/api/v1/gateway/keys?limit=100", "")?;
    let first: serde_json::Value = serde_json::from_slice(&first)?;
    ensure!(first["total"] == filled.ids.len(), "{} keys are listed", first["total"]);
    let cursor = first["next_cursor"].as_str().context("a cursor")?;
    let paths = [
        ("a page of 100", "/api/v1/gateway/keys?limit=100".to_owned()),
        ("the page after it", format!("/api/v1/gateway/keys?limit=100&cursor={cursor}")),
        ("a page of one team", "/api/v1/gateway/keys?limit=100&team_id=team-7".to_owned()),
        ("a page of active keys", "/api/v1/gateway/keys?limit=100&status=active".to_owned()),
        ("a page of disabled keys", "/api/v1/gateway/keys?limit=100&status=disabled".to_owned()),
        ("a page of expired keys", "/api/v1/gateway/keys?limit=100&status=expired".to_owned()),
        ("a page of exhausted keys", "/api/v1/gateway/keys?limit=100&status=exhausted".to_owned()),
        ("a page by name", "/api/v1/gateway/keys?limit=100&name=key-00012".to_owned()),
        ("a page by a part of every name", "/api/v1/gateway/keys?limit=100&name=key".to_owned()),
        ("a page by prefix", "/api/v1/gateway/keys?limit=100&prefix=sk-kw".to_owned()),
        ("a page by model", "/api/v1/gateway/keys?limit=100&model=gpt-4o-mini".to_owned()),
        (
            "a page by model, name and status",
            "/api/v1/gateway/keys?limit=100&model=o1&name=99&status=active".to_owned(),
        ),
        ("one key", format!("/api/v1/gateway/keys/{}", filled.ids[0])),
    ];
    for (what, path) in paths {
        let times = talk.times(40, |_| ("GET", path.clone(), String::new()))?;
        rows.push((format!("{what}, traffic running"), times.told()));
    }
    Ok(())
}

fn changes(program: &Program, filled: &Filled, rows: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let mut talk = Talk::connect(&program.admin, TOKEN)?;
    let change = |turn: usize| {
        let id = filled.ids[turn * 7919 % filled.ids.len()];
        ("PUT", format!("/api/v1/gateway/keys/{id}"), format!(r#"{{"rpm_limit":{}}}"#, 1000 + turn))
    };
    let times = talk.times(300, change)?;
    rows.push(("a change, traffic running".to_owned(), times.told()));
    Ok(())
}

/// Where a storm is made.
struct Storm<'a> {
    on: &'a Program,
    ids: &'a [uuid::Uuid],
    name: &'a str,
}

/// One of the numbers of a measurement.
type Share = fn(&Latencies) -> f64;

/// Quiet and storm in turn; the same traffic in both.
fn storms(
    program: &Program,
    filled: &Filled,
    target: Storm<'_>,
    rows: &mut Vec<(String, String)>,
) -> anyhow::Result<()> {
    let (mut quiet, mut storm) = (Vec::new(), Vec::new());
    let mut changes = Vec::new();
    for round in 0..ROUNDS {
        let is_on = AtomicBool::new(true);
        quiet.push(traffic::run(&program.data, &filled.secrets, Some(traffic::WINDOW), &is_on)?);
        let (measured, made) = thread::scope(|scope| {
            let storming =
                scope.spawn(|| talk::storm(&target.on.admin, TOKEN, target.ids, STORM_PER_SECOND, round, &is_on));
            let measured = traffic::run(&program.data, &filled.secrets, Some(traffic::WINDOW), &is_on);
            is_on.store(false, Ordering::Relaxed);
            (measured, storming.join().map_err(|_| anyhow::anyhow!("the storm panicked")))
        });
        storm.push(measured?);
        changes.push(made?? as f64 / traffic::WINDOW.as_secs_f64());
    }
    let median = |rounds: &[Latencies], of: Share| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let shown: [(&str, Share); 3] = [("p50", |l| l.p50_us), ("p90", |l| l.p90_us), ("p99", |l| l.p99_us)];
    for (name, of) in shown {
        let (calm, rough) = (median(&quiet, of), median(&storm, of));
        let told = format!("{calm:.0} us quiet, {rough:.0} us in a {}: {:.2}x", target.name, rough / calm);
        rows.push((format!("request {name} at {}/s", traffic::PER_SECOND), told));
    }
    changes.sort_by(f64::total_cmp);
    rows.push((format!("changes in a {}", target.name), format!("{:.0}/s", changes[changes.len() / 2])));
    Ok(())
}
