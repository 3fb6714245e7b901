//! `keyward key list`.

use std::io::{IsTerminal, Write};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Form, page};
use crate::cli::client::{Client, Query, Server, strange};
use crate::cli::failure::Failure;
use crate::cli::output::{Column, Grid, Screen, minute_of, text_of, write, write_json};
use crate::keys::secret;

pub const EXAMPLES: &str = "\
Examples:
  keyward key list
  keyward key list --status active --team search --limit 20
  keyward key list --status expired --quiet | xargs -r keyward key delete --yes";

/// Keys asked for at once.
const PAGE: usize = 500;

#[derive(Debug, Args)]
pub struct List {
    /// Only in this state.
    #[arg(long, value_parser = ["active", "disabled", "expired", "exhausted"])]
    status: Option<String>,
    /// Only of this team.
    #[arg(long, value_name = "TEAM_ID")]
    team: Option<String>,
    /// Only of this organisation.
    #[arg(long, value_name = "ORG_ID")]
    org: Option<String>,
    /// Only where the name contains this.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only where what is shown of the secret begins so; of a whole secret that part is taken.
    #[arg(long)]
    prefix: Option<String>,
    /// Only those that may ask for this model.
    #[arg(long)]
    model: Option<String>,
    /// Only sandbox keys, or with `=false` only others.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sandbox: Option<bool>,
    /// At most so many; without it all of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// A page; the keys as they came.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    total: u64,
    #[serde(default)]
    next_cursor: Option<String>,
}

impl List {
    pub fn run(&self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let mut printing = Printing::of(self.form);
        let mut left = self.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut cursor: Option<String> = None;
        loop {
            let answer = page(&client, &self.query(left.min(PAGE), cursor.as_deref()))?;
            let mut page: Page = serde_json::from_slice(&answer.body).map_err(|error| strange(&error.to_string()))?;
            page.items.truncate(left);
            left -= page.items.len();
            printing.page(&page)?;
            // A cursor that stands still would never end.
            if left == 0 || page.items.is_empty() || page.next_cursor.is_none() || page.next_cursor == cursor {
                return printing.end(page.total);
            }
            cursor = page.next_cursor;
        }
    }

    fn query(&self, limit: usize, cursor: Option<&str>) -> Query {
        let mut query = Query::default();
        query.add("limit", Some(limit.to_string()));
        query.add("cursor", cursor);
        query.add("status", self.status.as_deref());
        query.add("team_id", self.team.as_deref());
        query.add("org_id", self.org.as_deref());
        query.add("name", self.name.as_deref());
        query.add("prefix", self.prefix.as_deref().map(shown_of));
        query.add("model", self.model.as_deref());
        query.add("is_sandbox", self.sandbox.map(|is_sandbox| is_sandbox.to_string()));
        query
    }
}

const COLUMNS: [Column; 11] = [
    Column::text("ID", 0),
    Column::text("NAME", 0),
    Column::text("STATUS", 1),
    Column::text("PREFIX", 2),
    Column::text("EXPIRES", 4),
    Column::number("RPM", 5),
    Column::number("TPM", 6),
    Column::number("QUOTA", 3),
    Column::text("TEAM", 7),
    Column::text("MODELS", 8),
    Column::text("LAST USED", 9),
];

fn row(key: &Value) -> Vec<String> {
    let quota = match (&key["quota_used"], &key["quota_limit"]) {
        (_, Value::Null) => "-".to_owned(),
        (used, limit) => format!("{}/{}", text_of(used), text_of(limit)),
    };
    vec![
        text_of(&key["id"]),
        text_of(&key["name"]),
        text_of(&key["status"]),
        text_of(&key["key_prefix"]),
        minute_of(&key["expires_at"]),
        text_of(&key["rpm_limit"]),
        text_of(&key["tpm_limit"]),
        quota,
        text_of(&key["team_id"]),
        text_of(&key["models_allowed"]),
        minute_of(&key["last_used_at"]),
    ]
}

/// Prints pages as they come.
enum Printing {
    Table(Grid, usize),
    Ids,
    /// One document, whose head is written with the first key. For eyes it is gathered first, to be indented.
    Json {
        count: usize,
        gathered: Option<String>,
    },
}

impl Printing {
    fn of(form: Form) -> Self {
        if form.json {
            let gathered = std::io::stdout().is_terminal().then(String::new);
            Self::Json { count: 0, gathered }
        } else if form.quiet {
            Self::Ids
        } else {
            Self::Table(Grid::new(&COLUMNS, Screen::stdout()), 0)
        }
    }

    fn page(&mut self, page: &Page) -> Result<(), Failure> {
        let keys = || page.items.iter().map(|item| serde_json::from_str::<Value>(item.get()).unwrap_or_default());
        match self {
            Self::Table(grid, count) => {
                *count += page.items.len();
                if page.items.is_empty() {
                    Ok(())
                } else {
                    write(&grid.page(&keys().map(|key| row(&key)).collect::<Vec<_>>()))
                }
            }
            Self::Ids => {
                let mut stdout = std::io::stdout().lock();
                keys().try_for_each(|key| writeln!(stdout, "{}", text_of(&key["id"])))?;
                Ok(stdout.flush()?)
            }
            Self::Json { count, gathered } => {
                let mut text = String::new();
                for item in &page.items {
                    text.push_str(if *count == 0 { "{\"items\":[" } else { "," });
                    text.push_str(item.get());
                    *count += 1;
                }
                match gathered {
                    Some(gathered) => gathered.push_str(&text),
                    None => write(&text)?,
                }
                Ok(())
            }
        }
    }

    fn end(self, total: u64) -> Result<(), Failure> {
        match self {
            Self::Table(_, count) => {
                eprintln!("{count} of {total} key(s)");
                Ok(())
            }
            Self::Ids => Ok(()),
            Self::Json { count, gathered } => {
                let head = if count == 0 { "{\"items\":[" } else { "" };
                let end = format!("{head}],\"total\":{total}}}");
                match gathered {
                    Some(gathered) => write_json(&format!("{gathered}{end}")),
                    None => write(&format!("{end}\n")),
                }
            }
        }
    }
}

/// What of a text that may be a whole secret is to be looked for: no more of it than is kept, and than may stand in an address.
fn shown_of(text: &str) -> String {
    if text.len() > secret::VISIBLE { secret::prefix(text) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_whole_secret_no_more_is_looked_for_than_is_shown() {
        let ours = secret::generate();
        for text in ["sk-kw-", "sk-kw-abcdef", "chos"] {
            assert_eq!(shown_of(text), text);
        }
        assert_eq!(shown_of(ours.expose()), ours.expose()[..secret::VISIBLE]);
        assert_eq!(shown_of("chosen-secret-1"), secret::prefix("chosen-secret-1"));
    }
}
