//! `keyward check`: the verdict a start or a reload would give, without either.

use std::path::Path;

use crate::app::pepper;
use crate::config;

use super::{NOT_IN_ORDER, OK, is_coloured};

/// Checks both files and prints every fault.
pub fn check(path: &Path, json: bool) -> u8 {
    let (mut lines, mut warnings, mut drawn, mut count) = (Vec::new(), Vec::new(), String::new(), 0);
    match config::load_both(path, &|name| std::env::var(name).ok()) {
        Ok((config, keys)) => {
            let unwise = config.warnings.iter().chain(keys.iter().flat_map(|key| &key.warnings));
            warnings.extend(unwise.map(ToString::to_string));
            count = keys.len();
            if let Err(fault) = pepper::check(&config.storage.pepper) {
                drawn = format!("{fault}\n");
                lines.push(fault.to_string());
            }
        }
        Err(faults) => {
            drawn = faults.render(is_coloured(&std::io::stderr()));
            lines.extend(faults.iter().map(ToString::to_string));
        }
    }
    let is_fine = lines.is_empty();
    if json {
        println!("{}", serde_json::json!({ "ok": is_fine, "faults": lines, "warnings": warnings }));
    } else {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        eprint!("{drawn}");
        if is_fine {
            println!("{}: in order, {count} key(s) by file", path.display());
        } else {
            eprintln!("keyward: {} fault(s)", lines.len());
        }
    }
    if is_fine { OK } else { NOT_IN_ORDER }
}
