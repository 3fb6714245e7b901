//! `keyward reload`: the server reads its files again, and says what it thinks of them.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::{Call, Client, Server, strange};
use super::failure::Failure;
use super::output::{Screen, card, text_of, write, write_json};
use super::{FAILED, OK};

pub const EXAMPLES: &str = "Example:\n  keyward reload";

#[derive(Debug, Args)]
pub struct Reload {
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Reload {
    pub fn run(&self) -> Result<u8, Failure> {
        let client = Client::new(&self.server)?;
        let answer = client.call(&Call::new(Method::POST, "/api/v1/gateway/config/reload"))?;
        let verdict = answer.json()?;
        let is_applied = verdict["applied"].as_bool().ok_or_else(|| strange("no `applied` in it"))?;
        if self.json {
            write_json(answer.text()?)?;
        } else {
            write(&drawn(&verdict, Screen::stdout()))?;
        }
        Ok(if is_applied { OK } else { FAILED })
    }
}

/// One line for each member of the verdict, and for each entry of its lists.
fn drawn(verdict: &Value, screen: Screen) -> String {
    let mut rows = Vec::new();
    for (name, value) in verdict.as_object().into_iter().flatten() {
        match value {
            Value::Array(entries) if !entries.is_empty() => {
                rows.extend(entries.iter().map(|entry| (name.clone(), text_of(entry))));
            }
            value => rows.push((name.clone(), text_of(value))),
        }
    }
    card(&rows, screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_fault_has_its_line() {
        let verdict =
            json!({"applied": false, "faults": ["keyward.toml:3:1: a", "keys.toml:9:1: b"], "needs_restart": []});
        let text = drawn(&verdict, Screen { width: None, is_coloured: false });
        assert_eq!(
            text,
            "applied        no\nfaults         keyward.toml:3:1: a\nfaults         keys.toml:9:1: b\nneeds_restart  -\n"
        );
    }
}
