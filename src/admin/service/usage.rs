//! What was used, as far as the caller may see it.

use crate::admin::service::{Caller, Core, Service, ServiceFault};
use crate::admin::times::LATEST_MS;
use crate::store::{GroupBy, KeyRef, UsageQuery, UsageRow};
use crate::units::KeyId;

/// Figures of a time, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dashboard {
    /// All in one.
    pub totals: UsageRow,
    /// By day, ascending.
    pub days: Vec<UsageRow>,
    /// By model, and its share of all units, 0 to 1; the largest first.
    pub models: Vec<Share>,
    /// By team, and its share; the largest first.
    pub teams: Vec<Share>,
    /// The keys that used most, at most as many as asked for.
    pub keys: Vec<UsageRow>,
}

/// A sum, and its share of the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The sum.
    pub row: UsageRow,
    /// Of all units; of all requests where nothing was billed. 0 to 1.
    pub share: f64,
}

impl Service {
    /// Sums as `query` asks, as far as the caller may see them: of what was its organisation's or team's then.
    ///
    /// # Errors
    /// [`ServiceFault::Unavailable`].
    pub async fn usage(&self, caller: &Caller, query: UsageQuery) -> Result<Vec<UsageRow>, ServiceFault> {
        let caller = caller.clone();
        self.blocking(move |core| {
            core.program.flush_usage();
            core.usage(&caller, query)
        })
        .await
    }

    /// What one key used. A removed key's use stays known to those who could see the key then.
    ///
    /// # Errors
    /// [`ServiceFault::NotFound`] when the caller may not see the key and there is nothing it may see of its use.
    pub async fn usage_of(
        &self,
        caller: &Caller,
        key: KeyId,
        query: UsageQuery,
    ) -> Result<Vec<UsageRow>, ServiceFault> {
        let caller = caller.clone();
        self.blocking(move |core| {
            let found = core.store.key(KeyRef::Id(key)).map_err(|fault| core.failed(fault))?;
            let is_seen = found.is_some_and(|(key, _)| caller.sees(&key));
            core.program.flush_usage();
            let query = UsageQuery { key: Some(key), ..query };
            let rows = core.usage(&caller, query.clone())?;
            if is_seen || !rows.iter().all(|row| row.requests == 0) {
                return Ok(rows);
            }
            // Of a key that is gone all time counts, not only what was asked for.
            let ever = UsageQuery { from_ms: 0, to_ms: LATEST_MS, group_by: GroupBy::Total, ..query };
            let is_known = core.usage(&caller, ever)?.iter().any(|row| row.requests > 0);
            if is_known { Ok(rows) } else { Err(ServiceFault::NotFound) }
        })
        .await
    }

    /// Figures from `from_ms` to before `to_ms`, with the `top` keys that used most.
    ///
    /// # Errors
    /// [`ServiceFault::Unavailable`].
    pub async fn dashboard(
        &self,
        caller: &Caller,
        from_ms: i64,
        to_ms: i64,
        top: usize,
    ) -> Result<Dashboard, ServiceFault> {
        let caller = caller.clone();
        self.blocking(move |core| {
            core.program.flush_usage();
            let by = |group_by| {
                let query = UsageQuery { from_ms, to_ms, group_by, key: None, team_id: None, org_id: None };
                core.usage(&caller, query)
            };
            let totals = by(GroupBy::Total)?.into_iter().next().unwrap_or_default();
            let mut keys = largest_first(by(GroupBy::Key)?);
            keys.truncate(top);
            let models = shares(&totals, by(GroupBy::Model)?);
            let teams = shares(&totals, by(GroupBy::Team)?);
            Ok(Dashboard { days: by(GroupBy::Day)?, models, teams, keys, totals })
        })
        .await
    }
}

impl Core {
    fn usage(&self, caller: &Caller, mut query: UsageQuery) -> Result<Vec<UsageRow>, ServiceFault> {
        let scope = &caller.operator.scope;
        if !scope.narrow(&mut query.org_id, &mut query.team_id) {
            return Ok(Vec::new());
        }
        let mut rows = self.store.usage(&query).map_err(|fault| self.failed(fault))?;
        if query.group_by == GroupBy::Key && !scope.is_unbound() {
            // A key that has moved out of the scope since is told by its id alone: its name is its new owner's.
            for row in &mut rows {
                let Ok(id) = row.group.parse() else { continue };
                let found = self.store.key(KeyRef::Id(KeyId(id))).map_err(|fault| self.failed(fault))?;
                if found.is_none_or(|(key, _)| !caller.sees(&key)) {
                    row.name = None;
                }
            }
        }
        Ok(rows)
    }
}

fn largest_first(mut rows: Vec<UsageRow>) -> Vec<UsageRow> {
    rows.sort_by(|a, b| (b.units, b.requests, &a.group).cmp(&(a.units, a.requests, &b.group)));
    rows
}

fn shares(totals: &UsageRow, rows: Vec<UsageRow>) -> Vec<Share> {
    let weigh = |row: &UsageRow| if totals.units > 0 { row.units } else { row.requests };
    let whole = weigh(totals).max(1);
    // Shares are for people: what a float rounds away does not matter.
    #[expect(clippy::cast_precision_loss, reason = "a share is a rounded figure")]
    let share = |row: &UsageRow| weigh(row) as f64 / whole as f64;
    largest_first(rows).into_iter().map(|row| Share { share: share(&row), row }).collect()
}
