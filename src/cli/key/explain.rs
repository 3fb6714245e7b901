//! `keyward key explain`: would it be admitted now, check by check.

use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use super::{path_of, resolve};
use crate::cli::client::{Call, Client, Server, strange};
use crate::cli::failure::Failure;
use crate::cli::output::{Column, Grid, Screen, plain, second_of, text_of, write, write_json};
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

const COLUMNS: [Column; 7] = [
    Column::text("", 0),
    Column::text("CHECK", 0),
    Column::number("ASKED", 3),
    Column::number("LEFT", 2),
    Column::number("LIMIT", 4),
    Column::text("ALL THERE AGAIN", 5),
    Column::prose("WHY", 1),
];

/// A line for each check, in the order they are made: a mark, its name, its numbers, and why.
fn drawn(verdict: &Value, screen: Screen) -> String {
    let rows = verdict["checks"].as_array().into_iter().flatten().map(row).collect::<Vec<_>>();
    let word = if verdict["admitted"] == true { "admitted" } else { "refused" };
    format!("{}{word}\n", Grid::new(&COLUMNS, screen).page(&rows))
}

fn row(check: &Value) -> Vec<String> {
    let mark = match check["verdict"].as_str() {
        Some("pass") => "\u{2713}".to_owned(),
        Some("refuse") => "\u{2717}".to_owned(),
        Some("clamp") => "~".to_owned(),
        // Not checked.
        _ => String::new(),
    };
    let why = match check["reason"].as_str() {
        Some(reason) => format!("{} ({})", text_of(&check["message"]), plain(reason)),
        None => text_of(&check["message"]),
    };
    let number = |name: &str| if check[name].is_null() { String::new() } else { text_of(&check[name]) };
    let again = if check["resets_at"].is_null() { String::new() } else { second_of(&check["resets_at"]) };
    vec![mark, text_of(&check["check"]), number("asked"), number("remaining"), number("limit"), again, why]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_check_has_its_mark_and_its_numbers() {
        let verdict = json!({"admitted": false, "checks": [
            {"check": "address", "verdict": "skip", "reason": null, "message": "no client_ip was given"},
            {"check": "model", "verdict": "refuse", "reason": "model_not_allowed", "message": "o3 is not allowed"},
            {"check": "requests", "verdict": "pass", "limit": 60, "remaining": 59, "asked": 1,
                "resets_at": "2027-01-01T00:00:01.5Z", "message": "59 requests are left"},
        ]});
        let expected = "   CHECK     ASKED  LEFT  LIMIT  ALL THERE AGAIN      WHY
   address                                            no client_ip was given
\u{2717}  model                                              o3 is not allowed (model_not_allowed)
\u{2713}  requests      1    59     60  2027-01-01 00:00:01  59 requests are left
refused
";
        assert_eq!(drawn(&verdict, Screen { width: None, is_coloured: false }), expected);
    }
}
