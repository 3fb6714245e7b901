//! Where a table comes from: the machine, how busy it was, and which rivals ran.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use tokio::signal::unix::{SignalKind, signal};

/// Others at work change every number; more than this is worth a word.
const BUSY: f64 = 0.3;

/// Lines for beneath the table.
pub fn describe(rivals: &[&Path]) -> Vec<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let mut lines = vec![format!("{cores} cores, {model}, Linux {}", kernel.trim())];
    lines.extend(rivals.iter().filter_map(|program| version(program)));
    let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
    if load > BUSY * cores as f64 {
        lines.push(format!(
            "the machine was busy with something else (load average {load:.1}): take no number for its own"
        ));
    }
    lines
}

/// HAProxy says it on standard output, nginx on standard error.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("-v").output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().map(str::to_owned)
}

/// Takes `folder` away when a signal ends the bench. Its children are killed by the kernel then.
pub fn clear_when_ended(folder: PathBuf) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut int, mut term) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
        });
        // What cannot be taken away stays in the system's temporary folder.
        let _ = fs::remove_dir_all(folder);
        exit(130);
    });
    Ok(())
}
