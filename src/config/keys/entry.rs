//! One `[[keys]]` entry.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use toml::de::DeValue;
use toml::value::{Datetime, Offset};
use uuid::{Builder, Uuid};

use crate::config::item::Item;
use crate::config::keys::{FileKey, PREVIOUS_NAMES, Seen};
use crate::config::raw::Table;
use crate::config::server::read_addresses;
use crate::policy::{EndpointRules, Glob, KeyPolicy, ModelRules, OnDisconnect, QuotaReset, QuotaRule};
use crate::units::{KeyId, Parallel, Rpm, Tpm};

const HASH: &str = "\"sha256:\" and 64 hex digits, as `keyward key hash` prints it";

const DATE: &str = "a date such as \"2030-01-01T00:00:00Z\"";

/// Reads the entry; `None` when what makes it a key at all is missing.
pub(super) fn read(index: usize, table: &Table<'_>, seen: &mut Seen) -> Option<FileKey> {
    let name = table.require("name", "text of 1 to 100 characters").and_then(|item| {
        let name = item.words(100)?;
        seen.name(index, &item, &name);
        Some(name)
    });
    let id = read_id(index, table, name.as_deref(), seen);
    let secret = read_secret(index, table, seen);
    let previous = read_previous(index, table, seen);
    let created_at_ms = table.get("created_at").and_then(|item| unix_ms(&item));
    let metadata = table.get("metadata").map_or_else(Vec::new, read_metadata);
    let base = KeyPolicy::unlimited(KeyId(id.unwrap_or_default()), name.as_deref().unwrap_or_default(), "");
    let policy = read_policy(table, base);
    let (secret_sha256, prefix) = secret?;
    id?;
    let policy = KeyPolicy { key_prefix: prefix.into(), ..policy };
    let line = table.reader.place(table.span.start).line;
    Some(FileKey { policy, secret_sha256, previous, created_at_ms, metadata, line, warnings: Vec::new() })
}

fn read_policy(table: &Table<'_>, base: KeyPolicy) -> KeyPolicy {
    let words = |name| table.get(name).and_then(|item| item.words(256));
    let models = table.get("models_allowed").map_or_else(Vec::new, |item| {
        item.list("a list of model names or patterns with \"*\"", |item| {
            item.parsed("a model name or a pattern with \"*\"", Glob::new)
        })
    });
    let endpoints = table.get("endpoints_allowed").map_or_else(Vec::new, |item| {
        item.list("a list of endpoints", |item| {
            item.parsed("an endpoint such as \"chat\" or \"/v1/embeddings\"", |name| {
                EndpointRules::compile(&[name]).is_ok().then(|| name.to_owned())
            })
        })
    });
    KeyPolicy {
        org_id: words("org_id"),
        team_id: words("team_id"),
        models: ModelRules::new(models),
        endpoints: EndpointRules::compile(&endpoints).unwrap_or(EndpointRules::ALL),
        rpm: read_limit(table, "rpm_limit", Rpm::MAX.into()).and_then(|n| Rpm::new(u32::try_from(n).ok()?)),
        tpm: read_limit(table, "tpm_limit", Tpm::MAX).and_then(Tpm::new),
        max_parallel: read_limit(table, "max_parallel", Parallel::MAX.into())
            .and_then(|n| Parallel::new(u32::try_from(n).ok()?)),
        quota: read_quota(table),
        allowed_ips: table.get("allowed_ips").map(|item| read_addresses(&item)).unwrap_or_default(),
        expires_at_ms: table.get("expires_at").and_then(|item| unix_ms(&item)),
        is_sandbox: table.boolean_or("is_sandbox", false),
        on_disconnect: table
            .get("on_disconnect")
            .and_then(|item| item.one_of(&OnDisconnect::ALL.map(|way| (way.as_str(), way))))
            .unwrap_or_default(),
        is_disabled: table.boolean_or("disabled", false),
        ..base
    }
}

/// Absence is no limit; zero is refused, so that nobody reads it as one.
fn read_limit(table: &Table<'_>, name: &'static str, most: u64) -> Option<u64> {
    table.get(name)?.integer(1..=most)
}

fn read_quota(table: &Table<'_>) -> Option<QuotaRule> {
    let reset = table.get("quota_reset");
    let choice = reset
        .as_ref()
        .map_or(Some(QuotaReset::None), |item| item.one_of(&QuotaReset::ALL.map(|reset| (reset.as_str(), reset))));
    let Some(limit) = table.get("quota_limit") else {
        if let Some(item) = reset {
            item.fault("has no meaning without quota_limit");
        }
        return None;
    };
    let limit = limit.integer(1..=i64::MAX as u64)?;
    Some(QuotaRule { limit, reset: choice? })
}

/// The id that is written, or one made from the name (UUID version 8: SHA-256 of it), so that it stays when the secret is
/// changed and whenever the file is read again.
fn read_id(index: usize, table: &Table<'_>, name: Option<&str>, seen: &mut Seen) -> Option<Uuid> {
    if let Some(item) = table.get("id") {
        let id = item.parsed("a UUID", |text| Uuid::try_parse(text).ok().filter(|id| !id.is_nil()))?;
        seen.id(index, &item, id);
        return Some(id);
    }
    let id = id_of_name(name?);
    if let Some(item) = table.get("name") {
        seen.id_of_name(index, &item, id);
    }
    Some(id)
}

pub(super) fn id_of_name(name: &str) -> Uuid {
    let digest = Sha256::new().chain_update("keyward:file-key:").chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, from)| *byte = from);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The SHA-256 of the secret, and what may be shown of it.
fn read_secret(index: usize, table: &Table<'_>, seen: &mut Seen) -> Option<([u8; 32], String)> {
    let secret = match (table.get("key"), table.get("key_hash")) {
        (Some(item), None) => {
            let secret = item.secret()?;
            if !is_secret(&secret) {
                item.fault_unseen("a secret is 8 to 128 of A-Z a-z 0-9 + - _ / =");
                return None;
            }
            let sha256 = Sha256::digest(secret.as_bytes()).into();
            seen.secret(index, &item, sha256);
            (sha256, visible_prefix(&secret).to_owned())
        }
        (None, Some(item)) => {
            let sha256 = read_hash(&item)?;
            seen.secret(index, &item, sha256);
            let [a, b, c, d, ..] = sha256;
            (sha256, format!("sha256:{a:02x}{b:02x}{c:02x}{d:02x}"))
        }
        (None, None) => {
            table.fault_of("key_hash", format!("is missing: {HASH}, is required (or key, \"env:NAME\")"));
            return None;
        }
        (Some(_), Some(item)) => {
            item.fault_unseen("is given beside key; exactly one of the two is expected");
            return None;
        }
    };
    Some(secret)
}

/// 8 to 128 of `[A-Za-z0-9+\-_/=]` (POLICY 2).
fn is_secret(text: &str) -> bool {
    (8..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_/=".contains(&b))
}

/// The first 12 characters, of a short secret no more than a third.
fn visible_prefix(secret: &str) -> &str {
    secret.get(..(secret.len() / 3).min(12)).unwrap_or_default()
}

/// What stands here may be a secret that somebody took for its hash, so it is never told.
fn read_hash(item: &Item<'_>) -> Option<[u8; 32]> {
    let digits = item.value.as_str().and_then(|text| text.strip_prefix("sha256:"));
    let sha256 = digits.and_then(unhex);
    if sha256.is_none() {
        item.fault_unseen(format!("is not {HASH}"));
    }
    sha256
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in out.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(out)
}

fn read_previous(index: usize, table: &Table<'_>, seen: &mut Seen) -> Vec<([u8; 32], i64)> {
    let mut out = Vec::new();
    table.tables("previous", PREVIOUS_NAMES, |_, previous| {
        let sha256 = previous.require("key_hash", HASH).and_then(|item| {
            let sha256 = read_hash(&item)?;
            seen.secret(index, &item, sha256);
            Some(sha256)
        });
        let until = previous.require("until", DATE).and_then(|item| unix_ms(&item));
        out.extend(sha256.zip(until));
    });
    out
}

fn read_metadata(item: Item<'_>) -> Vec<(Box<str>, Box<str>)> {
    const MOST: usize = 16;
    if item.value.as_table().is_some_and(|pairs| pairs.len() > MOST) {
        item.fault(format!("holds more than {MOST} pairs"));
    }
    let Some(table) = item.into_open_table() else { return Vec::new() };
    let mut out = Vec::new();
    for (name, value) in table.members() {
        if !(1..=64).contains(&name.chars().take(65).count()) {
            value.fault("its name is not 1 to 64 characters long");
        }
        out.extend(value.words(512).map(|value| (name.into(), value)));
    }
    out
}

/// A moment, as TOML's own date-time or as an RFC 3339 string, in milliseconds since 1970.
fn unix_ms(item: &Item<'_>) -> Option<i64> {
    let date: Option<Datetime> = match item.value {
        DeValue::Datetime(date) => Some(*date),
        DeValue::String(text) => text.parse().ok(),
        _ => None,
    };
    if date.is_some_and(|date| date.date.is_some() && date.offset.is_none()) {
        item.fault("has no offset from UTC; end it with a time and \"Z\", as in \"2030-01-01T00:00:00Z\"");
        return None;
    }
    let ms = date.and_then(instant);
    if ms.is_none() {
        item.is_not(DATE);
    }
    ms
}

fn instant(at: Datetime) -> Option<i64> {
    let (date, time, offset) = (at.date?, at.time?, at.offset?);
    let year = i16::try_from(date.year).ok()?;
    let [month, day, hour, minute] = [date.month, date.day, time.hour, time.minute].map(|n| i8::try_from(n).ok());
    // A leap second is the last second before it.
    let second = i8::try_from(time.second.unwrap_or(0)).ok()?.min(59);
    let nanosecond = i32::try_from(time.nanosecond.unwrap_or(0)).ok()?;
    let local = DateTime::new(year, month?, day?, hour?, minute?, second, nanosecond).ok()?;
    let utc_ms = local.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    utc_ms.checked_sub(minutes * 60_000)
}
