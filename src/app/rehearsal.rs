//! What a start would find wrong beyond the files: the pepper, and what the store holds. Makes and changes nothing.

use std::sync::Arc;

use crate::app::books::Books;
use crate::app::keys::Declared;
use crate::app::open::StartFault;
use crate::app::pepper;
use crate::config::{Config, FileKey};
use crate::keys::secret::{Digester, Pepper};
use crate::keys::table::KeyTable;

/// Looks at the pepper, and at the store where there is one: whether both belong together, and whether the keys of the file are to be had beside those that
/// the admin API has made. Where the store is not to be looked at from here, says why, and all else is in order.
///
/// # Errors
/// Why a program would not start.
pub fn rehearse(config: &Config, keys: Vec<FileKey>) -> Result<Option<String>, StartFault> {
    let pepper = pepper::existing(&config.storage.pepper)?;
    let digester = pepper.as_ref().map(Digester::new);
    let table = Arc::new(KeyTable::new());
    let unseen = Books::glance(&config.storage, digester.as_ref(), &table)?;
    // Where there is no pepper yet there is no secret yet: only ids are left to clash.
    let digester = digester.unwrap_or_else(|| Digester::new(&Pepper::generate()));
    let keys_file = config.keys_file.clone().unwrap_or_default();
    Declared::new(table).replace(keys, &keys_file, &digester).map_err(StartFault::Config)?;
    Ok(unseen)
}
