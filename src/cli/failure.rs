//! Why a command did not do what it was asked, and the exit code for it.

use std::io;

use super::{FAILED, NOT_IN_ORDER};
use crate::app::books::BooksFault;

/// What a command ends with when it does not end well.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command line, or what surrounds it, is not in order.
    NotInOrder(String),
    /// The server said no, or could not be asked.
    Failed(String),
    /// Whoever read the output has gone; there is nobody to tell.
    NobodyReads,
}

impl Failure {
    /// Says it on standard error; the exit code.
    pub fn report(self) -> u8 {
        match self {
            Self::NotInOrder(why) => {
                eprintln!("keyward: {why}");
                NOT_IN_ORDER
            }
            Self::Failed(why) => {
                eprintln!("keyward: {why}");
                FAILED
            }
            Self::NobodyReads => FAILED,
        }
    }
}

/// Of writing the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(format!("standard output: {error}")),
        }
    }
}

/// Of reading the books.
impl From<BooksFault> for Failure {
    fn from(fault: BooksFault) -> Self {
        Self::Failed(fault.to_string())
    }
}
