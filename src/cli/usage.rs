//! `keyward usage`, and what it shares with `keyward key usage`: what was used, by whom.

use clap::Args;
use serde_json::Value;

use super::client::{Call, Client, Query, Server, strange};
use super::failure::Failure;
use super::key::resolve;
use super::moment::{Way, moment, now};
use super::output::{Column, Grid, Screen, text_of, write, write_json};

pub const EXAMPLES: &str = "\
Examples:
  keyward usage --from 7d --by team
  keyward usage --from 2027-01-01 --to 2027-02-01 --by key --csv > january.csv";

#[derive(Debug, Args)]
pub struct Usage {
    /// Only of this key: an id, the beginning of one, or an exact name.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// What is asked of the books.
#[derive(Debug, Args)]
pub struct Asked {
    /// From when: 7d (ago), a date (its first moment, UTC), or an RFC 3339 moment.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Up to when, written the same way.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// One line for each of these.
    #[arg(long, value_parser = ["key", "model", "team", "org", "day", "hour"])]
    by: Option<String>,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
    /// Print the API's JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Usage {
    pub fn run(&self) -> Result<(), Failure> {
        let client = Client::new(&self.asked.server)?;
        let id = self.key.as_deref().map(|key| resolve::id(&client, key)).transpose()?;
        let mut query = self.asked.query()?;
        query.add("key_id", id);
        self.asked.print(&client, &query.behind("/api/v1/gateway/usage"))
    }
}

impl Asked {
    /// Which server is asked.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.server)
    }

    /// The parameters of the question.
    pub fn query(&self) -> Result<Query, Failure> {
        let mut query = Query::default();
        query.add("from", instant("--from", self.from.as_deref())?);
        query.add("to", instant("--to", self.to.as_deref())?);
        query.add("group_by", self.by.as_deref());
        Ok(query)
    }

    /// Asks, and prints the answer.
    pub fn print(&self, client: &Client, path: &str) -> Result<(), Failure> {
        if self.csv {
            return write(client.call(&Call::get(path).accepting("text/csv"))?.text()?);
        }
        let answer = client.call(&Call::get(path))?;
        if self.json {
            return write_json(answer.text()?);
        }
        let answer = answer.json()?;
        let items = answer["items"].as_array().ok_or_else(|| strange("no `items` in it"))?;
        if items.is_empty() {
            eprintln!("nothing was used in this time");
            return Ok(());
        }
        write(&drawn(items, Screen::stdout()))
    }
}

/// A moment as the API takes it.
pub fn instant(flag: &str, text: Option<&str>) -> Result<Option<String>, Failure> {
    let moment = text.map(|text| moment(text, Way::Back, now())).transpose();
    let moment = moment.map_err(|why| Failure::NotInOrder(format!("{flag} {why}")))?;
    Ok(moment.map(|moment| moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
}

/// What the rows are about, then what is looked at first; of anything else the answer has the place is behind these.
const ORDER: [&str; 12] = [
    "group",
    "name",
    "key",
    "key_id",
    "model",
    "team_id",
    "org_id",
    "day",
    "hour",
    "requests",
    "units",
    "input_tokens",
];

/// A table with a column for each member the rows have.
fn drawn(items: &[Value], screen: Screen) -> String {
    let rows = items.iter().map(flat).collect::<Vec<_>>();
    let mut names = Vec::<&str>::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    names.sort_by_key(|name| place(name));
    let of = |row: &[(String, Value)], name: &str| {
        row.iter().find(|(own, _)| own == name).map_or(Value::Null, |(_, value)| value.clone())
    };
    let columns = names.iter().enumerate().map(|(at, name)| Column {
        head: name.to_uppercase().replace('_', " ").into(),
        rank: u8::try_from(at).unwrap_or(u8::MAX),
        is_number: rows.iter().all(|row| matches!(of(row, name), Value::Number(_) | Value::Null)),
    });
    let mut grid = Grid::new(&columns.collect::<Vec<_>>(), screen);
    let cells = rows.iter().map(|row| names.iter().map(|name| text_of(&of(row, name))).collect());
    grid.page(&cells.collect::<Vec<_>>())
}

/// The members of a row; those of percentiles stand for themselves (`ttft_ms p50`).
fn flat(row: &Value) -> Vec<(String, Value)> {
    let mut members = Vec::new();
    for (name, value) in row.as_object().into_iter().flatten() {
        match value {
            Value::Object(parts) if parts.keys().any(|part| part.starts_with("p5")) => {
                members.extend(parts.iter().map(|(part, value)| (format!("{name}_{part}"), value.clone())));
            }
            value => members.push((name.clone(), value.clone())),
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_become_a_table_with_what_they_are_about_first() {
        let items = [
            json!({"errors": 0, "requests": 12, "team_id": "search", "ttft_ms": {"p50": 8, "p99": 20}, "refused": {"rpm": 3}}),
            json!({"errors": 1, "requests": 1234, "team_id": null, "ttft_ms": {"p50": 9, "p99": null}, "refused": {}}),
        ];
        let text = drawn(&items, Screen { width: None, is_coloured: false });
        let expected = "\
TEAM ID  REQUESTS  ERRORS  REFUSED  TTFT MS P50  TTFT MS P99
search         12       0  rpm=3              8           20
-            1234       1  -                  9            -
";
        assert_eq!(text, expected);
    }

    #[test]
    fn moments_of_the_past_are_written_as_the_api_takes_them() {
        assert_eq!(instant("--from", None), Ok(None));
        assert_eq!(instant("--from", Some("2027-01-01")), Ok(Some("2027-01-01T00:00:00Z".to_owned())));
        let wrong = instant("--from", Some("yesterday"));
        assert!(matches!(wrong, Err(Failure::NotInOrder(why)) if why.starts_with("--from `yesterday`")));
    }
}
