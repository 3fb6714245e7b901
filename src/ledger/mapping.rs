//! A file mapped into memory: what is written there outlives the process without a system call.
//!
//! A module with `unsafe`. No safe crate serves: a mapping that others may change or cut short is unsafe by nature, and whether
//! that can happen is known only here.
#![expect(unsafe_code, reason = "a file can be mapped in no other way")]

use std::fs::File;
use std::io;

use memmap2::MmapMut;

/// Maps a file whole, for reading and writing. The caller has made it, holds its lock, has given it all of its blocks (so that no write
/// meets a full disk) and hands it to nobody who would make it shorter.
///
/// # Errors
/// The system does not map it.
pub(super) fn map(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the file is new, locked by this process, fully allocated and never made shorter; other processes that read it do so by
    // system calls. So no reference into the mapping sees memory change or go away underneath it.
    unsafe { MmapMut::map_mut(file) }
}
