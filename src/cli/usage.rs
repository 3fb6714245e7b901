//! `keyward usage`, and what it shares with `keyward key usage`: what was used, by whom.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::client::{Call, Client, Query, Server, strange};
use super::failure::Failure;
use super::key::resolve;
use super::moment::{Way, moment, now};
use super::output::{Column, Grid, Screen, plain, text_of, write, write_json};

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
    /// From when: 7d (ago), a date (its first moment, UTC), or an RFC 3339 moment; without it, 30 days before the end. Usage is summed by hours: the one
    /// that this lies in counts as a whole.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Up to when, written the same way; without it, now. The hour that it lies in counts as a whole.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// One line for each of these; without it, for each day.
    #[arg(long, value_parser = ["key", "model", "endpoint", "team", "org", "day", "hour", "total"])]
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
        let (from, to) = period(self.from.as_deref(), self.to.as_deref())?;
        query.add("from", from.map(instant));
        query.add("to", to.map(instant));
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
        write(&drawn(items, answer["group_by"].as_str().unwrap_or("group"), Screen::stdout()))
    }
}

/// A moment as the API takes it.
pub fn instant(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time that `--from` and `--to` name, as far as they do.
///
/// # Errors
/// One of them is no moment, or the first is not before the second.
pub fn period(from: Option<&str>, to: Option<&str>) -> Result<(Option<Timestamp>, Option<Timestamp>), Failure> {
    let now = now();
    let past = |flag: &str, text: Option<&str>| {
        let moment = text.map(|text| moment(text, Way::Back, now)).transpose();
        moment.map_err(|why| Failure::NotInOrder(format!("{flag} {why}")))
    };
    let (from, to) = (past("--from", from)?, past("--to", to)?);
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(Failure::NotInOrder("--from has to be before --to: 7d is earlier than 1d".to_owned()));
    }
    Ok((from, to))
}

/// The members of a row that are shown, in this order, and what stands above them.
const MEMBERS: [(&str, &str); 12] = [
    ("name", "NAME"),
    ("requests", "REQUESTS"),
    ("units", "UNITS"),
    ("input_tokens", "INPUT"),
    ("output_tokens", "OUTPUT"),
    ("errors", "ERRORS"),
    ("refusals", "REFUSED"),
    ("cached_input_tokens", "CACHED"),
    ("first_byte_p50_ms", "FIRST BYTE P50 MS"),
    ("first_byte_p99_ms", "P99 MS"),
    ("duration_p50_ms", "WHOLE P50 MS"),
    ("duration_p99_ms", "P99 MS"),
];

/// A table of the sums. The first column is what they are summed up by; one in which nothing stands is left out.
fn drawn(items: &[Value], group_by: &str, screen: Screen) -> String {
    let is_there = |name: &str| items.iter().any(|item| text_of(&item[name]) != text_of(&Value::Null));
    let shown = MEMBERS.iter().filter(|(name, _)| is_there(name)).collect::<Vec<_>>();
    let mut columns =
        vec![Column { head: plain(group_by).to_uppercase().into(), rank: 0, is_number: false, is_prose: false }];
    columns.extend(shown.iter().zip(1..).map(|((name, head), rank)| Column {
        head: (*head).into(),
        rank,
        is_number: !matches!(*name, "name" | "refusals"),
        is_prose: *name == "refusals",
    }));
    let row = |item: &Value| {
        let group = std::iter::once(text_of(&item["group"]));
        group.chain(shown.iter().map(|(name, _)| figure(&item[*name]))).collect()
    };
    Grid::new(&columns, screen).page(&items.iter().map(row).collect::<Vec<_>>())
}

/// Milliseconds to a tenth; everything else as it is.
pub fn figure(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(figure) => format!("{figure:.1}"),
        None => text_of(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sums_become_a_table_of_what_there_is() {
        let items = [
            json!({"group": "search", "name": null, "requests": 12, "refusals": {"rpm_limit": 3, "key_disabled": 1}, "errors": 0,
                "units": 900, "first_byte_p50_ms": 8.04, "first_byte_p99_ms": null, "estimated": 0}),
            json!({"group": "", "name": null, "requests": 1234, "refusals": {}, "errors": 1, "units": 0,
                "first_byte_p50_ms": null, "first_byte_p99_ms": null, "estimated": 0}),
        ];
        let text = drawn(&items, "team", Screen { width: None, is_coloured: false });
        let expected = "\
TEAM    REQUESTS  UNITS  ERRORS  REFUSED                      FIRST BYTE P50 MS
search        12    900       0  key_disabled=1, rpm_limit=3                8.0
-           1234      0       1  -                                            -
";
        assert_eq!(text, expected);
    }

    #[test]
    fn moments_of_the_past_are_written_as_the_api_takes_them() {
        assert_eq!(period(None, None), Ok((None, None)));
        let (from, to) = period(Some("2027-01-01"), Some("2027-01-02")).unwrap();
        assert_eq!(
            [from, to].map(|moment| moment.map(instant)),
            ["01", "02"].map(|day| Some(format!("2027-01-{day}T00:00:00Z")))
        );
        for (from, to) in [("2027-01-02", "2027-01-01"), ("1d", "7d"), ("7d", "7d")] {
            assert!(
                matches!(period(Some(from), Some(to)), Err(Failure::NotInOrder(why)) if why.contains("before --to"))
            );
        }
        let wrong = period(Some("yesterday"), None);
        assert!(matches!(wrong, Err(Failure::NotInOrder(why)) if why.starts_with("--from `yesterday`")));
    }
}
