//! What a process has used, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// CPU of a process at a moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// By thread: its name and nanoseconds on a CPU.
    threads: BTreeMap<u32, (String, u64)>,
    /// Clock ticks in user and system mode: coarse, good for the split only.
    user_ticks: u64,
    system_ticks: u64,
}

/// CPU between two moments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spent {
    pub total_ns: u64,
    /// The part of it in user mode, 0 to 1.
    pub user_share: f64,
    /// Each thread's name and nanoseconds.
    pub threads: Vec<(String, u64)>,
}

/// Memory of a process at a moment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Memory {
    /// Proportional set size: what is shared counts in part.
    pub pss_kib: u64,
    pub rss_kib: u64,
}

/// CPU used so far.
pub fn sample(pid: u32) -> anyhow::Result<Sample> {
    let mut threads = BTreeMap::new();
    let folder = format!("/proc/{pid}/task");
    for entry in fs::read_dir(&folder).with_context(|| folder.clone())? {
        let entry = entry?;
        let thread = entry.file_name().to_string_lossy().parse()?;
        // A thread may end while its folder is read.
        let Ok(schedstat) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
        let ns = schedstat.split(' ').next().unwrap_or_default().parse().context("schedstat")?;
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        threads.insert(thread, (name.trim().to_owned(), ns));
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(") ").context("/proc/PID/stat")?.1.split(' ').collect::<Vec<_>>();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).context("/proc/PID/stat");
    Ok(Sample { threads, user_ticks: ticks(11)?, system_ticks: ticks(12)? })
}

/// What was used between two samples of one process.
pub fn spent(before: &Sample, after: &Sample) -> Spent {
    let since = |(thread, (name, ns)): (&u32, &(String, u64))| {
        let then = before.threads.get(thread).map_or(0, |(_, ns)| *ns);
        (name.clone(), ns.saturating_sub(then))
    };
    let threads = after.threads.iter().map(since).collect::<Vec<_>>();
    let user = (after.user_ticks - before.user_ticks) as f64;
    let system = (after.system_ticks - before.system_ticks) as f64;
    let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
    Spent { total_ns: threads.iter().map(|(_, ns)| ns).sum(), user_share, threads }
}

/// Memory now.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    Ok(Memory { pss_kib: kib(&text, "Pss:").context("Pss")?, rss_kib: kib(&text, "Rss:").context("Rss")? })
}

/// Forgets the highest resident memory so far.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    let file = format!("/proc/{pid}/clear_refs");
    fs::write(&file, "5").with_context(|| file)
}

/// The highest resident memory since the start, or since it was forgotten.
pub fn peak_kib(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kib(&text, "VmHWM:").context("VmHWM")
}

fn kib(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
}
