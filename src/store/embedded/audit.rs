//! The audit in its table, which can only grow.

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::store::audit::AuditRow;
use crate::store::{AuditEntry, AuditPage, AuditQuery, StoreFault};
use crate::units::KeyId;

/// Appends the entries.
///
/// # Errors
/// The store cannot be written.
pub(super) fn append(connection: &Connection, entries: &[AuditEntry]) -> Result<(), StoreFault> {
    let sql = "INSERT INTO audit (at_ms, operator, via, action, key_id, org_id, team_id, address, old_values, new_values) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    for entry in entries {
        connection.prepare_cached(sql)?.execute(params![
            entry.at_ms,
            entry.operator,
            entry.via,
            entry.action,
            entry.key.map(|key| *key.0.as_bytes()),
            entry.org_id,
            entry.team_id,
            entry.address.map(|address| address.to_string()),
            entry.before,
            entry.after,
        ])?;
    }
    Ok(())
}

/// The entries asked for, newest first.
///
/// # Errors
/// The store cannot be read.
pub(super) fn page(connection: &Connection, query: &AuditQuery) -> Result<AuditPage, StoreFault> {
    let mut sql = "SELECT number, at_ms, operator, via, action, key_id, org_id, team_id, address, old_values, new_values \
        FROM audit WHERE number < ifnull(?1, 9223372036854775807) AND at_ms >= ifnull(?2, at_ms) AND at_ms < ifnull(?3, at_ms + 1)"
        .to_owned();
    let key = query.key.map(|key| *key.0.as_bytes());
    // Written only where asked for, so that the index of the one that is asked for is used.
    for (condition, is_asked) in [
        (" AND key_id = ?4", key.is_some()),
        (" AND org_id = ?5", query.org_id.is_some()),
        (" AND team_id = ?6", query.team_id.is_some()),
        (" AND operator = ?7", query.operator.is_some()),
        (" AND action = ?8", query.action.is_some()),
    ] {
        if is_asked {
            sql.push_str(condition);
        }
    }
    sql.push_str(" ORDER BY number DESC LIMIT ?9");
    let more = i64::try_from(query.limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(
        params![
            query.before_number,
            query.from_ms,
            query.to_ms,
            key,
            query.org_id,
            query.team_id,
            query.operator,
            query.action,
            more
        ],
        |row| {
            Ok(AuditRow {
                number: row.get(0)?,
                at_ms: row.get(1)?,
                operator: row.get(2)?,
                via: row.get(3)?,
                action: row.get(4)?,
                key: row.get::<_, Option<[u8; 16]>>(5)?.map(|id| KeyId(Uuid::from_bytes(id))),
                org_id: row.get(6)?,
                team_id: row.get(7)?,
                address: row.get(8)?,
                before: row.get(9)?,
                after: row.get(10)?,
            })
        },
    )?;
    let mut entries = rows.collect::<Result<Vec<_>, _>>()?;
    let has_more = entries.len() > query.limit;
    entries.truncate(query.limit);
    Ok(AuditPage { entries, has_more })
}
