//! SQLite takes its memory where the program does. From the C library it would have a heap for each thread that ever used it, none of which
//! shrinks much.

use std::ffi::{c_int, c_void};

use libmimalloc_sys::{mi_free, mi_malloc, mi_realloc, mi_usable_size};
use rusqlite::ffi::{SQLITE_CONFIG_MALLOC, SQLITE_OK, sqlite3_config, sqlite3_mem_methods};

/// Says so to SQLite. To be called first, while there is one thread; SQLite keeps to its own where it does not take it.
pub fn set_up() {
    let methods = sqlite3_mem_methods {
        xMalloc: Some(give),
        xFree: Some(take_back),
        xRealloc: Some(resize),
        xSize: Some(size),
        xRoundup: Some(rounded),
        xInit: Some(begin),
        xShutdown: Some(end),
        pAppData: std::ptr::null_mut(),
    };
    // SAFETY: no other thread uses SQLite yet; the table is copied, its functions are there as long as the program, and they keep to what
    // SQLite asks of them: blocks of the size asked for or null, aligned to 8 bytes.
    let _is_taken = unsafe { sqlite3_config(SQLITE_CONFIG_MALLOC, &raw const methods) } == SQLITE_OK;
}

// SAFETY: any size may be asked for.
unsafe extern "C" fn give(bytes: c_int) -> *mut c_void {
    // SAFETY: as above. A size that is none is one that nobody has.
    unsafe { mi_malloc(usize::try_from(bytes).unwrap_or(usize::MAX)) }
}

// SAFETY: SQLite gives back what it was given, once.
unsafe extern "C" fn take_back(block: *mut c_void) {
    // SAFETY: as above.
    unsafe { mi_free(block) }
}

// SAFETY: SQLite has the block, and no longer when another is returned.
unsafe extern "C" fn resize(block: *mut c_void, bytes: c_int) -> *mut c_void {
    // SAFETY: as above; the old block stays where there is no other.
    unsafe { mi_realloc(block, usize::try_from(bytes).unwrap_or(usize::MAX)) }
}

// SAFETY: SQLite has the block.
unsafe extern "C" fn size(block: *mut c_void) -> c_int {
    // SAFETY: as above.
    c_int::try_from(unsafe { mi_usable_size(block) }).unwrap_or(c_int::MAX)
}

unsafe extern "C" fn rounded(bytes: c_int) -> c_int {
    bytes.saturating_add(7) & !7
}

unsafe extern "C" fn begin(_: *mut c_void) -> c_int {
    SQLITE_OK
}

unsafe extern "C" fn end(_: *mut c_void) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_takes_its_memory_here() {
        set_up();
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let text = "x".repeat(100_000);
        connection.execute_batch("CREATE TABLE texts (text TEXT)").unwrap();
        for _ in 0..100 {
            connection.execute("INSERT INTO texts VALUES (?1)", [&text]).unwrap();
        }
        connection.execute_batch("UPDATE texts SET text = text || 'y'; DELETE FROM texts WHERE rowid % 2").unwrap();
        let length: i64 = connection.query_row("SELECT sum(length(text)) FROM texts", [], |row| row.get(0)).unwrap();
        assert_eq!(length, 50 * 100_001);
        // SAFETY: the block is given back where it came from, and not used after.
        unsafe {
            let block = rusqlite::ffi::sqlite3_malloc(100);
            assert!(mi_usable_size(block) >= 100);
            rusqlite::ffi::sqlite3_free(block.cast());
        }
    }
}
