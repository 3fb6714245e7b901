//! The data plane: a request comes in, is decided, forwarded, relayed and settled. [`handle`](handle::handle) reads as its stages.

mod accept;
pub mod account;
pub mod allowance;
pub mod answer;
mod arrival;
pub mod body;
pub mod capacity;
pub mod carrier;
pub mod client_address;
mod connection;
pub mod deadline;
pub mod fallback;
pub mod forward;
pub mod handle;
pub mod headers;
pub mod http1;
pub mod http2;
pub mod local;
mod neighbours;
pub mod plane;
pub mod proxy_protocol;
pub mod realtime;
pub mod receive;
pub mod relay;
pub mod request_id;
mod seating;
pub mod server;
pub mod settings;
pub mod takeover;
pub mod wire;

pub use plane::{Live, Plane};
pub use settings::Settings;
