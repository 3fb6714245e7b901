//! Numbers without a sign in a database whose integers have one: the same 64 bits. Only equality means the same on both sides, so
//! sums and comparisons are made in Rust.

/// As it is kept.
pub(super) fn kept(number: u64) -> i64 {
    number.cast_signed()
}

/// As it was.
pub(super) fn read(kept: i64) -> u64 {
    kept.cast_unsigned()
}
