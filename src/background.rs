//! Threads that answer no client give way to those that do: the store's, the ledger's, the control plane's. On a machine that is busy a storm
//! of operators' changes then waits for the requests, and not they for it.

/// Of the store and the ledger, which must keep up: a worker that wants the same core gets three times their share (niceness, 0 to 19).
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
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        tracing::debug!(%error, "a thread keeps the priority of the workers");
    }
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
