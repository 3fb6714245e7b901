//! What a key may do, what a request wants, what it would cost, and every reason to say no. Pure data and pure functions:
//! no clock, no state, no words for the caller.

pub mod address;
pub mod authorize;
pub mod data;
pub mod endpoint;
pub mod facts;
pub mod fault;
pub mod glob;
pub mod price;
pub mod refusal;
pub mod standing;

pub use address::AddressRules;
pub use authorize::authorize;
pub use data::{KeyPolicy, OnDisconnect, QuotaReset, QuotaRule};
pub use endpoint::{DialectName, Endpoint, EndpointGroup, EndpointRules};
pub use facts::{Charge, Estimate, RequestFacts, Usage};
pub use fault::{CutReason, Fault};
pub use glob::{Glob, ModelRules};
pub use price::{Price, PriceTable};
pub use refusal::{BodyFlaw, HeadFlaw, Refusal};
pub use standing::{Gauge, KeyStatus, ParallelStanding, QuotaStanding, Rates, Standing};
