//! From how people name a key to its id.

use serde_json::Value;
use uuid::Uuid;

use super::{KEYS, page};
use crate::cli::client::{Client, Query, strange};
use crate::cli::failure::Failure;
use crate::cli::output::plain;
use crate::keys::secret::{self, Shape};

/// The shortest beginning of an id that is looked for.
const SHORTEST: usize = 8;

/// How many candidates are listed.
const LISTED: usize = 10;

/// The id of the key that `named` means: an id, the beginning of one, or an exact name.
///
/// # Errors
/// When it means none, or several: then they are listed.
pub fn id(client: &Client, named: &str) -> Result<String, Failure> {
    if let Ok(id) = Uuid::parse_str(named) {
        return Ok(id.to_string());
    }
    is_no_secret(named)?;
    // Only the server knows every name, and it has no question for beginnings of ids: for these all keys are read.
    let mut sought = Sought::new(named);
    let name = (!sought.is_start).then_some(named);
    each(client, name, |key| {
        sought.look(key["id"].as_str().unwrap_or_default(), key["name"].as_str().unwrap_or_default());
    })?;
    sought.id()
}

/// The ids of several, each once however often it is named, and as whom it was named first. All are found before anything is done to the first.
///
/// # Errors
/// As those of one.
pub fn ids<'a>(client: &Client, named: &'a [String]) -> Result<Vec<(String, &'a str)>, Failure> {
    let mut ids: Vec<(String, &str)> = Vec::new();
    for named in named {
        let id = id(client, named)?;
        if ids.iter().all(|(known, _)| *known != id) {
            ids.push((id, named));
        }
    }
    Ok(ids)
}

/// Refuses what is a secret, before it stands in a query or a message.
///
/// # Errors
/// It is one.
pub fn is_no_secret(named: &str) -> Result<(), Failure> {
    match secret::shape(named.as_bytes()) {
        Shape::Ours | Shape::Mistyped => {
            let prefix = secret::prefix(named);
            let why = format!(
                "`{prefix}...` is a secret, and keys are named by id or name; `keyward key list` shows whose begins so"
            );
            Err(Failure::NotInOrder(why))
        }
        _ => Ok(()),
    }
}

/// A key that somebody has named otherwise than by its id.
#[derive(Debug)]
pub struct Sought<'a> {
    named: &'a str,
    is_start: bool,
    start: String,
    found: Vec<(String, String)>,
}

impl<'a> Sought<'a> {
    /// By an exact name, or the beginning of its id.
    pub fn new(named: &'a str) -> Self {
        let (is_start, start) = (is_start_of_id(named), named.to_ascii_lowercase());
        Self { named, is_start, start, found: Vec::new() }
    }

    /// Looks whether it is this one.
    pub fn look(&mut self, id: &str, name: &str) {
        if name == self.named || self.is_start && id.starts_with(&self.start) {
            self.found.push((id.to_owned(), name.to_owned()));
        }
    }

    /// The id of the one that it was.
    ///
    /// # Errors
    /// When it was none, or several: then they are listed.
    pub fn id(self) -> Result<String, Failure> {
        let named = plain(self.named);
        match self.found.as_slice() {
            [] if self.is_start || !self.named.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Err(Failure::Failed(format!("no key is named `{named}`, nor does an id begin so")))
            }
            [] => Err(Failure::Failed(format!(
                "no key is named `{named}`; of an id at least its first 8 characters are wanted"
            ))),
            [(id, _)] => Ok(id.clone()),
            several => {
                let mut why = format!("`{named}` means {} keys; name one by its id:", several.len());
                several.iter().take(LISTED).for_each(|(id, name)| why.push_str(&format!("\n  {id}  {}", plain(name))));
                if several.len() > LISTED {
                    why.push_str("\n  ...");
                }
                Err(Failure::Failed(why))
            }
        }
    }
}

fn is_start_of_id(text: &str) -> bool {
    const SHAPE: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    (SHORTEST..SHAPE.len()).contains(&text.len())
        && text.bytes().zip(SHAPE.bytes()).all(|(is, at)| if at == b'-' { is == b'-' } else { is.is_ascii_hexdigit() })
}

/// Looks at every key, page by page; at those whose name contains `name` when it is given.
fn each(client: &Client, name: Option<&str>, mut look: impl FnMut(&Value)) -> Result<(), Failure> {
    let mut cursor: Option<String> = None;
    loop {
        let mut query = Query::default();
        query.add("limit", Some("1000"));
        query.add("name", name);
        query.add("cursor", cursor.as_deref());
        let page = page(client, &query)?.json()?;
        let items = page["items"].as_array().ok_or_else(|| strange(&format!("no `items` from {KEYS}")))?;
        items.iter().for_each(&mut look);
        let next = page["next_cursor"].as_str().map(str::to_owned);
        if next.is_none() || next == cursor {
            return Ok(());
        }
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_no_name_and_stands_in_no_message() {
        let secret = secret::generate();
        let mut mistyped = secret.expose().to_owned();
        let last = if mistyped.ends_with('a') { "b" } else { "a" };
        mistyped.replace_range(mistyped.len() - 1.., last);
        for named in [secret.expose(), &mistyped] {
            let Err(Failure::NotInOrder(why)) = is_no_secret(named) else { panic!("taken for a name") };
            assert!(why.contains(&named[..12]) && !why.contains(&named[..13]), "{why}");
        }
        assert_eq!(is_no_secret("sk-kw-demo"), Ok(()));
    }

    #[test]
    fn beginnings_of_ids_are_told_from_names() {
        for start in ["01999f2e", "01999F2E-", "01999f2e-aaaa-7", "01999f2e-aaaa-7bbb-8ccc-ddddeeeeff0"] {
            assert!(is_start_of_id(start), "{start}");
        }
        for name in
            ["", "demo", "0199", "01999f2e_", "01999f2ea", "deadbeef-prod", "01999f2e-aaaa-7bbb-8ccc-ddddeeeeff001"]
        {
            assert!(!is_start_of_id(name), "{name}");
        }
    }
}
