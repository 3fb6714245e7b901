//! Any text as a configuration file and as a key file: a verdict, faults that can be told and drawn, and in neither of them a
//! secret, wherever it stood.

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use keyward::config::{Faults, parse, parse_keys};
use toml::{Table, Value};

/// What every variable of the environment holds whose name has an even length.
const FROM_THE_ENVIRONMENT: &str = "a-secret-of-the-environment-0123456789";

/// Settings that hold a secret, or may hold one in the wrong place.
const SECRET_NAMES: [&str; 7] = ["api_key", "token", "pepper", "key", "key_hash", "url", "cert"];

/// Of those, the ones whose value may be printed when it is in order.
const SHOWN_IN_ORDER: [&str; 2] = ["url", "cert"];

/// Tables whose names are the operator's own, so that none of them is unknown.
const OPEN_TABLES: [&str; 3] = ["models", "prices", "metadata"];

/// The text, whole.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let env = |name: &str| name.len().is_multiple_of(2).then(|| FROM_THE_ENVIRONMENT.to_owned());
    verdict(
        text,
        parse(text, Path::new("/nowhere/keyward.toml"), &env).map(|config| {
            let warnings =
                config.warnings.iter().map(|fault| format!("{fault}\n{}", fault.render(false))).collect::<String>();
            format!("{config:?}\n{warnings}")
        }),
    );
    verdict(text, parse_keys(text, Path::new("/nowhere/keys.toml"), &env).map(|keys| format!("{keys:?}")));
}

/// Searches all that is printed of a verdict.
fn verdict(text: &str, verdict: Result<String, Faults>) {
    let is_in_order = verdict.is_ok();
    let printed = verdict.unwrap_or_else(|faults| {
        assert!(faults.iter().all(|fault| fault.place.is_some()), "a fault of a text has a place");
        let lines = text.split('\n').count();
        assert!(faults.iter().all(|fault| fault.place.is_none_or(|place| (1..=lines).contains(&place.line))));
        assert_eq!(faults.render(true).is_empty(), faults.render(false).is_empty());
        format!("{faults}\n{}\n{faults:?}", faults.render(false))
    });
    assert!(!printed.contains(FROM_THE_ENVIRONMENT), "a secret of the environment is printed:\n{printed}");
    let mut secrets = Vec::new();
    match text.parse::<Table>() {
        Ok(table) => collect(&table, is_in_order, &mut secrets),
        // Of a text that cannot be read nothing is known, so any word may be a secret.
        Err(_) if printed.contains("not TOML") => secrets.extend(words(text).map(str::to_owned)),
        Err(_) => {}
    }
    for secret in secrets.iter().filter(|secret| is_telling(secret, text)) {
        assert!(!printed.contains(secret.as_str()), "{secret:?} is printed:\n{printed}");
    }
}

/// Names of tables and lists of tables: a string where one belongs may be a secret that belongs into it.
const TABLES: [&str; 9] = ["tls", "keys", "previous", "tokens", "admin", "server", "storage", "limits", "upstreams"];

/// What stands under the name of a secret, and under names that are not known at all: such a name may be a misspelled one.
fn collect(table: &Table, is_in_order: bool, secrets: &mut Vec<String>) {
    for (name, value) in table {
        let is_secret =
            SECRET_NAMES.contains(&name.as_str()) && !(is_in_order && SHOWN_IN_ORDER.contains(&name.as_str()));
        if is_secret || !is_known(name) {
            strings(value, secrets);
        } else if TABLES.contains(&name.as_str()) && !value.is_table() {
            direct_strings(value, secrets);
            inside(value, is_in_order, secrets);
        } else if !OPEN_TABLES.contains(&name.as_str()) {
            inside(value, is_in_order, secrets);
        }
    }
}

fn inside(value: &Value, is_in_order: bool, secrets: &mut Vec<String>) {
    match value {
        Value::Table(table) => collect(table, is_in_order, secrets),
        Value::Array(list) => list.iter().for_each(|value| inside(value, is_in_order, secrets)),
        _ => {}
    }
}

fn direct_strings(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::String(text) => secrets.push(text.clone()),
        Value::Array(list) => secrets.extend(list.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => {}
    }
}

fn strings(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::String(text) => secrets.push(text.clone()),
        Value::Table(table) => table.iter().for_each(|(_, value)| strings(value, secrets)),
        Value::Array(list) => list.iter().for_each(|value| strings(value, secrets)),
        _ => {}
    }
}

fn is_known(name: &str) -> bool {
    static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let settings = keyward::config::setting_names().into_iter().chain(keyward::config::key_setting_names());
        settings.flat_map(|path| path.split(['.', '[', ']']).map(str::to_owned).collect::<Vec<_>>()).collect()
    });
    KNOWN.contains(name)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_+".contains(c)))
}

/// Whether finding it in what is printed proves that it came from the text: it stands there once, and in no sentence of ours.
fn is_telling(secret: &str, text: &str) -> bool {
    const OURS: &str = "sha256: 2030-01-01T00:00:00Z 0123456789 /nowhere/keyward.toml A-Za-z0-9 /v1/files /v1/embeddings http://proxy.example.com:3128";
    let has = |test: fn(&u8) -> bool| secret.as_bytes().iter().any(test);
    secret.len() >= 8
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && secret.bytes().all(|byte| byte.is_ascii_graphic())
        && !secret.starts_with("env:")
        && !secret.starts_with("file:")
        // The name of a file of TLS is told, so that it can be found.
        && ![".pem", ".crt", ".cer", ".key"].iter().any(|end| secret.ends_with(end))
        && !OURS.contains(secret)
        && text.matches(secret).count() == 1
}
