//! Threads that answer no client give way to those that do: the store's, the ledger's, the control plane's. On a machine that is busy a storm
//! of operators' changes then waits for the requests, and not they for it.

/// How much nicer such a thread is than a worker (0 to 19); at 5 a worker that wants the same core gets three times its share.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Makes the calling thread give way from now on, and those it starts. Where the system has no such thing for a thread alone, nothing
/// happens.
pub fn give_way() {
    // Linux keeps the niceness of each thread by itself (setpriority(2), NOTES); elsewhere it is the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
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
            super::give_way();
            niceness()
        });
        assert_eq!((after.join().unwrap(), niceness()), (super::NICENESS.max(before), before));
    }
}
