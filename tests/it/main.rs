//! The proxy as its users meet it, one module a behaviour. Each test starts what it needs on ports of its own.

mod harness;
