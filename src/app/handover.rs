//! A restart without a gap, with one store: the running process starts the next one, hands it the sockets that listen and then the store, and drains.
//!
//! ```text
//! old                                     new
//! starts it, with one end of a line  ->   reads its configuration
//!                                    <-   hello
//! sockets                            ->   takes those it is to have, makes what is missing
//!                                    <-   let go
//! accepts no more, brings what is
//! settled into the store, closes it,
//! gives up the right to it
//! what it holds, gone                ->   takes the right, opens the store, counts
//!                                    <-   serving; accepts from here on
//! drains, settles into its journals,      reads these along, and takes them up
//! ends                                    when their process is gone
//! ```
//!
//! Between `gone` and `serving` whoever connects waits in the kernel's queue. Until `serving` the new process changes nothing of the store that the old
//! one would miss; if it fails, the old one ends it, takes the right back and goes on.

pub mod giver;
pub mod line;
pub mod taker;

pub use giver::{Giver, Handed};
pub use taker::Predecessor;

/// The variable that tells a process that another one hands over to it, over its standard input.
pub const VARIABLE: &str = "KEYWARD_HANDOVER";

/// What the variable says.
pub const STDIN: &str = "stdin";
