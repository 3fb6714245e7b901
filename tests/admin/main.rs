//! The admin APIs over a real socket and a real store.

mod accidents;
mod connections;
mod failing;
mod golden;
mod house;
mod idempotency;
mod keys;
mod operators;
mod requests;
mod rotation;
mod scope;
mod usage;

#[expect(dead_code, reason = "the data plane's tests use all of it")]
#[path = "../it/harness/client.rs"]
mod client;

#[path = "../it/harness/failing_store.rs"]
mod failing_store;
