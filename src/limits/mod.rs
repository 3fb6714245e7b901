//! The running state of a key's limits, and the arithmetic that takes from it and gives back.

pub mod attempts;
pub mod bucket;
pub mod concurrency;
pub mod quota;
pub mod requests;
pub mod reservation;
pub mod settings;
pub mod tokens;

pub use attempts::Attempts;
pub use quota::QuotaCount;
pub use reservation::{KeyLimits, Reservation, Settled, owe, reserve, reserve_within};
pub use settings::{LimitSettings, OnLowQuota};
