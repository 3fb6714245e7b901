//! The program's allocator, and how soon it gives memory back.
#![expect(
    unsafe_code,
    reason = "an allocator is an unsafe trait over C functions; its settings are a C table that no safe crate writes, and its environment \
    is read before the program runs"
)]

mod sqlite;

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{mi_collect, mi_free, mi_malloc, mi_option_set, mi_option_t, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// mimalloc, asked for an alignment only where what it gives anyway has less. Its own binding always asks: a size that is no power of two is
/// then looked for the long way round, and gets room for the block to be moved in, which it is to be found in again when it is freed.
struct Allocator;

/// Alignments up to here come by themselves: `MI_MAX_ALIGN_SIZE` of `mimalloc/types.h`.
const NATURAL: usize = 16;

/// A block of `size` bytes begins at a multiple of 8, and of 16 where it has 16 bytes or more.
const fn is_natural(size: usize, align: usize) -> bool {
    align <= NATURAL / 2 || (align <= NATURAL && align <= size)
}

// SAFETY: the functions of mimalloc give blocks of at least the size asked for, or null, that nobody else has until they are freed; the
// plain ones are called where `is_natural` says that their blocks are aligned enough, and for all others mimalloc's own binding is. Blocks of
// either may be freed and resized by either.
unsafe impl GlobalAlloc for Allocator {
    // SAFETY: the caller keeps to what the trait asks for.
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout.size(), layout.align()) {
            // SAFETY: any size may be asked for.
            unsafe { mi_malloc(layout.size()) }.cast()
        } else {
            // SAFETY: the caller keeps to the same trait.
            unsafe { MiMalloc.alloc(layout) }
        }
    }

    // SAFETY: the caller keeps to what the trait asks for.
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout.size(), layout.align()) {
            // SAFETY: any size may be asked for.
            unsafe { mi_zalloc(layout.size()) }.cast()
        } else {
            // SAFETY: the caller keeps to the same trait.
            unsafe { MiMalloc.alloc_zeroed(layout) }
        }
    }

    // SAFETY: the caller keeps to what the trait asks for.
    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller says that the block is one of ours and is in use.
        unsafe { mi_free(block.cast()) }
    }

    // SAFETY: the caller keeps to what the trait asks for.
    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if is_natural(new_size, layout.align()) {
            // SAFETY: the caller says that the block is one of ours and is in use. It stays, and is aligned as it was, or becomes a new one.
            unsafe { mi_realloc(block.cast(), new_size) }.cast()
        } else {
            // SAFETY: the caller keeps to the same trait.
            unsafe { MiMalloc.realloc(block, layout, new_size) }
        }
    }
}

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
    sqlite::set_up();
}

/// Gives all free memory of the calling thread, and what others have let go of, back to the system now.
pub fn give_back() {
    // SAFETY: it touches nothing but memory that is free, and any thread may call it at any time.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every block that is in use at once, with what was written to it.
    #[test]
    fn blocks_are_as_large_and_as_aligned_as_asked_whatever_becomes_of_them() {
        let sizes = (1..=300).chain((300..40_000).step_by(713)).chain([1 << 20, (8 << 20) + 1]);
        let mut blocks = Vec::new();
        for size in sizes {
            for align in [1_usize, 2, 4, 8, 16, 32, 64, 4_096] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the size is not 0; what is written lies within it.
                let (plain, zeroed) = unsafe { (ALLOCATOR.alloc(layout), ALLOCATOR.alloc_zeroed(layout)) };
                for block in [plain, zeroed] {
                    assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?}");
                }
                // SAFETY: as above.
                unsafe {
                    assert!(std::slice::from_raw_parts(zeroed, size).iter().all(|byte| *byte == 0));
                    plain.write_bytes(align.trailing_zeros() as u8 + 1, size);
                }
                blocks.extend([(plain, layout), (zeroed, layout)]);
            }
        }
        for (at, (block, layout)) in blocks.into_iter().enumerate() {
            let new_size = [layout.size() * 2, layout.size().div_ceil(3), layout.size() + 1][at % 3];
            // SAFETY: the block was given for this layout, and what is read of it was written.
            unsafe {
                let first = *block;
                let moved = ALLOCATOR.realloc(block, layout, new_size);
                assert!(!moved.is_null() && moved.addr().is_multiple_of(layout.align()), "{layout:?} to {new_size}");
                let kept = std::slice::from_raw_parts(moved, layout.size().min(new_size));
                assert!(kept.iter().all(|byte| *byte == first), "{layout:?} to {new_size}");
                ALLOCATOR.dealloc(moved, Layout::from_size_align(new_size, layout.align()).unwrap());
            }
        }
    }
}
