//! Changes to keys: all of them or, with an error, none; the caller rolls back.
//!
//! Secrets may go from one of the changed keys to another, so every secret that is to move is let go of first.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::limits::QuotaCount;
use crate::store::embedded::intern::Interned;
use crate::store::embedded::sheet::{Edit, Edits, Facts};
use crate::store::embedded::{fold, integer, row};
use crate::store::{SecretUse, StoreFault, StoredChange, StoredKey};
use crate::units::{KeyDigest, KeyId};

/// What is known of a key that is to be changed.
#[derive(Debug)]
struct Known {
    number: i64,
    is_removed: bool,
    version: u64,
    owner: i64,
    current: Option<KeyDigest>,
    /// What was counted of its replaced secrets.
    uses: Vec<SecretUse>,
}

/// Makes the changes in their order, and gives the keys' numbers.
///
/// # Errors
/// The first change that cannot be made, or the accident.
pub(super) fn apply(
    connection: &Connection,
    interned: &mut Interned,
    changes: &[StoredChange],
) -> Result<Vec<i64>, StoreFault> {
    let mut known = release(connection, changes)?;
    let mut numbers = Vec::with_capacity(changes.len());
    let mut edits = Edits::default();
    for change in changes {
        let (number, edit) = match change {
            StoredChange::Put(key) => {
                let (number, owner) = put(connection, interned, &mut known, key)?;
                (number, Edit::Put(facts(connection, key, number, owner)?))
            }
            StoredChange::Remove { id, at_ms } => (remove(connection, &mut known, *id, *at_ms)?, Edit::Remove),
        };
        numbers.push(number);
        edits.add(number, edit);
    }
    edits.write(connection)?;
    Ok(numbers)
}

fn facts(connection: &Connection, key: &StoredKey, number: i64, owner: i64) -> Result<Facts, StoreFault> {
    let policy = &key.record.policy;
    let counted = match policy.quota {
        Some(_) => fold::state_of(connection, number)?.counted,
        None => QuotaCount::default(),
    };
    Ok(Facts::new(policy, key.details.created_at_ms, owner, counted))
}

/// Looks every key up, and lets go of the secrets that will not be its current one.
fn release(connection: &Connection, changes: &[StoredChange]) -> Result<HashMap<KeyId, Known>, StoreFault> {
    let mut last = HashMap::with_capacity(changes.len());
    for change in changes {
        match change {
            StoredChange::Put(key) => last.insert(key.record.policy.id, Some(key.record.current)),
            StoredChange::Remove { id, .. } => last.insert(*id, None),
        };
    }
    let mut found = HashMap::with_capacity(last.len());
    for (id, current) in last {
        let Some(mut known) = look_up(connection, id)? else { continue };
        if known.current.is_some() && known.current != current {
            known.current = None;
            connection.prepare_cached("UPDATE keys SET current = NULL WHERE number = ?1")?.execute([known.number])?;
        }
        found.insert(id, known);
    }
    Ok(found)
}

fn look_up(connection: &Connection, id: KeyId) -> Result<Option<Known>, StoreFault> {
    let sql = "SELECT number, removed_at_ms IS NOT NULL, version, owner, current, old_secrets FROM keys WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.0.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut known = Known {
        number: row.get(0)?,
        is_removed: row.get(1)?,
        version: integer::read(row.get(2)?),
        owner: row.get(3)?,
        current: row.get::<_, Option<[u8; 32]>>(4)?.map(KeyDigest),
        uses: Vec::new(),
    };
    if row.get::<_, i64>(5)? > 0 {
        known.uses = take_old_secrets(connection, known.number)?;
    }
    Ok(Some(known))
}

fn take_old_secrets(connection: &Connection, number: i64) -> Result<Vec<SecretUse>, StoreFault> {
    let sql = "DELETE FROM old_secrets WHERE key_number = ?1 RETURNING digest, uses, last_used_ms";
    let mut statement = connection.prepare_cached(sql)?;
    let taken = statement.query_map([number], row::secret_use)?;
    Ok(taken.collect::<Result<_, _>>()?)
}

/// Gives the key's number, and its owner's.
fn put(
    connection: &Connection,
    interned: &mut Interned,
    known: &mut HashMap<KeyId, Known>,
    key: &StoredKey,
) -> Result<(i64, i64), StoreFault> {
    let policy = &key.record.policy;
    let before = known.get_mut(&policy.id);
    let next = before.as_ref().filter(|known| !known.is_removed).map_or(1, |known| known.version.saturating_add(1));
    if key.details.version != next {
        return Err(StoreFault::Stale);
    }
    let owner = interned.owner(connection, policy.org_id.as_deref(), policy.team_id.as_deref())?;
    let number = before.as_ref().map(|known| known.number);
    let holder = holder(connection, &key.record.current)?;
    if holder.is_some() && holder != number {
        return Err(StoreFault::SecretTaken);
    }
    let number = match before {
        Some(before) => {
            if before.is_removed || before.owner != owner {
                if !before.is_removed {
                    count_live(connection, before.owner, -1)?;
                }
                count_live(connection, owner, 1)?;
            }
            (before.is_removed, before.version, before.owner) = (false, next, owner);
            before.current = Some(key.record.current);
            // A key named twice in one step: what the first wrote is taken back.
            let earlier = take_old_secrets(connection, before.number)?;
            before.uses.extend(earlier);
            write_row(connection, UPDATE, key, owner)?;
            before.number
        }
        None => {
            count_live(connection, owner, 1)?;
            write_row(connection, INSERT, key, owner)?;
            connection.last_insert_rowid()
        }
    };
    let known = known.entry(policy.id).or_insert_with(|| Known {
        number,
        is_removed: false,
        version: next,
        owner,
        current: Some(key.record.current),
        uses: Vec::new(),
    });
    put_old_secrets(connection, known, key)?;
    Ok((number, owner))
}

fn put_old_secrets(connection: &Connection, known: &Known, key: &StoredKey) -> Result<(), StoreFault> {
    let sql = "INSERT INTO old_secrets (digest, key_number, position, prefix, until_ms, uses, last_used_ms) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    for (position, previous) in (0_i64..).zip(&key.record.previous) {
        if holder(connection, &previous.digest)?.is_some() {
            return Err(StoreFault::SecretTaken);
        }
        let shown = usize::try_from(position).ok().and_then(|at| key.details.old_secrets.get(at));
        let prefix = shown.map(|old| &*old.prefix).unwrap_or_default();
        let used = known.uses.iter().rfind(|used| used.digest == previous.digest);
        let (uses, last_used_ms) = used.map_or((0, None), |used| (used.uses, used.last_used_ms));
        connection.prepare_cached(sql)?.execute(params![
            previous.digest.0,
            known.number,
            position,
            prefix,
            previous.until_unix_ms,
            integer::kept(uses),
            last_used_ms,
        ])?;
    }
    Ok(())
}

fn remove(
    connection: &Connection,
    known: &mut HashMap<KeyId, Known>,
    id: KeyId,
    at_ms: i64,
) -> Result<i64, StoreFault> {
    let known = known.get_mut(&id).filter(|known| !known.is_removed).ok_or(StoreFault::Unknown)?;
    let sql = "UPDATE keys SET removed_at_ms = ?2, current = NULL, old_secrets = 0 WHERE number = ?1";
    connection.prepare_cached(sql)?.execute([known.number, at_ms])?;
    take_old_secrets(connection, known.number)?;
    count_live(connection, known.owner, -1)?;
    (known.is_removed, known.current, known.uses) = (true, None, Vec::new());
    Ok(known.number)
}

/// Whose secret this is, current or replaced.
fn holder(connection: &Connection, digest: &KeyDigest) -> Result<Option<i64>, StoreFault> {
    let sql =
        "SELECT number FROM keys WHERE current = ?1 UNION ALL SELECT key_number FROM old_secrets WHERE digest = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([digest.0], |row| row.get(0)).optional()?)
}

fn count_live(connection: &Connection, owner: i64, by: i64) -> Result<(), StoreFault> {
    connection.prepare_cached("UPDATE owners SET live = live + ?2 WHERE number = ?1")?.execute([owner, by])?;
    Ok(())
}

const INSERT: &str = "INSERT INTO keys (id, owner, current, old_secrets, source, name, key_prefix, org_id, team_id, \
    models, endpoints, rpm, tpm, max_parallel, quota_limit, quota_reset, allowed_ips, expires_at_ms, is_sandbox, on_disconnect, \
    is_disabled, version, created_at_ms, updated_at_ms, mask_head, mask_tail, extras) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, \
    ?26, ?27)";

const UPDATE: &str = "UPDATE keys SET removed_at_ms = NULL, owner = ?2, current = ?3, old_secrets = ?4, source = ?5, name = ?6, \
    key_prefix = ?7, org_id = ?8, team_id = ?9, models = ?10, endpoints = ?11, rpm = ?12, tpm = ?13, max_parallel = ?14, \
    quota_limit = ?15, quota_reset = ?16, allowed_ips = ?17, expires_at_ms = ?18, is_sandbox = ?19, on_disconnect = ?20, \
    is_disabled = ?21, version = ?22, created_at_ms = ?23, updated_at_ms = ?24, mask_head = ?25, mask_tail = ?26, \
    extras = ?27 WHERE id = ?1";

fn write_row(connection: &Connection, sql: &str, key: &StoredKey, owner: i64) -> Result<(), StoreFault> {
    let (policy, details) = (&key.record.policy, &key.details);
    let old_secrets = i64::try_from(key.record.previous.len()).unwrap_or(i64::MAX);
    let tpm = policy.tpm.and_then(|tpm| i64::try_from(tpm.get()).ok());
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params![
        policy.id.0.as_bytes(),
        owner,
        key.record.current.0,
        old_secrets,
        key.record.source.as_str(),
        policy.name,
        policy.key_prefix,
        policy.org_id,
        policy.team_id,
        row::list(policy.models.patterns()),
        row::list(policy.endpoints.entries()),
        policy.rpm.map(|rpm| rpm.get()),
        tpm,
        policy.max_parallel.map(|most| most.get()),
        policy.quota.map(|rule| integer::kept(rule.limit)),
        policy.quota.map(|rule| rule.reset.as_str()),
        row::list(policy.allowed_ips.entries()),
        policy.expires_at_ms,
        policy.is_sandbox,
        policy.on_disconnect.as_str(),
        policy.is_disabled,
        integer::kept(details.version),
        details.created_at_ms,
        details.updated_at_ms,
        details.mask.head,
        details.mask.tail,
        row::extras_of(details)?,
    ])?;
    Ok(())
}
