//! `keyward store backup` and `keyward store restore`.

use std::path::Path;

use crate::app::books::BooksFault;
use crate::app::copies;
use crate::config;
use crate::store::Settings;

use super::output::say;
use super::{FAILED, NOT_IN_ORDER, OK, is_coloured};

/// Copies the store to a new file, whether or not the program runs.
pub fn back_up(config: &Path, to: &Path) -> u8 {
    with_settings(config, |settings| {
        copies::back_up(settings, to)?;
        eprintln!("Keep it with the pepper: without that no key in it is recognised.");
        Ok(say(&to.display().to_string(), OK))
    })
}

/// Puts a copy in the store's place. The program must not run.
pub fn restore(config: &Path, from: &Path) -> u8 {
    with_settings(config, |settings| {
        let restored = copies::restore(settings, from)?;
        if let Some(aside) = restored.aside {
            eprintln!("What was there before is kept as {}.", aside.display());
        }
        if !restored.is_recognised {
            eprintln!(
                "Its keys were made with another pepper than is there now: put that back too, or no program starts on it."
            );
        }
        Ok(say(&restored.path.display().to_string(), OK))
    })
}

fn with_settings(config: &Path, work: impl FnOnce(&Settings) -> Result<u8, BooksFault>) -> u8 {
    let env = |name: &str| std::env::var(name).ok();
    match config::load_storage(config, &env) {
        Ok(storage) => match work(&storage) {
            Ok(code) => code,
            Err(fault) => {
                eprintln!("keyward: {fault}");
                FAILED
            }
        },
        Err(faults) => {
            eprint!("{}", faults.render(is_coloured(&std::io::stderr())));
            NOT_IN_ORDER
        }
    }
}
