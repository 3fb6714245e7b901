//! The new process's side of a hand-over.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::app::handover::line::{Line, VERSION, Word};
use crate::app::handover::{STDIN, VARIABLE};
use crate::app::holds::Held;
use crate::ledger::{Hold, LedgerFault};
use crate::listen::{Given, Inherited};
use crate::units::KeyId;

/// How long the old process may take for one word: to bring into the store what is settled, at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the right to the store may take to be free once nobody is to have it, and how often that is looked at.
const PATIENCE_WITH_LOCK: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

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

    /// Says that the configuration is in order, and takes the sockets: as many as came before the old process was gone.
    ///
    /// # Errors
    /// The old process does not play along.
    pub fn sockets(&self) -> io::Result<Inherited> {
        let mut given = Vec::new();
        if self.is_there(self.0.say(&Word::Hello(VERSION), None))?.is_none() {
            return Ok(Inherited::default());
        }
        loop {
            match self.is_there(self.0.hear(PATIENCE))? {
                Some((Word::Socket(label), Some(socket))) => given.push(Given::labelled(&label, socket)?),
                Some((Word::Sockets, None)) | None => return Ok(Inherited::new(given)),
                Some((other, _)) => return Err(unexpected(&other)),
            }
        }
    }

    /// Asks for the store, and waits until it is nobody's. Gives what the old process holds for requests that it will still settle.
    ///
    /// # Errors
    /// The old process does not let go of it.
    pub fn let_go(&self) -> io::Result<Held> {
        let mut held = Held::new();
        if self.is_there(self.0.say(&Word::LetGo, None))?.is_none() {
            return Ok(held);
        }
        loop {
            match self.is_there(self.0.hear(PATIENCE))?.map(|(word, _)| word) {
                Some(Word::Held(some)) => held.extend(some.into_iter().map(|(id, units)| (KeyId(id), units))),
                // Gone with its process: it holds nothing any more either.
                Some(Word::Gone) | None => return Ok(held),
                Some(other) => return Err(unexpected(&other)),
            }
        }
    }

    /// Waits until nobody has the right to the store whose journals are in `folder`: a process that is killed closes its files one after the other.
    pub fn until_free(folder: &Path) {
        let mut looks = PATIENCE_WITH_LOCK.as_millis() / LOOK.as_millis();
        while looks > 0 && matches!(Hold::take(folder), Err(LedgerFault::Held { .. })) {
            thread::sleep(LOOK);
            looks -= 1;
        }
    }

    /// Says that from here on it is this process that serves.
    ///
    /// # Errors
    /// The line is broken in a way that no end of a process breaks it.
    pub fn serving(&self) -> io::Result<()> {
        // One that has given up waiting does not let this process come here: it ends it first.
        self.is_there(self.0.say(&Word::Serving, None)).map(drop)
    }

    /// Waits until the old process is gone.
    pub fn until_gone(&self) {
        self.0.until_gone();
    }
}

impl Predecessor {
    /// `None` where the old process is gone, in the middle of it: what it had is there for whoever comes.
    fn is_there<T>(&self, said: io::Result<T>) -> io::Result<Option<T>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match said {
            Ok(said) => Ok(Some(said)),
            Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
                tracing::warn!("the process before this one is gone in the middle of the hand-over");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn unexpected(word: &Word) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{word:?} was not to come now"))
}
