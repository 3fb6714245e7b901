//! The program's allocator, and how soon it gives memory back.
#![expect(
    unsafe_code,
    reason = "the allocator's settings are a C table that no safe crate writes, and its environment is read before the program runs; nor does one ask it for what is free"
)]

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds after which freed memory goes back to the system. By default it is a second, and then only what is freed after that sees to
/// it: of what a crowd of streams needed most would stay for good once they have all ended.
const PURGE_DELAY_MS: i64 = 50;

/// `mi_option_purge_delay` of `mimalloc.h`, which the crate does not name.
const PURGE_DELAY: mi_option_t = 15;

/// Sets the allocator up. To be called first, while there is one thread.
pub fn set_up() {
    // An operator's own setting stands.
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: the call stores an integer in a table of the allocator's, which any value in range may be, and no other thread reads yet.
        unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    }
}

/// Gives all free memory of the calling thread, and what others have let go of, back to the system now.
pub fn give_back() {
    // SAFETY: it touches nothing but memory that is free, and any thread may call it at any time.
    unsafe { mi_collect(true) };
}
