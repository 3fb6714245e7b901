//! Log lines: for eyes on a terminal, JSON elsewhere, always on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("KEYWARD_LOG={filter:?}: {error}; expected something like `info` or `keyward=debug,access=off`")
    })?;
    let is_terminal = std::io::stderr().is_terminal();
    let out = Lines::to(std::io::stderr()).map_err(|error| format!("the thread that writes the log: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(out.clone());
    if is_terminal {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        lines.with_ansi(colour).with_target(false).init();
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        let _is_first = JSON.set(out.clone());
    }
    Ok(Logging(out))
}
