//! The rows of the table, by groups.

#[path = "rows/bodies.rs"]
mod bodies;
#[path = "rows/latency.rs"]
mod latency;
#[path = "rows/memory.rs"]
mod memory;
#[path = "rows/requests.rs"]
mod requests;
#[path = "rows/skew.rs"]
mod skew;
#[path = "rows/start.rs"]
mod start;
#[path = "rows/streams.rs"]
mod streams;
#[path = "rows/train.rs"]
pub mod train;

use crate::arguments::Row;
use crate::programs::Bench;

/// The body of an ordinary request.
const BODY_BYTES: usize = 1200;
/// The connections of an ordinary load.
const CONNECTIONS: usize = 32;

/// Measures one group and adds its lines to the table.
pub fn measure(row: Row, bench: &mut Bench) -> anyhow::Result<()> {
    match row {
        Row::Requests => requests::measure(bench),
        Row::Latency => latency::measure(bench),
        Row::Streams => streams::measure(bench),
        Row::Memory => memory::measure(bench),
        Row::Skew => skew::measure(bench),
        Row::Bodies => bodies::measure(bench),
        Row::Start => start::measure(bench),
    }
}
