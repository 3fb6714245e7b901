//! A key as the vendor shows it, and one to be made as the vendor's callers write it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::refused::Refused;
use crate::admin::service::{KeyFields, KeyView, NewKey};
use crate::admin::times;
use crate::keys::secret::Secret;

/// The longest alias.
const LONGEST_ALIAS: usize = 100;

/// A page of keys, its members in the vendor's order.
#[derive(Debug, Serialize)]
pub struct Page {
    /// How many there are on all pages.
    pub total: u64,
    /// How many there are here.
    pub size: usize,
    /// The keys.
    pub ai_api_keys: Vec<Item>,
}

/// A key, its members in the vendor's order.
#[derive(Serialize)]
pub struct Item {
    ai_api_key: String,
    alias: String,
    app_id: String,
    create_time: String,
    id: String,
}

/// Hides the key: it is in clear when it has just been made.
impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Item").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Item {
    /// With what may be shown of the secret.
    pub fn masked(key: &KeyView, app_id: &str) -> Self {
        Self {
            ai_api_key: key.mask.with_seven_stars(),
            alias: key.fields.name.to_string(),
            app_id: app_id.to_owned(),
            create_time: times::rfc3339(key.created_at_ms.div_euclid(1000).saturating_mul(1000)),
            id: key.id.0.simple().to_string(),
        }
    }

    /// With the secret, this once.
    pub fn in_clear(key: &KeyView, app_id: &str, secret: &Secret) -> Self {
        Self { ai_api_key: secret.expose().to_owned(), ..Self::masked(key, app_id) }
    }
}

/// Reads `{ai_api_key?, alias?}`; an empty body is an empty object.
pub fn read(body: &[u8], org_id: &str) -> Result<NewKey, Refused> {
    let mut members = match body {
        [] => Map::new(),
        body => serde_json::from_slice::<Map<String, Value>>(body).map_err(|_| Refused::parameter("body"))?,
    };
    let secret = text(&mut members, "ai_api_key")?.map(Secret::new);
    let alias = match text(&mut members, "alias")? {
        Some(alias) if is_alias(&alias) => alias,
        Some(_) => return Err(Refused::parameter("alias")),
        None => made_up_alias()?,
    };
    if let Some(unknown) = members.keys().next() {
        return Err(Refused::Parameter(unknown.chars().take(LONGEST_ALIAS).collect()));
    }
    let fields = KeyFields { org_id: Some(org_id.into()), ..KeyFields::named(&alias) };
    Ok(NewKey { fields, secret })
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Refused> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refused::parameter(name)),
    }
}

fn is_alias(alias: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LONGEST_ALIAS).contains(&alias.len()) && alias.bytes().all(is_plain)
}

/// An alias for a key that was given none.
fn made_up_alias() -> Result<String, Refused> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|_| Refused::System)?;
    Ok(format!("ai-api-key-{:08x}", u32::from_be_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(body: &str) -> Option<String> {
        match read(body.as_bytes(), "apig/p/i/a") {
            Ok(_) => None,
            Err(Refused::Parameter(name)) => Some(name),
            Err(other) => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn a_key_is_read_with_its_secret_and_its_alias() {
        let key = read(br#"{"ai_api_key":"chosen-secret-1","alias":"test_1-A"}"#, "apig/p/i/a").unwrap();
        assert_eq!((&*key.fields.name, key.fields.org_id.as_deref()), ("test_1-A", Some("apig/p/i/a")));
        assert_eq!(key.secret.map(|secret| secret.expose().to_owned()).as_deref(), Some("chosen-secret-1"));
        for body in ["", "{}", r#"{"alias":null,"ai_api_key":null}"#] {
            let key = read(body.as_bytes(), "apig/p/i/a").unwrap();
            assert!(is_alias(&key.fields.name) && key.secret.is_none(), "{body}");
        }
    }

    #[test]
    fn every_fault_names_its_parameter() {
        let long = format!(r#"{{"alias":"{}"}}"#, "a".repeat(101));
        for (body, parameter) in [
            ("[]", "body"),
            ("{", "body"),
            ("null", "body"),
            (r#"{"alias":""}"#, "alias"),
            (r#"{"alias":"a b"}"#, "alias"),
            (r#"{"alias":7}"#, "alias"),
            (long.as_str(), "alias"),
            (r#"{"ai_api_key":7}"#, "ai_api_key"),
            (r#"{"alias":"a","colour":"red"}"#, "colour"),
        ] {
            assert_eq!(refusal(body).as_deref(), Some(parameter), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..64), alias in "\\PC{0,8}") {
            let _ = read(&body, "apig/p/i/a");
            let _ = read(format!(r#"{{"alias":{alias:?}}}"#).as_bytes(), "apig/p/i/a");
        }
    }
}
