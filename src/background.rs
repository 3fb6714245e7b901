//! Threads that answer no client give way to those that do: the store's, the ledger's, the control plane's. On a machine that is busy a storm
//! of operators' changes then waits for the requests, and not they for it.
#![cfg_attr(
    target_os = "linux",
    expect(
        unsafe_code,
        reason = "how long a thread may run at a stretch is set by a system call that no safe crate offers"
    )
)]

/// Of the store, the ledger and the files that are watched, which must keep up: a worker that wants the same core gets three times their share (niceness, 0 to 19).
pub const BOOKS: i32 = 5;

/// Of the control plane, where people wait: a worker gets nine times its share.
pub const OPERATORS: i32 = 10;

/// Makes the calling thread, and those it starts, so much nicer than a worker from now on. Where the system has no such thing for a
/// thread alone, nothing happens.
pub fn give_way(niceness: i32) {
    // Linux keeps the niceness of each thread by itself (setpriority(2), NOTES); elsewhere it is the whole process's.
    #[cfg(not(target_os = "linux"))]
    let _unused = niceness;
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, niceness)
        .map_err(std::io::Error::from)
        .and_then(|()| ask_for_long_slices(niceness))
    {
        tracing::debug!(%error, "a thread keeps the priority of the workers");
    }
}

/// How long a thread that gives way runs at a stretch where nobody else wants its core, nanoseconds; 0.1 to 100 ms.
#[cfg(target_os = "linux")]
const SLICE_NS: u64 = 50_000_000;

/// Niceness says how much of a core a thread gets, and not how soon another one does: a worker that wakes up waits until whoever runs there has
/// had its slice, 3 ms as a rule, unless it is one of longer slices than the worker's own (Linux 6.12, `PREEMPT_SHORT`; kernels
/// before that take the call and change nothing).
#[cfg(target_os = "linux")]
fn ask_for_long_slices(niceness: i32) -> std::io::Result<()> {
    /// `struct sched_attr` in its first version, sched_setattr(2).
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or(u32::MAX);
    let attributes = Attributes { size, nice: niceness, runtime_ns: SLICE_NS, ..Attributes::default() };
    // SAFETY: the kernel reads as many bytes of `attributes` as its first field says, which is its size, and writes nothing; thread 0 is the
    // calling one.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_thread_that_asks_gives_way_and_no_other() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let after = std::thread::spawn(move || {
            super::give_way(super::OPERATORS);
            niceness()
        });
        assert_eq!((after.join().unwrap(), niceness()), (super::OPERATORS, before));
    }
}
