//! How much memory the process has, and whether that is more than it is to have: the control plane looks, workers shed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::proxy::Plane;
use crate::proxy::settings::MemoryLimit;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(250);

/// Bytes of its memory, as the system counts them; `None` where it does not say.
pub fn used() -> Option<u64> {
    resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?.checked_mul(rustix::param::page_size() as u64)
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse().ok()
}

/// What its control group may have; `None` where it is in none, or that has no limit.
pub fn of_control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// The least of the limits of its group and of those around it.
fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // Version 2 has one line, version 1 one for each controller.
    let folder = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let inner = root.join(path.trim_start_matches('/'));
        // In a container the path may be the host's, and the root is its own group.
        let around = inner.ancestors().take_while(|folder| folder.starts_with(&root)).chain([&*root]);
        around.filter_map(|folder| read(&folder.join(file))).min()
    };
    // Version 1 says "no limit" with a number near the largest.
    groups.lines().filter_map(folder).min().filter(|limit| *limit < 1 << 60)
}

/// Above which requests are shed; `None` for never.
fn bound(limit: MemoryLimit, of_control_group: Option<u64>) -> Option<u64> {
    match limit {
        MemoryLimit::Auto => of_control_group.map(|limit| limit / 10 * 9),
        MemoryLimit::None => None,
        MemoryLimit::Bytes(bytes) => Some(bytes),
    }
}

/// Whether there is too much, where that was the case before or not: it is over only some way below the bound.
fn is_short(used: u64, bound: u64, was_short: bool) -> bool {
    used > if was_short { bound / 20 * 19 } else { bound }
}

/// Looks until the program ends.
pub async fn watch(plane: Arc<Plane>) {
    let of_group = of_control_group();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_short = false;
    loop {
        looks.tick().await;
        let Some(used) = used() else { return };
        let bound = bound(plane.live.load().settings.memory_limit, of_group);
        let shown = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        plane.metrics.memory_bytes.set(shown(used));
        plane.metrics.memory_limit_bytes.set(shown(bound.unwrap_or(0)));
        let is_short = bound.is_some_and(|bound| is_short(used, bound, was_short));
        if is_short != was_short {
            was_short = is_short;
            plane.overload.set_short_of_memory(is_short);
            if is_short {
                tracing::warn!(used, bound, "more memory than there is to be; requests are shed");
            } else {
                tracing::info!(used, bound, "there is memory again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_some_memory() {
        assert!(used().unwrap() > 1 << 20);
        assert_eq!(resident_pages("1000 250 30 4 0 5 0"), Some(250));
        assert_eq!(resident_pages(""), None);
    }

    #[test]
    fn the_tightest_limit_around_a_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("system.slice/keyward.service");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        let groups = "0::/system.slice/keyward.service\n";
        assert_eq!(limit_of(groups, root.path()), None);
        fs::write(root.path().join("system.slice/memory.max"), "2000000\n").unwrap();
        assert_eq!(limit_of(groups, root.path()), Some(2_000_000));
        fs::write(inner.join("memory.max"), "1000000\n").unwrap();
        assert_eq!(limit_of(groups, root.path()), Some(1_000_000));
        let old = root.path().join("memory/docker/abc");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("memory.limit_in_bytes"), "9223372036854771712").unwrap();
        let groups = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n";
        assert_eq!(limit_of(groups, root.path()), None);
        fs::write(old.join("memory.limit_in_bytes"), "5000").unwrap();
        assert_eq!(limit_of(groups, root.path()), Some(5_000));
        assert_eq!(limit_of("nonsense", root.path()), None);
    }

    #[test]
    fn shedding_begins_at_the_bound_and_ends_below_it() {
        assert_eq!(bound(MemoryLimit::Auto, Some(1_000)), Some(900));
        assert_eq!((bound(MemoryLimit::Auto, None), bound(MemoryLimit::None, Some(1))), (None, None));
        assert!(!is_short(1_000, 1_000, false) && is_short(1_001, 1_000, false));
        assert!(is_short(951, 1_000, true) && !is_short(950, 1_000, true));
    }
}
