//! What was used is written down, whatever becomes of the process.

mod kill;
mod load;
