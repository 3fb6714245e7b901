//! The proxy as its users meet it, one module a behaviour. Each test starts what it needs on ports of its own.

mod harness;

mod admin;
mod bodies;
mod canary;
mod clock;
mod command_line;
mod disconnect;
mod edge;
mod forwarding;
mod handover;
mod in_force;
mod leaks;
mod ledger;
mod learning;
mod limits;
mod listeners;
mod operating;
mod overload;
mod prices;
mod quickstart;
mod refusals;
mod relay;
mod reload;
mod revocation;
mod store;
mod shutdown;
mod upstream_faults;
