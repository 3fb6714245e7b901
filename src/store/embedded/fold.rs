//! What settled requests add up to, by key and by hour. What was written of it last is kept: it is not read again for the next batch, as long as
//! nobody else writes.

use foldhash::HashMap;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::limits::QuotaCount;
use crate::policy::QuotaRule;
use crate::store::embedded::histogram::Histogram;
use crate::store::embedded::sheet::marks::spent_until;
use crate::store::embedded::sheet::{Edit, Edits};
use crate::store::embedded::{integer, row};
use crate::store::{Entry, KeyState, Outcome, StoreFault};
use crate::units::KeyId;

/// Milliseconds of an hour.
pub(super) const MS_PER_HOUR: i64 = 3_600_000;

/// Keys and hours that are kept at most from one batch to the next.
const MOST_KEPT: usize = 4_096;

/// A key, by the store's number, and its owner's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    /// The key's.
    pub key: i64,
    /// The owner's.
    pub owner: i64,
}

/// Which row of `hourly`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Counted from 1970.
    pub hour: i64,
    /// The key's number.
    pub key: i64,
    /// The owner's.
    pub owner: i64,
    /// The name's.
    pub model: i64,
    /// The name's.
    pub endpoint: i64,
}

/// Sums of a group.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Of every outcome.
    pub requests: u64,
    /// Of outcomes that become records.
    pub recorded: u64,
    /// Upstreams' errors and faults.
    pub errors: u64,
    /// With usage that was estimated.
    pub estimated: u64,
    /// Tokens.
    pub input_tokens: u64,
    /// Tokens of those.
    pub cached_input_tokens: u64,
    /// Tokens.
    pub output_tokens: u64,
    /// Units.
    pub units: u64,
    /// Microseconds to the first byte of what was answered.
    pub first_byte: Histogram,
    /// Microseconds of what was recorded.
    pub duration: Histogram,
}

impl Sums {
    /// Adds one entry.
    pub(super) fn add<S>(&mut self, entry: &Entry<S>) {
        let requests = u64::from(entry.requests);
        let when = |condition: bool| if condition { requests } else { 0 };
        let is_recorded = entry.outcome.is_recorded();
        add(&mut self.requests, requests);
        add(&mut self.recorded, when(is_recorded));
        add(&mut self.errors, when(matches!(entry.outcome, Outcome::UpstreamError | Outcome::Fault)));
        add(&mut self.estimated, when(entry.usage.estimated));
        add(&mut self.input_tokens, entry.usage.input);
        add(&mut self.cached_input_tokens, entry.usage.cached_input);
        add(&mut self.output_tokens, entry.usage.output);
        add(&mut self.units, entry.units);
        // A refusal takes no time worth knowing, and would hide how long the others took.
        if is_recorded {
            self.duration.add(entry.duration_us, requests);
            if entry.first_byte_us > 0 {
                self.first_byte.add(entry.first_byte_us, requests);
            }
        }
    }

    /// Adds the sums of a row, its columns in the order of [`SUMS`] from `from` on.
    ///
    /// # Errors
    /// A column holds what it should not.
    pub(super) fn add_row(&mut self, row: &rusqlite::Row<'_>, from: usize) -> Result<(), StoreFault> {
        let counts = [
            &mut self.requests,
            &mut self.recorded,
            &mut self.errors,
            &mut self.estimated,
            &mut self.input_tokens,
            &mut self.cached_input_tokens,
            &mut self.output_tokens,
            &mut self.units,
        ];
        for (at, count) in counts.into_iter().enumerate() {
            add(count, integer::read(row.get(from + at)?));
        }
        for (at, histogram) in [(8, &mut self.first_byte), (9, &mut self.duration)] {
            let bytes = row.get_ref(from + at)?.as_blob().map_err(rusqlite::Error::from)?;
            histogram.merge(Histogram::from_bytes(bytes)?);
        }
        Ok(())
    }
}

/// The columns of [`Sums`].
pub(super) const SUMS: &str = "requests, recorded, errors, estimated, input_tokens, cached_input_tokens, output_tokens, units, first_byte, duration";

/// What is counted of a key.
#[derive(Debug)]
struct Counted {
    holder: Holder,
    state: KeyState,
    rule: Option<QuotaRule>,
    /// Until when its quota counts as spent, as it was last written.
    was_spent_until: Option<i32>,
    /// Where the sums are that its last entry was added to: the next one mostly belongs there too.
    last: Option<usize>,
    is_changed: bool,
}

/// Sums of an hour.
#[derive(Debug)]
struct Hour {
    group: Group,
    /// The number of its row, if it has one.
    row: Option<i64>,
    sums: Sums,
    is_changed: bool,
}

/// Everything that batches add up to, between a batch and the next as it is written.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// Another one once another connection has written.
    data_version: Option<i64>,
    accounts: Vec<Counted>,
    /// Where in `accounts` a key stands.
    keys: HashMap<KeyId, usize>,
    hours: Vec<Hour>,
    /// Where in `hours` a group stands.
    places: HashMap<Group, usize>,
    changed_accounts: Vec<usize>,
    changed_hours: Vec<usize>,
    /// Requests and the time of the last, by key and the beginning of the digest.
    old_secrets: HashMap<(i64, [u8; 8]), (u64, i64)>,
    /// By the place in `hours` and the reason.
    refusals: HashMap<(usize, i64), u64>,
}

impl Fold {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Begins a batch.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn begin(&mut self, connection: &Connection) -> Result<(), StoreFault> {
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        let are_many = self.accounts.len() > MOST_KEPT || self.hours.len() > MOST_KEPT;
        if are_many || self.data_version != Some(version) {
            self.clear();
        }
        self.data_version = Some(version);
        Ok(())
    }

    /// The account of a key, if it is open.
    pub(super) fn account(&self, key: KeyId) -> Option<usize> {
        self.keys.get(&key).copied()
    }

    /// Opens the account of a key, whose quota's rule is `rule`, and says which it is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn open(
        &mut self,
        connection: &Connection,
        id: KeyId,
        holder: Holder,
        rule: Option<QuotaRule>,
    ) -> Result<usize, StoreFault> {
        let state = state_of(connection, holder.key)?;
        let was_spent_until = spent_until(rule, state.counted);
        self.accounts.push(Counted { holder, state, rule, was_spent_until, last: None, is_changed: false });
        let account = self.accounts.len() - 1;
        self.keys.insert(id, account);
        Ok(account)
    }

    /// Adds one entry of the key of this account, and says where: the number of its key, and the place of the sums for [`Fold::refuse`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        account: usize,
        (model, endpoint): (i64, i64),
        entry: &Entry<&str>,
    ) -> Result<(i64, usize), StoreFault> {
        let counted = self.accounts.get_mut(account).ok_or_else(|| StoreFault::Unavailable(NO_ACCOUNT.to_owned()))?;
        let (holder, state) = (counted.holder, &mut counted.state);
        state.counted.add(entry.counted());
        state.last_used_ms = state.last_used_ms.max(Some(entry.at_unix_ms));
        if !std::mem::replace(&mut counted.is_changed, true) {
            self.changed_accounts.push(account);
        }
        if let Some(tag) = entry.previous_secret {
            let (uses, last) = self.old_secrets.entry((holder.key, tag)).or_insert((0, i64::MIN));
            add(uses, entry.requests.into());
            *last = (*last).max(entry.at_unix_ms);
        }
        let hour = entry.at_unix_ms.div_euclid(MS_PER_HOUR);
        let group = Group { hour, key: holder.key, owner: holder.owner, model, endpoint };
        let at = match counted.last.filter(|at| self.hours.get(*at).is_some_and(|hour| hour.group == group)) {
            Some(at) => at,
            None => match self.places.get(&group) {
                Some(at) => *at,
                None => {
                    let (row, sums) = read_hour(connection, group)?;
                    self.hours.push(Hour { group, row, sums, is_changed: false });
                    self.places.insert(group, self.hours.len() - 1);
                    self.hours.len() - 1
                }
            },
        };
        counted.last = Some(at);
        if let Some(hour) = self.hours.get_mut(at) {
            hour.sums.add(entry);
            if !std::mem::replace(&mut hour.is_changed, true) {
                self.changed_hours.push(at);
            }
        }
        Ok((holder.key, at))
    }

    /// Counts requests that were refused for the reason of this number, in the sums at this place.
    pub(super) fn refuse(&mut self, at: usize, reason: i64, requests: u32) {
        add(self.refusals.entry((at, reason)).or_default(), requests.into());
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<(), StoreFault> {
        let mut edits = Edits::default();
        // Statements are made once for all of them, and not for each.
        let mut write_state = connection.prepare_cached(WRITE_STATE)?;
        for account in self.changed_accounts.drain(..) {
            let Some(counted) = self.accounts.get_mut(account) else { continue };
            let QuotaCount { used, since_day, touched_day } = counted.state.counted;
            let last_used_ms = counted.state.last_used_ms;
            write_state.execute(params![
                counted.holder.key,
                integer::kept(used),
                since_day,
                touched_day,
                last_used_ms
            ])?;
            let is_spent_until = spent_until(counted.rule, counted.state.counted);
            if is_spent_until != counted.was_spent_until {
                edits.add(counted.holder.key, Edit::Spend(is_spent_until));
                counted.was_spent_until = is_spent_until;
            }
            counted.is_changed = false;
        }
        edits.write(connection)?;
        for ((key, tag), (uses, last)) in self.old_secrets.drain() {
            count_old_secret(connection, key, &tag, uses, last)?;
        }
        let sql = format!("UPDATE hourly SET ({SUMS}) = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) WHERE number = ?1");
        let mut update = connection.prepare_cached(&sql)?;
        for at in self.changed_hours.drain(..) {
            let Some(hour) = self.hours.get_mut(at) else { continue };
            match hour.row {
                Some(row) => put_sums(&mut update, &[row], &mut hour.sums)?,
                None => hour.row = Some(insert_hour(connection, hour.group, &mut hour.sums)?),
            }
            hour.is_changed = false;
        }
        for ((at, reason), requests) in self.refusals.drain() {
            if let Some(row) = self.hours.get(at).and_then(|hour| hour.row) {
                write_refusals(connection, row, reason, requests)?;
            }
        }
        Ok(())
    }
}

/// What is said of a bug.
const NO_ACCOUNT: &str = "an account that is not open";

/// What is counted of a key, its old secrets apart.
///
/// # Errors
/// The store cannot be read.
pub(super) fn state_of(connection: &Connection, key: i64) -> Result<KeyState, StoreFault> {
    let sql = "SELECT used, since_day, touched_day, last_used_ms FROM states WHERE key_number = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([key])?;
    rows.next()?.map_or_else(|| Ok(KeyState::default()), |found| row::state(found, 0))
}

/// Writes what is counted of a key.
const WRITE_STATE: &str = "INSERT INTO states (key_number, used, since_day, touched_day, last_used_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
    ON CONFLICT (key_number) DO UPDATE SET used = ?2, since_day = ?3, touched_day = ?4, last_used_ms = ?5";

/// Counts the use of a secret that its key still lists; of any other nobody asks.
fn count_old_secret(
    connection: &Connection,
    key: i64,
    tag: &[u8; 8],
    more: u64,
    last_ms: i64,
) -> Result<(), StoreFault> {
    let sql = "SELECT digest, uses FROM old_secrets WHERE key_number = ?1 AND substr(digest, 1, 8) = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![key, tag], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((digest, uses)) = found else { return Ok(()) };
    let uses = integer::kept(integer::read(uses).saturating_add(more));
    let sql = "UPDATE old_secrets SET uses = ?2, last_used_ms = max(ifnull(last_used_ms, ?3), ?3) WHERE digest = ?1";
    connection.prepare_cached(sql)?.execute(params![digest, uses, last_ms])?;
    Ok(())
}

/// The number of the row of a group and its sums; without a row, none and nothing.
fn read_hour(connection: &Connection, group: Group) -> Result<(Option<i64>, Sums), StoreFault> {
    let sql = format!(
        "SELECT number, {SUMS} FROM hourly WHERE hour = ?1 AND key_number = ?2 AND owner = ?3 AND model = ?4 AND endpoint = ?5"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([group.hour, group.key, group.owner, group.model, group.endpoint])?;
    let mut sums = Sums::default();
    let Some(row) = rows.next()? else { return Ok((None, sums)) };
    sums.add_row(row, 1)?;
    Ok((Some(row.get(0)?), sums))
}

fn insert_hour(connection: &Connection, group: Group, sums: &mut Sums) -> Result<i64, StoreFault> {
    let sql = format!(
        "INSERT INTO hourly (hour, key_number, owner, model, endpoint, {SUMS}) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
    );
    let place = [group.hour, group.key, group.owner, group.model, group.endpoint];
    put_sums(&mut connection.prepare_cached(&sql)?, &place, sums)?;
    Ok(connection.last_insert_rowid())
}

/// Binds what says where, then the sums, and writes the row.
fn put_sums(statement: &mut CachedStatement<'_>, place: &[i64], sums: &mut Sums) -> Result<(), StoreFault> {
    let counts = [
        sums.requests,
        sums.recorded,
        sums.errors,
        sums.estimated,
        sums.input_tokens,
        sums.cached_input_tokens,
        sums.output_tokens,
        sums.units,
    ];
    let numbers = place.iter().copied().chain(counts.map(integer::kept));
    let mut at = 0;
    for number in numbers {
        at += 1;
        statement.raw_bind_parameter(at, number)?;
    }
    statement.raw_bind_parameter(at + 1, sums.first_byte.bytes())?;
    statement.raw_bind_parameter(at + 2, sums.duration.bytes())?;
    statement.raw_execute()?;
    Ok(())
}

fn write_refusals(connection: &Connection, hourly: i64, reason: i64, more: u64) -> Result<(), StoreFault> {
    let sql = "SELECT requests FROM refusals WHERE hourly = ?1 AND reason = ?2";
    let found: Option<i64> =
        connection.prepare_cached(sql)?.query_row([hourly, reason], |row| row.get(0)).optional()?;
    let requests = integer::kept(integer::read(found.unwrap_or(0)).saturating_add(more));
    let sql = "INSERT INTO refusals (hourly, reason, requests) VALUES (?1, ?2, ?3) \
        ON CONFLICT (hourly, reason) DO UPDATE SET requests = ?3";
    connection.prepare_cached(sql)?.execute([hourly, reason, requests])?;
    Ok(())
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
