//! Every key: found by the digest of its secret, changed one at a time.

pub mod change;
pub mod secret;
pub mod table;
