//! `keyward check`: the verdict a start or a reload would give, without either.

use std::path::Path;

use crate::app::StartFault;
use crate::app::rehearsal::rehearse;
use crate::config;

use super::output::say;
use super::{NOT_IN_ORDER, OK, is_coloured};

/// Checks both files, and both against what the store holds, and prints every fault.
pub fn check(path: &Path, json: bool) -> u8 {
    let mut warnings = Vec::new();
    let verdict = verdict(path, &mut warnings);
    let lines = match &verdict {
        Ok(_) => Vec::new(),
        Err(StartFault::Config(faults)) => faults.iter().map(ToString::to_string).collect(),
        Err(fault) => vec![fault.to_string()],
    };
    let code = if verdict.is_ok() { OK } else { NOT_IN_ORDER };
    if json {
        let verdict = serde_json::json!({ "ok": lines.is_empty(), "faults": lines, "warnings": warnings });
        return say(&verdict.to_string(), code);
    }
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    match verdict {
        Ok(count) => return say(&format!("{}: in order, {count} key(s) by file", path.display()), code),
        Err(StartFault::Config(faults)) => eprint!("{}", faults.render(is_coloured(&std::io::stderr()))),
        Err(fault) => eprintln!("{fault}"),
    }
    eprintln!("\nkeyward: {} fault(s)", lines.len());
    code
}

/// How many keys the file has.
fn verdict(path: &Path, warnings: &mut Vec<String>) -> Result<usize, StartFault> {
    let env = |name: &str| std::env::var(name).ok();
    let (config, keys) = config::load_all(path, None, &env).map_err(StartFault::Config)?;
    let of_keys = keys.iter().flat_map(|key| &key.warnings);
    warnings.extend(config.warnings.iter().chain(of_keys).map(ToString::to_string));
    let count = keys.len();
    let unseen = rehearse(&config, keys)?;
    warnings.extend(unseen.map(|why| format!("{why}; its keys were not compared with those of the file")));
    Ok(count)
}
