//! A key as a row, and a row as a key.
//!
//! Lists stand in one column, joined by commas, which neither a model's pattern nor an endpoint nor an address holds; a column
//! is null where there is no rule.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keys::{KeyRecord, PreviousSecret, Source};
use crate::limits::QuotaCount;
use crate::policy::{AddressRules, EndpointRules, Glob, KeyPolicy, ModelRules, OnDisconnect, QuotaReset, QuotaRule};
use crate::store::embedded::integer;
use crate::store::{KeyDetails, KeyState, Mask, NewApiFields, OldSecret, SecretUse, StoreFault, StoredKey};
use crate::units::{KeyDigest, KeyId, Parallel, Rpm, Tpm};

/// What [`Reader`] reads, from `keys k LEFT JOIN states s ON s.key_number = k.number`.
pub(super) const COLUMNS: &str = "k.number, k.id, k.current, k.old_secrets, k.source, k.name, k.key_prefix, k.org_id, k.team_id, \
    k.models, k.endpoints, k.rpm, k.tpm, k.max_parallel, k.quota_limit, k.quota_reset, k.allowed_ips, k.expires_at_ms, \
    k.is_sandbox, k.on_disconnect, k.is_disabled, k.version, k.created_at_ms, k.updated_at_ms, k.mask_head, k.mask_tail, \
    k.extras, s.used, s.since_day, s.touched_day, s.last_used_ms";

/// What few keys have, in one column.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Extras {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(Box<str>, Box<str>)>,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: Box<str>,
    cross_group_retry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dormant_models: Option<Box<str>>,
    dormant_remain: i64,
}

/// `extras` of a key; null when it has none.
///
/// # Errors
/// Never in practice: it cannot be written as JSON.
pub(super) fn extras_of(details: &KeyDetails) -> Result<Option<String>, StoreFault> {
    let newapi = details.newapi.clone();
    let extras = Extras {
        metadata: details.metadata.clone(),
        group: newapi.group,
        cross_group_retry: newapi.cross_group_retry,
        dormant_models: newapi.dormant_models,
        dormant_remain: newapi.dormant_remain,
    };
    if extras == Extras::default() {
        return Ok(None);
    }
    serde_json::to_string(&extras).map(Some).map_err(|error| StoreFault::Unavailable(error.to_string()))
}

/// A list as its column; null when it is empty.
pub(super) fn list<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Option<String> {
    let mut joined = String::new();
    for entry in entries {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(entry.as_ref());
    }
    (!joined.is_empty()).then_some(joined)
}

/// The list of `models`, from its column.
///
/// # Errors
/// One of them is no pattern.
pub(super) fn models(column: Option<&str>) -> Result<ModelRules, StoreFault> {
    let Some(joined) = column else { return Ok(ModelRules::default()) };
    let globs = joined.split(',').map(Glob::new).collect::<Option<Vec<_>>>();
    globs.map(ModelRules::new).ok_or_else(|| damaged("models"))
}

/// Reads keys from rows of [`COLUMNS`].
#[derive(Debug)]
pub(super) struct Reader<'a> {
    connection: &'a Connection,
}

impl<'a> Reader<'a> {
    /// For rows of this connection.
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// The key of a row, with what is counted of it.
    ///
    /// # Errors
    /// The store cannot be read, or the row holds what no program of ours writes.
    pub(super) fn key(&self, row: &Row<'_>) -> Result<(StoredKey, KeyState), StoreFault> {
        let number = row.get(0)?;
        let id = KeyId(Uuid::from_bytes(row.get(1)?));
        let mut key = StoredKey {
            number,
            record: KeyRecord {
                policy: policy(id, row)?,
                current: KeyDigest(row.get(2)?),
                previous: Vec::new(),
                source: source(text(row, 4)?)?,
            },
            details: details(row)?,
        };
        let mut state = state(row, 27)?;
        if row.get_ref(3)?.as_i64().map_err(|_| damaged("old_secrets"))? > 0 {
            self.old_secrets(&mut key, &mut state)?;
        }
        Ok((key, state))
    }

    fn old_secrets(&self, key: &mut StoredKey, state: &mut KeyState) -> Result<(), StoreFault> {
        let sql = "SELECT digest, uses, last_used_ms, prefix, until_ms FROM old_secrets WHERE key_number = ?1 ORDER BY position";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([key.number])?;
        while let Some(row) = rows.next()? {
            let used = secret_use(row)?;
            key.record.previous.push(PreviousSecret { digest: used.digest, until_unix_ms: row.get(4)? });
            key.details.old_secrets.push(OldSecret { prefix: boxed(row, 3)? });
            state.old_secrets.push(used);
        }
        Ok(())
    }
}

/// The use of a replaced secret, from the columns `digest, uses, last_used_ms`.
///
/// # Errors
/// A column holds what it should not.
pub(super) fn secret_use(row: &Row<'_>) -> rusqlite::Result<SecretUse> {
    let digest = KeyDigest(row.get(0)?);
    Ok(SecretUse { digest, uses: integer::read(row.get(1)?), last_used_ms: row.get(2)? })
}

/// What is counted of a key, from four columns beginning at `from`; the first is null where nothing was counted yet.
///
/// # Errors
/// A column holds what it should not.
pub(super) fn state(row: &Row<'_>, from: usize) -> Result<KeyState, StoreFault> {
    let Some(used) = row.get::<_, Option<i64>>(from)? else { return Ok(KeyState::default()) };
    Ok(KeyState {
        counted: QuotaCount {
            used: integer::read(used),
            since_day: row.get(from + 1)?,
            touched_day: row.get(from + 2)?,
        },
        last_used_ms: row.get(from + 3)?,
        old_secrets: Vec::new(),
    })
}

fn policy(id: KeyId, row: &Row<'_>) -> Result<KeyPolicy, StoreFault> {
    Ok(KeyPolicy {
        id,
        name: boxed(row, 5)?,
        key_prefix: boxed(row, 6)?,
        org_id: maybe_text(row, 7)?.map(Box::from),
        team_id: maybe_text(row, 8)?.map(Box::from),
        models: models(maybe_text(row, 9)?)?,
        endpoints: endpoints(maybe_text(row, 10)?)?,
        rpm: limit(row, 11, Rpm::new)?,
        tpm: limit(row, 12, Tpm::new)?,
        max_parallel: limit(row, 13, Parallel::new)?,
        quota: quota(row, 14)?,
        allowed_ips: addresses(maybe_text(row, 16)?)?,
        expires_at_ms: row.get(17)?,
        is_sandbox: row.get(18)?,
        on_disconnect: named(text(row, 19)?, OnDisconnect::ALL, OnDisconnect::as_str)?,
        is_disabled: row.get(20)?,
    })
}

fn details(row: &Row<'_>) -> Result<KeyDetails, StoreFault> {
    let extras: Extras = match maybe_text(row, 26)? {
        Some(json) => serde_json::from_str(json).map_err(|_| damaged("extras"))?,
        None => Extras::default(),
    };
    Ok(KeyDetails {
        version: integer::read(row.get(21)?),
        created_at_ms: row.get(22)?,
        updated_at_ms: row.get(23)?,
        mask: Mask { head: boxed(row, 24)?, tail: boxed(row, 25)? },
        old_secrets: Vec::new(),
        metadata: extras.metadata,
        newapi: NewApiFields {
            group: extras.group,
            cross_group_retry: extras.cross_group_retry,
            dormant_models: extras.dormant_models,
            dormant_remain: extras.dormant_remain,
        },
    })
}

/// The rule of a quota, from the columns `quota_limit, quota_reset` beginning at `from`.
///
/// # Errors
/// A column holds what it should not.
pub(super) fn quota(row: &Row<'_>, from: usize) -> Result<Option<QuotaRule>, StoreFault> {
    let Some(limit) = row.get::<_, Option<i64>>(from)? else { return Ok(None) };
    let reset = named(text(row, from + 1)?, QuotaReset::ALL, QuotaReset::as_str)?;
    Ok(Some(QuotaRule { limit: integer::read(limit), reset }))
}

fn limit<N: TryFrom<i64>, L>(row: &Row<'_>, at: usize, new: fn(N) -> Option<L>) -> Result<Option<L>, StoreFault> {
    let Some(kept) = row.get::<_, Option<i64>>(at)? else { return Ok(None) };
    N::try_from(kept).ok().and_then(new).map(Some).ok_or_else(|| damaged("a limit"))
}

fn endpoints(column: Option<&str>) -> Result<EndpointRules, StoreFault> {
    let Some(joined) = column else { return Ok(EndpointRules::ALL) };
    let names = joined.split(',').collect::<Vec<_>>();
    EndpointRules::compile(&names).map_err(|_| damaged("endpoints"))
}

fn addresses(column: Option<&str>) -> Result<AddressRules, StoreFault> {
    let Some(joined) = column else { return Ok(AddressRules::default()) };
    let entries = joined.split(',').collect::<Vec<_>>();
    AddressRules::compile(&entries).map_err(|_| damaged("allowed_ips"))
}

fn source(name: &str) -> Result<Source, StoreFault> {
    named(name, [Source::File, Source::Api], Source::as_str)
}

/// The value whose name this is.
fn named<T: Copy, const N: usize>(name: &str, all: [T; N], name_of: fn(T) -> &'static str) -> Result<T, StoreFault> {
    all.into_iter().find(|value| name_of(*value) == name).ok_or_else(|| damaged("a name"))
}

fn boxed(row: &Row<'_>, at: usize) -> Result<Box<str>, StoreFault> {
    text(row, at).map(Box::from)
}

fn text<'a>(row: &'a Row<'_>, at: usize) -> Result<&'a str, StoreFault> {
    maybe_text(row, at)?.ok_or_else(|| damaged("a text"))
}

fn maybe_text<'a>(row: &'a Row<'_>, at: usize) -> Result<Option<&'a str>, StoreFault> {
    match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        other => other.as_str().map(Some).map_err(|_| damaged("a text")),
    }
}

fn damaged(what: &str) -> StoreFault {
    StoreFault::Damaged(format!("a key's row holds {what} that is none"))
}
