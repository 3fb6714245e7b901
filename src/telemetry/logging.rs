//! Log lines: for eyes on a terminal, JSON elsewhere, always on standard error.

use std::io::IsTerminal;

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
    }
    Ok(Logging(out))
}
