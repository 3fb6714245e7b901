//! The files that a configuration names, whatever else is wrong with it: once one of them is another, all is read again.

use std::path::{Path, PathBuf};

use memchr::memmem;
use toml::de::{DeTable, DeValue};

use crate::config::{read_file, tls};

/// What stands before the path of a secret's file.
const FILE: &str = "file:";

/// So many files of secrets are looked for in a key file: each of them is looked at twice a second.
const MOST_SECRETS: usize = 1_000;

/// Where a `keyward.toml` says that keys are declared. `None` when it does not say so, or cannot be read.
pub(super) fn keys_file_of(path: &Path) -> Option<PathBuf> {
    let text = read_file(path).ok()?;
    keys_file(path, DeTable::parse_recoverable(&text).0.get_ref())
}

/// All files whose change asks for a reload of the `keyward.toml` at `path`: the key file, certificates, and the files of secrets that either of
/// the two names, but for the pepper's, which counts at the start alone.
pub fn files_named_by(path: &Path) -> Vec<PathBuf> {
    let Ok(text) = read_file(path) else { return Vec::new() };
    let root = DeTable::parse_recoverable(&text).0;
    let root = root.get_ref();
    let mut named = Vec::new();
    for name in ["server", "admin"] {
        named.extend(
            root.get(name).and_then(|section| section.get_ref().as_table()).map(tls::files_of).into_iter().flatten(),
        );
    }
    for upstream in root.get("upstreams").and_then(|all| all.get_ref().as_array()).into_iter().flatten() {
        named.extend(upstream.get_ref().as_table().map(tls::files_of).into_iter().flatten());
    }
    for (name, value) in root {
        if name.get_ref() != "storage" {
            secrets_of(value.get_ref(), &mut named);
        }
    }
    let keys = keys_file(path, root);
    let of_keys = keys.as_deref().map(secrets_of_keys).unwrap_or_default();
    keys.into_iter().chain(named.into_iter().map(|name| beside(path, &name))).chain(of_keys).collect()
}

fn keys_file(path: &Path, root: &DeTable<'_>) -> Option<PathBuf> {
    let named = root.get("keys_file")?.get_ref().as_str().filter(|named| !named.is_empty())?;
    Some(beside(path, named))
}

/// What a file at `path` means by `named`.
fn beside(path: &Path, named: &str) -> PathBuf {
    path.with_file_name("").join(named)
}

/// The paths of all secrets in `value` that stand in files.
fn secrets_of(value: &DeValue<'_>, found: &mut Vec<String>) {
    match value {
        DeValue::String(text) => {
            found.extend(text.strip_prefix(FILE).filter(|path| !path.is_empty()).map(str::to_owned))
        }
        DeValue::Array(items) => items.iter().for_each(|item| secrets_of(item.get_ref(), found)),
        DeValue::Table(table) => table.values().for_each(|value| secrets_of(value.get_ref(), found)),
        _ => {}
    }
}

/// The same of a key file, which may be too large to be read as a document for this: whatever stands there in quotes and begins like one.
fn secrets_of_keys(path: &Path) -> Vec<PathBuf> {
    let Ok(text) = read_file(path) else { return Vec::new() };
    let named = |(at, _): (usize, &str)| {
        let before = text.get(..at)?;
        let is_comment = before.lines().next_back().is_some_and(|line| line.trim_start().starts_with('#'));
        let quote = before.chars().next_back().filter(|quote| !is_comment && matches!(quote, '"' | '\''))?;
        let name = text.get(at + FILE.len()..)?.lines().next()?.split(quote).next()?;
        (!name.is_empty()).then(|| beside(path, name))
    };
    // Mostly there is none, which is quickly seen.
    match memmem::find(text.as_bytes(), FILE.as_bytes()) {
        Some(_) => text.match_indices(FILE).filter_map(named).take(MOST_SECRETS).collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_is_found_whatever_else_is_wrong() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keyward.toml");
        let text = r#"
keys_file = "keys.toml"
nonsense = [ 1, { a = "file:odd" } ]
[server]
tls = { cert = "cert.pem", key = "key.pem" }
[admin]
tokens = [{ name = "ops", token = "file:ops" }, { name = "b", token = "env:B" }]
[storage]
pepper = "file:pepper"
[[upstreams]]
api_key = "file:/run/one"
tls = { ca = "ca.pem" }
[[upstreams]]
api_keys = ["env:X", "file:two"]
headers = { a = "file:three", b = "profile:x" }
"#;
        fs::write(&path, text).unwrap();
        let keys = "[[keys]]\nkey = \"file:alice\"\n# it's a file: so\n  # key = \"file:old\"\n[[keys]]\nkey = 'file:sub/bob'\nname = \"file:\"\n";
        fs::write(home.path().join("keys.toml"), keys).unwrap();
        let mut found = files_named_by(&path);
        found.sort();
        let names = ["alice", "ca.pem", "cert.pem", "key.pem", "keys.toml", "odd", "ops", "sub/bob", "three", "two"];
        let expected = names.map(|name| home.path().join(name));
        assert_eq!(found, [&[PathBuf::from("/run/one")][..], &expected].concat());
        assert_eq!(keys_file_of(&path), Some(home.path().join("keys.toml")));
        assert_eq!(files_named_by(&home.path().join("missing")), Vec::<PathBuf>::new());
    }
}
