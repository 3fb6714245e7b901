//! schemathesis against the admin API by its own document: every operation, good and bad input, every check it has.
//!
//! It is installed once below `target/schemathesis`, and again when its pinned version changes. Python is required.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use keyward::clock::Clock;
use serde_json::Value;

#[path = "admin/house.rs"]
#[expect(dead_code, reason = "the admin API's own tests use all of it")]
mod house;

#[expect(dead_code, reason = "the data plane's tests use all of it")]
#[path = "it/harness/client.rs"]
mod client;

use house::{House, WRITER};

/// Cases for each operation in each phase: the whole takes well under a minute, and what it finds it finds soon.
const EXAMPLES: &str = "40";

#[test]
fn schemathesis_finds_no_failure() {
    let python = python_with_schemathesis();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    // Guessed tokens are part of what is tried; the throttle has tests of its own.
    let house = runtime.block_on(House::start_with(Clock::system(), |operators| operators.allowing(u32::MAX)));
    let home = installed();
    let report = home.join("report.json");
    // A report of an earlier run must not pass for this one's; there may be none.
    let _ = fs::remove_file(&report);
    let mut command = python.command();
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(sources().join("schemathesis.toml")).arg("run");
    command.arg(format!("http://{}/openapi.json", house.address));
    command.args(["--checks", "all", "--mode", "all", "--phases", "examples,coverage,fuzzing,stateful"]);
    command.args(["--max-examples", EXAMPLES, "--seed", "20260101", "--continue-on-failure", "--no-color"]);
    command.args(["--request-timeout", "20", "--generation-database", "none"]);
    command.args(["--header", &format!("Authorization: Bearer {WRITER}")]);
    command.args(["--report", "ndjson", "--report-ndjson-path"]).arg(&report).current_dir(&home);
    let output = run(command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "schemathesis found something:\n{said}");
    let covered = answered_well(&report);
    let missed: Vec<_> = operations().into_iter().filter(|operation| !covered.contains(operation)).collect();
    assert!(missed.is_empty(), "no request to these was answered well: {missed:?}");
}

/// Method and path of every operation of the document.
fn operations() -> Vec<(String, String)> {
    let document = keyward::admin::native::document();
    let paths = document["paths"].as_object().expect("paths").iter();
    let all = paths.flat_map(|(path, item)| {
        let methods = item.as_object().expect("operations").keys();
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    });
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 17, "every call of the native API is described");
    all
}

/// The operations of which some request was answered with 2xx.
fn answered_well(report: &Path) -> BTreeSet<(String, String)> {
    let report = fs::read_to_string(report).expect("a report");
    let mut covered = BTreeSet::new();
    for line in report.lines() {
        let event: Value = serde_json::from_str(line).expect("a line of JSON");
        let recorder = &event["ScenarioFinished"]["recorder"];
        for (id, case) in recorder["cases"].as_object().into_iter().flatten() {
            let status = recorder["interactions"][id]["response"]["status_code"].as_u64();
            if status.is_some_and(|status| (200..300).contains(&status)) {
                let text = |name: &str| case["value"][name].as_str().unwrap_or_default().to_owned();
                covered.insert((text("method"), text("path")));
            }
        }
    }
    covered
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis")
}

/// Where it is installed: beside the build, so that it goes when that goes.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let home = target.join("schemathesis");
    fs::create_dir_all(&home).expect("a directory for schemathesis");
    home
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"))
}

fn must(command: &mut Command) {
    let output = run(command);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?} failed:\n{}{}", said(&output.stdout), said(&output.stderr));
}

/// An interpreter that finds schemathesis.
struct Python {
    program: PathBuf,
    packages: Option<PathBuf>,
}

impl Python {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(packages) = &self.packages {
            command.env("PYTHONPATH", packages);
        }
        command
    }
}

fn python_with_schemathesis() -> Python {
    let home = installed();
    let requirements = sources().join("requirements.txt");
    let pins = fs::read_to_string(&requirements).expect("the pinned version");
    let (venv, packages, stamp) = (home.join("venv"), home.join("packages"), home.join("installed-pins"));
    let program = venv.join("bin/python");
    if !fs::read_to_string(&stamp).is_ok_and(|before| before == pins) {
        let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        if made.status.success() {
            // Only one of the two is there, so that it is clear which to use.
            let _ = fs::remove_dir_all(&packages);
            must(Command::new(&program).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements));
        } else {
            // Some systems ship python3 without ensurepip, and so without virtual environments.
            let _ = fs::remove_dir_all(&venv);
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&packages);
            must(pip.arg("--requirement").arg(&requirements));
        }
        fs::write(stamp, pins).expect("the pins are noted");
    }
    match program.exists() {
        true => Python { program, packages: None },
        false => Python { program: "python3".into(), packages: Some(packages) },
    }
}
