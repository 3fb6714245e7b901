//! The embedded store, held to the contract.

use crate::store::Store;
use crate::store::contract::{Subject, hold_to_the_contract};
use crate::store::embedded::Embedded;

fn subject() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    Subject::new(move || Box::new(Embedded::open(&folder.path().join("new/store.db")).unwrap()) as Box<dyn Store>)
}

hold_to_the_contract!(subject);
