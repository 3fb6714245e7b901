//! The embedded store, held to the contract.

mod accidents;
mod files;

use std::path::Path;

use crate::store::Store;
use crate::store::contract::{Subject, hold_to_the_contract};
use crate::store::embedded::writer::Job;
use crate::store::embedded::{Embedded, Options};

fn subject() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    Subject::new(move || Box::new(Embedded::open(&folder.path().join("new/store.db")).unwrap()) as Box<dyn Store>)
}

hold_to_the_contract!(subject);

/// One that waits for nobody.
fn open(path: &Path) -> Embedded {
    let options = Options { busy_timeout: std::time::Duration::from_millis(20), ..Options::default() };
    Embedded::open_with(path, options).unwrap()
}

/// Lets the writer's own connection do something, in a transaction of its own.
fn run(store: &Embedded, run: impl Fn(&rusqlite::Connection) + Send + 'static) -> Result<(), crate::store::StoreFault> {
    store.writer.ask(Job::Run(Box::new(run))).map(|_| ())
}
