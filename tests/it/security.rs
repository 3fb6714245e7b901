//! What it must stand, one test a rule that no other module's name says already; `ARCHITECTURE.md` lists all rules and their tests.

mod amplification;
mod attacks;
mod bodies;
mod edge;
mod meter;
mod people;
mod streams;
