//! `keyward key show`, and how a key looks wherever one is printed.

use clap::Args;
use serde_json::Value;

use super::{Form, path_of, resolve};
use crate::cli::client::{Answer, Call, Client, Server, strange};
use crate::cli::failure::Failure;
use crate::cli::output::{Screen, card, plain, text_of, write, write_json};

pub const EXAMPLES: &str = "\
Examples:
  keyward key show demo
  keyward key show 01999f2e --json

KEY is an id, the beginning of one (8 characters at least), or an exact name.";

#[derive(Debug, Args)]
pub struct Show {
    /// Which: an id, the beginning of one, or an exact name.
    key: String,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

impl Show {
    pub fn run(&self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let id = resolve::id(&client, &self.key)?;
        key(&client.call(&Call::get(path_of(&id, "")))?, self.form)
    }
}

/// Prints a key.
pub fn key(answer: &Answer, form: Form) -> Result<(), Failure> {
    let key = answer.json()?;
    let id = member(&key, "id")?;
    if form.json {
        return write_json(answer.text()?);
    }
    if form.quiet {
        return write(&format!("{}\n", plain(id)));
    }
    write(&drawn(&key, Screen::stdout()))
}

/// The answer of a key's last state with the secret that an earlier answer showed. A text in JSON cannot hold the bytes that are replaced.
pub fn with_secret(last: &Answer, earlier: &Answer) -> Result<Answer, Failure> {
    let key = earlier.json()?;
    let secret = serde_json::Value::from(member(&key, "key")?).to_string();
    Ok(Answer { body: last.text()?.replacen("\"key\":null", &format!("\"key\":{secret}"), 1).into() })
}

/// Prints a key whose secret is in the answer, this once.
pub fn secret(answer: &Answer, form: Form) -> Result<(), Failure> {
    let key = answer.json()?;
    let secret = member(&key, "key")?;
    let written = if form.json {
        write_json(answer.text()?)
    } else {
        match form.quiet {
            true => write(&format!("{}\n", plain(secret))),
            false => write(&drawn(&key, Screen::stdout())),
        }
    };
    eprintln!(
        "{}",
        match written {
            Ok(()) => "The secret is shown only now; keep it where secrets are kept.",
            Err(_) => "keyward: it was done, but the secret could not be written; rotate the key for another one",
        }
    );
    written
}

fn member<'a>(key: &'a Value, name: &str) -> Result<&'a str, Failure> {
    key[name].as_str().ok_or_else(|| strange(&format!("no `{name}` in it")))
}

/// The names of a key's members in the order of interest, and what stands for them when they are empty.
const ORDER: [(&str, &str); 29] = [
    ("key", ""),
    ("id", "-"),
    ("name", "-"),
    ("status", "-"),
    ("key_prefix", "-"),
    ("org_id", "-"),
    ("team_id", "-"),
    ("models_allowed", "every model"),
    ("endpoints_allowed", "every endpoint"),
    ("allowed_ips", "anywhere"),
    ("rpm_limit", "no limit"),
    ("tpm_limit", "no limit"),
    ("max_parallel", "no limit"),
    ("quota_limit", "no limit"),
    ("quota_used", "-"),
    ("quota_remaining", ""),
    ("quota_reset", ""),
    ("quota_resets_at", ""),
    ("expires_at", "never"),
    ("is_sandbox", "-"),
    ("on_disconnect", "-"),
    ("rotate_grace_until", ""),
    ("old_secrets", ""),
    ("last_used_at", "never"),
    ("created_at", "-"),
    ("updated_at", "-"),
    ("metadata", ""),
    ("source", "-"),
    // Of a rotation; it stands among the old secrets too.
    ("old_secret", ""),
];

/// A key, one member to a line; what this program does not know of comes last.
fn drawn(key: &Value, screen: Screen) -> String {
    let Some(members) = key.as_object() else { return card(&[], screen) };
    let mut rows = Vec::new();
    for (name, empty) in ORDER {
        if name == "old_secret" && members.contains_key("old_secrets") {
            continue;
        }
        let Some(value) = members.get(name) else { continue };
        let text = match (text_of(value), value) {
            (text, _) if text == "-" => empty.to_owned(),
            // One to a line.
            (_, Value::Array(old)) if name == "old_secrets" => old.iter().map(text_of).collect::<Vec<_>>().join("\n"),
            (text, _) => text,
        };
        if !text.is_empty() {
            rows.push((name.to_owned(), text));
        }
    }
    let is_known = |name: &str| ORDER.iter().any(|(known, _)| *known == name);
    rows.extend(members.iter().filter(|(name, _)| !is_known(name)).map(|(name, value)| (name.clone(), text_of(value))));
    card(&rows, screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_replaced_secret_has_its_line() {
        let old = |prefix: &str| json!({"prefix": prefix, "until": "2027-01-02T03:04:05Z"});
        let text = drawn(
            &json!({"id": "0199", "old_secrets": [old("sk-a"), old("sk-b")]}),
            Screen { width: None, is_coloured: false },
        );
        let expected = "id           0199\nold_secrets  sk-a until 2027-01-02 03:04:05\n             sk-b until 2027-01-02 03:04:05\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_key_is_drawn_in_the_order_of_interest_and_says_what_is_free() {
        let key = json!({
            "id": "0199", "key": null, "name": "demo", "rpm_limit": null, "models_allowed": [], "expires_at": null,
            "status": "active", "metadata": {}, "novel": [1, 2], "quota_limit": 5,
        });
        let text = drawn(&key, Screen { width: None, is_coloured: false });
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        let expected = [
            "id 0199",
            "name demo",
            "status active",
            "models_allowed every model",
            "rpm_limit no limit",
            "quota_limit 5",
            "expires_at never",
            "novel 1, 2",
        ];
        assert_eq!(lines, expected);
    }
}
