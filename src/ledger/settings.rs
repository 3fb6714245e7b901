//! What the configuration says of the ledger.

use std::time::Duration;

/// The ledger's part of `[storage]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The most that a power cut may lose: what was settled within this time before it. A killed process loses nothing.
    pub window: Duration,
    /// Bytes of each worker's journal; taken from the disk at the start.
    pub journal_size: usize,
    /// How long a record of each request is kept; afterwards only its sums are.
    pub records_kept: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(200),
            journal_size: 32 << 20,
            records_kept: Duration::from_secs(90 * 86_400),
        }
    }
}
