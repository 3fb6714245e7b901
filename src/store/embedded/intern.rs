//! Names and owners that are written once and meant by their number from then on.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension};

use crate::store::StoreFault;

/// Names remembered at most; more are looked up again.
const MOST: usize = 20_000;

/// An organisation and a team.
type OwnerName = (Option<Box<str>>, Option<Box<str>>);

/// What the writer has looked up or written. Rows are never changed nor removed, so what was once committed stays true; after
/// anything was rolled back it is to be emptied.
#[derive(Debug, Default)]
pub(super) struct Interned {
    names: HashMap<Box<str>, i64>,
    owners: HashMap<OwnerName, i64>,
}

impl Interned {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.owners.clear();
    }

    /// The number of a name; a new one is written.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub(super) fn name(&mut self, connection: &Connection, name: &str) -> Result<i64, StoreFault> {
        if let Some(number) = self.known_name(connection, name)? {
            return Ok(number);
        }
        connection.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.execute([name])?;
        let number = connection.last_insert_rowid();
        self.remember_name(name, number);
        Ok(number)
    }

    /// The number of a name if it has one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn known_name(&mut self, connection: &Connection, name: &str) -> Result<Option<i64>, StoreFault> {
        if let Some(number) = self.names.get(name) {
            return Ok(Some(*number));
        }
        let sql = "SELECT number FROM names WHERE name = ?1";
        let found = connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
        if let Some(number) = found {
            self.remember_name(name, number);
        }
        Ok(found)
    }

    /// The number of an owner; a new one is written.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub(super) fn owner(
        &mut self,
        connection: &Connection,
        org_id: Option<&str>,
        team_id: Option<&str>,
    ) -> Result<i64, StoreFault> {
        let owner = (org_id.map(Box::from), team_id.map(Box::from));
        if let Some(number) = self.owners.get(&owner) {
            return Ok(*number);
        }
        let sql = "SELECT number FROM owners WHERE org_id IS ?1 AND team_id IS ?2";
        let found = connection.prepare_cached(sql)?.query_row([org_id, team_id], |row| row.get(0)).optional()?;
        let number = match found {
            Some(number) => number,
            None => {
                let sql = "INSERT INTO owners (org_id, team_id) VALUES (?1, ?2)";
                connection.prepare_cached(sql)?.execute([org_id, team_id])?;
                connection.last_insert_rowid()
            }
        };
        if self.owners.len() >= MOST {
            self.owners.clear();
        }
        self.owners.insert(owner, number);
        Ok(number)
    }

    fn remember_name(&mut self, name: &str, number: i64) {
        if self.names.len() >= MOST {
            self.names.clear();
        }
        self.names.insert(name.into(), number);
    }
}
