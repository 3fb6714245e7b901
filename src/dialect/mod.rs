//! The four APIs callers speak: how a request is read, how its use is metered, and in what words it is refused.
//! Pure: bytes in, facts or bytes out.

pub mod anthropic;
pub mod azure;
pub mod credential;
pub mod describe;
pub mod estimate;
pub mod gemini;
pub mod json;
pub mod meter;
pub mod models;
pub mod multipart;
pub mod openai;
pub mod route;
pub mod sse;
pub mod wording;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use crate::policy::DialectName;

/// An answer made by the proxy itself.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, `content-type` included; framing is added on the wire.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}
