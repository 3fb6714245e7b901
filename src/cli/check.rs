//! `keyward check`: the verdict a start or a reload would give, without either.

use std::path::Path;

use crate::app::pepper;
use crate::config;

use super::output::say;
use super::{NOT_IN_ORDER, OK, is_coloured};

/// Checks both files and prints every fault.
pub fn check(path: &Path, json: bool) -> u8 {
    let env = |name: &str| std::env::var(name).ok();
    let files = config::load_all(path, None, &env);
    let pepper = files.as_ref().ok().and_then(|(config, _)| pepper::check(&config.storage.pepper).err());
    let (mut lines, mut drawn, mut warnings) = (Vec::new(), String::new(), Vec::new());
    match &files {
        Ok((config, keys)) => {
            let of_keys = keys.iter().flat_map(|key| &key.warnings);
            warnings.extend(config.warnings.iter().chain(of_keys).map(ToString::to_string));
        }
        Err(faults) => {
            lines.extend(faults.iter().map(ToString::to_string));
            drawn.push_str(&faults.render(is_coloured(&std::io::stderr())));
        }
    }
    if let Some(fault) = pepper {
        drawn.push_str(&format!("{fault}\n"));
        lines.push(fault.to_string());
    }
    let is_fine = lines.is_empty();
    let code = if is_fine { OK } else { NOT_IN_ORDER };
    if json {
        let verdict = serde_json::json!({ "ok": is_fine, "faults": lines, "warnings": warnings });
        return say(&verdict.to_string(), code);
    }
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    eprint!("{drawn}");
    match (is_fine, files) {
        (true, Ok((_, keys))) => say(&format!("{}: in order, {} key(s) by file", path.display(), keys.len()), code),
        _ => {
            eprintln!("\nkeyward: {} fault(s)", lines.len());
            code
        }
    }
}
