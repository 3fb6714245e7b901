//! Where the writer works: its connection, what it has looked up, and what is done when either is not as it should be.

use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::embedded::file::Standing;
use crate::store::embedded::fold::Fold;
use crate::store::embedded::intern::Interned;
use crate::store::embedded::readers::Readers;
use crate::store::embedded::writer::{Job, Outcome};
use crate::store::embedded::{audit, change, connect, drain, remembered, tidy};
use crate::store::{StoreFault, Write, Written};

/// The writer's own.
#[derive(Debug)]
pub(super) struct Desk {
    readers: Arc<Readers>,
    connection: Option<Connection>,
    /// Pages the file may have, as the connection was told.
    told_pages: u32,
    known: Known,
}

/// What it knows without looking it up. After anything was taken back it is to be emptied.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Names and owners.
    pub interned: Interned,
    /// What is counted of keys and hours.
    pub fold: Fold,
}

impl Known {
    fn clear(&mut self) {
        self.interned.clear();
        self.fold.clear();
    }
}

impl Desk {
    /// With a connection that was just opened.
    pub(super) fn new(readers: Arc<Readers>, connection: Connection) -> Self {
        Self { readers, connection: Some(connection), told_pages: 0, known: Known::default() }
    }

    /// Does the jobs in one commit. Each has its own result once that is done; a job that fails takes back what it did and leaves
    /// the others alone.
    ///
    /// # Errors
    /// Nothing of any job is written.
    pub(super) fn commit(&mut self, jobs: &[&Job]) -> Result<Vec<Outcome>, StoreFault> {
        let done = self.try_commit(jobs);
        let faults = match &done {
            Ok(outcomes) => outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect::<Vec<_>>(),
            Err(fault) => vec![fault],
        };
        if !faults.is_empty() {
            // What was looked up may have been written by what is taken back.
            self.known.clear();
        }
        let is_broken =
            |fault: &&StoreFault| !fault.is_conflict() && !matches!(fault, StoreFault::Full(_) | StoreFault::Locked(_));
        if faults.iter().any(is_broken) {
            self.reset();
        }
        done
    }

    /// Gives the connection up; the next write opens another.
    pub(super) fn reset(&mut self) {
        self.known.clear();
        // Not while it is the only one that still has a log which is gone from the disk.
        if self.readers.files().standing() != Standing::LogGone {
            self.connection = None;
        }
    }

    /// Lets go of what it has counted, of the statements it has prepared, of which some are for many rows, and of the pages it has read: the system
    /// has those too.
    pub(super) fn give_back(&mut self) {
        self.known.fold.clear();
        let Some(connection) = &self.connection else { return };
        connection.flush_prepared_statement_cache();
        if let Err(error) = connection.release_memory() {
            tracing::debug!(%error, "the store's connection keeps its memory");
        }
    }

    fn try_commit(&mut self, jobs: &[&Job]) -> Result<Vec<Outcome>, StoreFault> {
        let (connection, known) = self.ready()?;
        let mut step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let [job] = jobs {
            // A large job is alone, and taken back with the whole: a savepoint would remember every page it touches.
            let outcome = perform(&step, known, job);
            if outcome.is_ok() {
                step.commit()?;
                self.readers.note_committed();
            }
            return Ok(vec![outcome]);
        }
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            let part = step.savepoint()?;
            let outcome = perform(&part, known, job);
            match &outcome {
                Ok(_) => part.commit()?,
                Err(fault) => {
                    drop(part);
                    known.clear();
                    // SQLite takes the whole of it back after some accidents.
                    if step.is_autocommit() {
                        return Err(fault.clone());
                    }
                }
            }
            outcomes.push(outcome);
        }
        if outcomes.iter().any(Result::is_ok) {
            step.commit()?;
            self.readers.note_committed();
        }
        Ok(outcomes)
    }

    /// The connection, in order.
    fn ready(&mut self) -> Result<(&mut Connection, &mut Known), StoreFault> {
        match self.readers.files().standing() {
            Standing::Same => {}
            Standing::LogGone => self.mend()?,
            Standing::Gone => return Err(self.readers.files().gone()),
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.told_pages = 0;
                connect::writer(self.readers.files(), self.readers.options())?
            }
        };
        let connection = self.connection.insert(connection);
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        let pages = self.readers.most_pages();
        if pages != self.told_pages {
            connect::limit_pages(connection, pages)?;
            self.told_pages = pages;
        }
        Ok((connection, &mut self.known))
    }

    /// The log was removed from the disk, but the open connections still have it: what is in it goes into the database, then all
    /// of them are closed and a new one begins a new log.
    fn mend(&mut self) -> Result<(), StoreFault> {
        let readers = Arc::clone(&self.readers);
        let alone = readers.close();
        if let Some(connection) = &self.connection {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            connect::empty_log(connection)?;
        }
        self.known.clear();
        self.connection = None;
        self.told_pages = 0;
        self.connection = Some(connect::writer(readers.files(), readers.options())?);
        readers.files().remember();
        drop(alone);
        Ok(())
    }
}

/// Does one job; an error means that it is to be taken back.
fn perform(connection: &Connection, known: &mut Known, job: &Job) -> Outcome {
    match job {
        Job::Write(write) => apply(connection, known, write),
        Job::Mend => Ok(Written::Done),
        #[cfg(test)]
        Job::Run(run) => {
            run(connection);
            known.fold.clear();
            Ok(Written::Done)
        }
    }
}

fn apply(connection: &Connection, known: &mut Known, write: &Write) -> Outcome {
    match write {
        Write::Keys { changes, audit, remember } => {
            let numbers = change::apply(connection, &mut known.interned, changes)?;
            if !changes.is_empty() {
                // Quotas and owners may be others from here on.
                known.fold.clear();
            }
            audit::append(connection, audit)?;
            if let Some(remember) = remember {
                remembered::write(connection, remember)?;
            }
            Ok(Written::Keys(numbers))
        }
        Write::Usage(batch) => Ok(Written::Usage(drain::drain(connection, known, batch)?)),
        Write::Operator(operator) => {
            remembered::write_operator(connection, operator)?;
            Ok(Written::Done)
        }
        Write::PepperMark(mark) => {
            remembered::write_pepper_mark(connection, mark)?;
            Ok(Written::Done)
        }
        Write::Tidy { now_ms, records_before_ms } => {
            Ok(Written::Tidied(tidy::tidy(connection, *now_ms, *records_before_ms)?))
        }
    }
}
