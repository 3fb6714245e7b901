//! Every key: found by the digest of its secret, changed one at a time.

pub mod change;
pub mod secret;
pub mod table;

pub use change::{ChangeRefused, KeyChange, KeyRecord, PreviousSecret, Source};
pub use secret::{Digester, Pepper, Secret, Shape};
pub use table::{KeyEntry, KeyTable, Remembered, SecretSlot};
