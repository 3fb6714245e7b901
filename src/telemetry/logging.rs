//! Log lines: for eyes on a terminal, JSON elsewhere, always on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::telemetry::lines::Lines;

/// While this is held, lines are written in the background; dropped, everything is written out.
#[derive(Debug)]
pub struct Logging(Lines);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Where lines of JSON go that are not made of events; `None` where the log is for eyes, or is somebody else's.
static JSON: OnceLock<Lines> = OnceLock::new();

/// Writes a line of JSON, its end included; `false` where such lines go nowhere.
pub fn line(line: impl FnOnce() -> Vec<u8>) -> bool {
    let Some(out) = JSON.get() else { return false };
    out.hand_over(line());
    true
}

/// Starts logging. `filter` is in the form of `KEYWARD_LOG`, such as `info` or `keyward=debug,access=off`.
///
/// # Errors
/// The filter, when it is not one; a machine that has no thread to give.
pub fn start(filter: &str) -> Result<Logging, String> {
    let wanted = levels(filter).map_err(|error| {
        format!("--log (KEYWARD_LOG) {filter:?}: {error}; expected something like `info` or `keyward=debug,access=off`")
    })?;
    let is_terminal = std::io::stderr().is_terminal();
    let out = Lines::to(std::io::stderr()).map_err(|error| format!("the thread that writes the log: {error}"))?;
    let (wanted, lines) = (tracing_subscriber::registry().with(wanted), fmt::layer().with_writer(out.clone()));
    if is_terminal {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        wanted.with(lines.with_ansi(colour).with_target(false)).init();
    } else {
        wanted.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)).init();
        let _is_first = JSON.set(out.clone());
    }
    Ok(Logging(out))
}

/// Levels by target. (Not an `EnvFilter`: that can tell spans by their fields too, with regular expressions that would be in memory for nobody.)
fn levels(filter: &str) -> Result<Targets, String> {
    let parts: Vec<_> = filter.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    // The library takes a word alone for a target, and a level that is mistyped would silence everything.
    let words = parts.iter().filter(|part| !part.contains('='));
    if let Some(word) = words.into_iter().find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(format!("`{word}` is no level"));
    }
    if parts.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::INFO));
    }
    parts.join(",").parse().map_err(|error: ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_target() {
        let filter = levels("info, access=off,keyward::store=debug,").unwrap();
        for (target, level, is_wanted) in [
            ("keyward::proxy", Level::INFO, true),
            ("keyward::proxy", Level::DEBUG, false),
            ("access", Level::ERROR, false),
            ("keyward::store::embedded", Level::DEBUG, true),
        ] {
            assert_eq!(filter.would_enable(target, &level), is_wanted, "{target} {level}");
        }
        assert!(!levels("off").unwrap().would_enable("keyward", &Level::ERROR));
        for nothing in ["", " , "] {
            assert!(levels(nothing).unwrap().would_enable("keyward", &Level::INFO), "as where nothing is said");
        }
        for wrong in ["info,access=loud", "keyward=info=debug", "inof", "info,access"] {
            assert!(levels(wrong).is_err(), "{wrong}");
        }
    }
}
