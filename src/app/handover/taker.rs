//! The new process's side of a hand-over.

use std::io;
use std::time::Duration;

use crate::app::handover::line::{Line, VERSION, Word};
use crate::app::handover::{STDIN, VARIABLE};
use crate::app::holds::Held;
use crate::listen::{Given, Inherited};
use crate::units::KeyId;

/// How long the old process may take for one word: to bring into the store what is settled, at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process that hands over to this one.
#[derive(Debug)]
pub struct Predecessor(Line);

impl Predecessor {
    /// The one that has started this process, if one has.
    ///
    /// # Errors
    /// The environment says so, and there is no line to it.
    pub fn of_environment() -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none_or(|value| value != STDIN) {
            return Ok(None);
        }
        let line = Line::of_stdin()?;
        // Nobody else reads from there by accident, and the other end is free once this one is.
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Ok(Some(Self(line)))
    }

    /// Says that the configuration is in order, and takes the sockets.
    ///
    /// # Errors
    /// The old process does not play along.
    pub fn sockets(&self) -> io::Result<Inherited> {
        self.0.say(&Word::Hello(VERSION), None)?;
        let mut given = Vec::new();
        loop {
            match self.0.hear(PATIENCE)? {
                (Word::Socket(label), Some(socket)) => given.push(Given::labelled(&label, socket)?),
                (Word::Sockets, None) => return Ok(Inherited::new(given)),
                (other, _) => return Err(unexpected(&other)),
            }
        }
    }

    /// Asks for the store, and waits until it is nobody's. Gives what the old process holds for requests that it will still settle.
    ///
    /// # Errors
    /// The old process does not let go of it.
    pub fn let_go(&self) -> io::Result<Held> {
        self.0.say(&Word::LetGo, None)?;
        let mut held = Held::new();
        loop {
            match self.0.hear(PATIENCE)?.0 {
                Word::Held(some) => held.extend(some.into_iter().map(|(id, units)| (KeyId(id), units))),
                Word::Gone => return Ok(held),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Says that from here on it is this process that serves.
    ///
    /// # Errors
    /// The old process has given up waiting, and serves itself.
    pub fn serving(&self) -> io::Result<()> {
        self.0.say(&Word::Serving, None)
    }

    /// Waits until the old process is gone.
    pub fn until_gone(&self) {
        self.0.until_gone();
    }
}

fn unexpected(word: &Word) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{word:?} was not to come now"))
}
