//! `keyward key explain`: would it be admitted now, check by check.

use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use super::{path_of, resolve};
use crate::cli::client::{Call, Client, Server, strange};
use crate::cli::failure::Failure;
use crate::cli::output::{Column, Grid, Screen, text_of, write, write_json};
use crate::cli::{FAILED, OK};

pub const EXAMPLES: &str = "\
Example:
  keyward key explain demo --model gpt-4o --endpoint /v1/chat/completions --ip 10.1.2.3 --prompt-tokens 800

Exit codes: 0 it would be admitted, 1 it would be refused (or the server could not be asked).";

#[derive(Debug, Args)]
pub struct Explain {
    /// Which: an id, the beginning of one, or an exact name.
    key: String,
    /// The model it would ask for.
    #[arg(long)]
    model: Option<String>,
    /// The endpoint it would call.
    #[arg(long)]
    endpoint: Option<String>,
    /// The address it would come from.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Tokens of its prompt.
    #[arg(long, value_name = "N")]
    prompt_tokens: Option<u64>,
    /// The most tokens of the answer it would ask for.
    #[arg(long, value_name = "N")]
    max_output: Option<u64>,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Explain {
    pub fn run(&self) -> Result<u8, Failure> {
        let client = Client::new(&self.server)?;
        let id = resolve::id(&client, &self.key)?;
        let call = Call::new(Method::POST, path_of(&id, "/explain")).with_body(Value::Object(self.body()));
        let answer = client.call(&call)?;
        let verdict = answer.json()?;
        let is_admitted = verdict["admitted"].as_bool().ok_or_else(|| strange("no `admitted` in it"))?;
        if self.json {
            write_json(answer.text()?)?;
        } else {
            write(&drawn(&verdict, Screen::stdout()))?;
        }
        Ok(if is_admitted { OK } else { FAILED })
    }

    fn body(&self) -> Map<String, Value> {
        let members = [
            ("model", self.model.clone().map(Value::from)),
            ("endpoint", self.endpoint.clone().map(Value::from)),
            ("client_ip", self.ip.clone().map(Value::from)),
            ("prompt_tokens", self.prompt_tokens.map(Value::from)),
            ("max_output", self.max_output.map(Value::from)),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

const COLUMNS: [Column; 3] = [Column::text("", 0), Column::text("CHECK", 0), Column::text("WHY", 1)];

/// A line for each check, in the order they are made: a mark, its name, and its numbers.
fn drawn(verdict: &Value, screen: Screen) -> String {
    let rows = verdict["checks"].as_array().into_iter().flatten().map(row).collect::<Vec<_>>();
    let is_admitted = verdict["admitted"] == true;
    let word = if is_admitted { "admitted" } else { "refused" };
    format!("{}{word}\n", Grid::new(&COLUMNS, screen).page(&rows))
}

fn row(check: &Value) -> Vec<String> {
    let verdict = text_of(&check["verdict"]);
    let mark = match verdict.as_str() {
        "pass" | "passed" | "ok" | "admitted" => "\u{2713}".to_owned(),
        "refuse" | "refused" | "fail" | "failed" => "\u{2717}".to_owned(),
        _ => verdict,
    };
    let numbers = check
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| !matches!(name.as_str(), "check" | "verdict") && !value.is_null());
    let numbers = numbers.map(|(name, value)| match (name.as_str(), value) {
        ("detail" | "message", value) => text_of(value),
        (name, value) => format!("{name} {}", text_of(value)),
    });
    vec![mark, text_of(&check["check"]), numbers.collect::<Vec<_>>().join(", ")]
}
