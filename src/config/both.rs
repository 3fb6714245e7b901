//! Both files as one: what a start, a reload and a check read.

use std::path::{Path, PathBuf};

use super::{Config, Faults, FileKey, load, load_keys, read_file};

/// Reads and checks `keyward.toml` and the key file it names. `env` gives the environment's variables.
///
/// # Errors
/// Every fault of both, also when the first is not in order: as long as it is TOML, it says where the second is.
pub fn load_both(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<(Config, Vec<FileKey>), Faults> {
    let config = load(path, env);
    let keys_file = match &config {
        Ok(config) => config.keys_file.clone(),
        Err(_) => named(path),
    };
    let keys = keys_file.map_or_else(|| Ok(Vec::new()), |file| load_keys(&file, env));
    match (config, keys) {
        (Ok(config), Ok(keys)) => Ok((config, keys)),
        (Err(mut faults), Err(more)) => {
            faults.append(more);
            Err(faults)
        }
        (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => Err(faults),
    }
}

/// The key file that a faulty `keyward.toml` names, as far as it can be told.
fn named(path: &Path) -> Option<PathBuf> {
    let table = read_file(path).ok()?.parse::<toml::Table>().ok()?;
    let name = table.get("keys_file")?.as_str().filter(|name| !name.is_empty())?;
    Some(path.parent().unwrap_or(Path::new("")).join(name))
}
