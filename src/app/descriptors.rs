//! File descriptors: as many as the system allows, and what that leaves for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::proxy::Plane;

/// Kept for the store, the log, the admin listener, files that are watched and read.
const RESERVE: u64 = 128 + 512;

/// The least that is left for connections, whatever the system allows.
const LEAST: u64 = 16;

/// The most descriptors that room is made for beforehand: a megabyte of the kernel's.
const WIDEST: u64 = 1 << 17;

/// Raises this process's limit to what the system allows it, and gives what it is then; `None` where there is no limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, "the limit of open files cannot be raised");
            current
        }
    }
}

/// Connections that so many descriptors are enough for: each has one of its own and one to an upstream.
pub fn room_for_connections(descriptors: u64) -> u64 {
    // Where there is little, less is kept, or nothing would be left.
    let reserve = RESERVE.min(descriptors / 2);
    ((descriptors - reserve) / 2).max(LEAST)
}

/// Widens the kernel's table of this process's descriptors to `count` of them, as far as that is allowed. It is widened when a descriptor has
/// no place in it, and in a process with threads whoever opens that one waits until every processor has been elsewhere (Linux, `expand_files`):
/// for 5 to 20 ms each time it doubles, and with a worker all of its streams.
fn widen(count: u64) {
    let Some(highest) = i32::try_from(count.min(WIDEST)).ok().and_then(|count| count.checked_sub(1)) else { return };
    // Given back at once; the table stays as it is.
    if let Err(error) = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), highest) {
        tracing::debug!(%error, highest, "the table of descriptors grows as it is needed");
    }
}

/// Raises the limit, makes room, and lets the data plane have no more connections than it is enough for.
pub fn reserve(plane: &Plane) {
    let allowed = raise();
    let all = u64::from(plane.live.load().settings.max_connections) * 2 + RESERVE;
    widen(allowed.map_or(all, |allowed| allowed.min(all)));
    let Some(descriptors) = allowed else { return };
    let room = room_for_connections(descriptors);
    plane.overload.set_most_connections(usize::try_from(room).unwrap_or(usize::MAX));
    plane.metrics.connections_room.set(i64::try_from(room).unwrap_or(i64::MAX));
    let wanted = plane.live.load().settings.max_connections;
    if room < u64::from(wanted) {
        tracing::warn!(
            descriptors,
            room,
            max_connections = wanted,
            "the system allows too few open files for server.max_connections; no more than fit are accepted: raise the limit \
             (ulimit -n, LimitNOFILE=) to twice max_connections and 640"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_table_is_as_wide_as_it_is_made_and_nothing_stays_open_in_it() {
        let allowed = raise().unwrap_or(4_000).min(4_000);
        widen(allowed);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= allowed, "{size}");
        assert!(!std::path::Path::new(&format!("/proc/self/fd/{}", allowed - 1)).exists());
    }

    #[test]
    fn half_of_what_is_not_kept_back_is_for_connections() {
        assert_eq!(room_for_connections(20_640), 10_000);
        assert_eq!(room_for_connections(1_024), 256);
        assert_eq!(room_for_connections(64), 16);
        assert_eq!(room_for_connections(0), LEAST);
    }
}
