//! `keyward check`: the verdict a start or a reload would give, without either.

use std::path::Path;

use crate::app::pepper;
use crate::config::{self, Config, Faults};

use super::{NOT_IN_ORDER, OK, is_coloured};

/// Checks both files and prints every fault.
pub fn check(path: &Path, json: bool) -> u8 {
    let env = |name: &str| std::env::var(name).ok();
    let config = config::load(path, &env);
    let keys = match &config {
        Ok(Config { keys_file: Some(file), .. }) => config::load_keys(file, &env).map(|keys| keys.len()),
        Ok(_) | Err(_) => Ok(0),
    };
    let pepper = config.as_ref().ok().and_then(|config| pepper::check(&config.storage.pepper).err());
    let mut lines = Vec::new();
    let mut drawn = String::new();
    for faults in [config.as_ref().err(), keys.as_ref().err()].into_iter().flatten() {
        lines.extend(faults.iter().map(ToString::to_string));
        drawn.push_str(&Faults::render(faults, is_coloured(&std::io::stderr())));
    }
    if let Some(fault) = pepper {
        drawn.push_str(&format!("{fault}\n"));
        lines.push(fault.to_string());
    }
    let warnings = config
        .as_ref()
        .map_or_else(|_| Vec::new(), |config| config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>());
    let is_fine = lines.is_empty();
    if json {
        let verdict = serde_json::json!({ "ok": is_fine, "faults": lines, "warnings": warnings });
        println!("{verdict}");
    } else {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        eprint!("{drawn}");
        match (is_fine, keys) {
            (true, Ok(count)) => println!("{}: in order, {count} key(s) by file", path.display()),
            _ => eprintln!("keyward: {} fault(s)", lines.len()),
        }
    }
    if is_fine { OK } else { NOT_IN_ORDER }
}
