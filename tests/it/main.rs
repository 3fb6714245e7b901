//! The proxy as its users meet it, one module a behaviour. Each test starts what it needs on ports of its own.

mod harness;

mod admin;
mod bodies;
mod canary;
mod clock;
mod command_line;
mod disconnect;
mod edge;
mod failover;
mod forwarding;
mod handover;
mod http2;
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
mod realtime;
mod relay;
mod reload;
mod revocation;
mod security;
mod store;
mod shutdown;
mod tls;
mod upstream_faults;
mod workers;
