//! `keyward audit`: who changed what, when and from where.

use clap::Args;
use serde_json::Value;

use super::client::{Call, Client, Query, Server, strange};
use super::failure::Failure;
use super::key::resolve;
use super::output::{Column, Grid, Screen, plain, second_of, text_of, write, write_json};
use super::usage::{instant, period};

pub const EXAMPLES: &str = "\
Examples:
  keyward audit --limit 20
  keyward audit --key demo --from 7d
  keyward audit --action key.delete --json";

#[derive(Debug, Args)]
pub struct Audit {
    /// Only of this key: an id, the beginning of one, or an exact name. A key that is gone is named by its whole id.
    #[arg(long)]
    key: Option<String>,
    /// Only what this operator did.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Only this.
    #[arg(long, value_parser = ["key.create", "key.update", "key.rotate", "key.rotate_end", "key.disable", "key.enable", "key.delete", "config.reload"])]
    action: Option<String>,
    /// From when: 7d (ago), a date (its first moment, UTC), or an RFC 3339 moment.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Up to when, written the same way.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// At most so many, newest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const COLUMNS: [Column; 7] = [
    Column::text("AT", 0),
    Column::text("OPERATOR", 0),
    Column::text("ACTION", 0),
    Column::text("KEY", 1),
    Column::text("VIA", 4),
    Column::text("FROM", 3),
    Column::prose("CHANGE", 2),
];

impl Audit {
    pub fn run(&self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let id = self.key.as_deref().map(|key| resolve::id(&client, key)).transpose()?;
        let mut query = Query::default();
        query.add("key_id", id);
        query.add("operator", self.operator.as_deref());
        query.add("action", self.action.as_deref());
        let (from, to) = period(self.from.as_deref(), self.to.as_deref())?;
        query.add("from", from.map(instant));
        query.add("to", to.map(instant));
        query.add("limit", Some(self.limit.to_string()));
        let answer = client.call(&Call::get(query.behind("/api/v1/gateway/audit")))?;
        if self.json {
            return write_json(answer.text()?);
        }
        let answer = answer.json()?;
        let items = answer["items"].as_array().ok_or_else(|| strange("no `items` in it"))?;
        if items.is_empty() {
            eprintln!("nothing of this kind was changed");
            return Ok(());
        }
        write(&Grid::new(&COLUMNS, Screen::stdout()).page(&items.iter().map(row).collect::<Vec<_>>()))
    }
}

fn row(entry: &Value) -> Vec<String> {
    vec![
        second_of(&entry["at"]),
        text_of(&entry["operator"]),
        text_of(&entry["action"]),
        text_of(&entry["key_id"]),
        text_of(&entry["via"]),
        text_of(&entry["address"]),
        change(&entry["before"], &entry["after"]),
    ]
}

/// `rpm_limit: 60 -> 120, name: a -> b`; of a key made or deleted what it was made or was. What was and is empty is left out.
fn change(before: &Value, after: &Value) -> String {
    let names = [before, after].into_iter().filter_map(Value::as_object).flat_map(|members| members.keys());
    let names = names.collect::<std::collections::BTreeSet<_>>();
    if names.is_empty() {
        return text_of(&Value::Null);
    }
    let changes = names.iter().filter_map(|name| {
        let (was, is) = (text_of(&before[name.as_str()]), text_of(&after[name.as_str()]));
        let shown = plain(name);
        // Of a key that is made or deleted what was left as it comes is no news.
        let is_default = |value: &Value| *value == Value::Bool(false);
        match (before.is_null(), after.is_null()) {
            _ if was == is => None,
            (true, _) if is_default(&after[name.as_str()]) => None,
            (_, true) if is_default(&before[name.as_str()]) => None,
            (true, _) => Some(format!("{shown}: {is}")),
            (_, true) => Some(format!("{shown}: {was}")),
            _ => Some(format!("{shown}: {was} -> {is}")),
        }
    });
    changes.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_shows_what_was_and_what_is() {
        let (before, after) = (json!({"rpm_limit": 60, "name": "a"}), json!({"rpm_limit": 120, "name": "b\u{1b}"}));
        assert_eq!(change(&before, &after), "name: a -> b\\u{1b}, rpm_limit: 60 -> 120");
        let made = json!({"name": "a", "models_allowed": [], "rpm_limit": null, "disabled": false});
        assert_eq!((change(&Value::Null, &made), change(&made, &Value::Null)), ("name: a".into(), "name: a".into()));
        assert_eq!(change(&json!({"rpm_limit": 5}), &json!({"rpm_limit": null})), "rpm_limit: 5 -> -");
        assert_eq!(change(&json!({"disabled": true}), &json!({"disabled": false})), "disabled: yes -> no");
        assert_eq!(change(&Value::Null, &Value::Null), "-");
    }
}
