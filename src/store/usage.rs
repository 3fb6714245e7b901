//! Settled requests on their way into the store, and what is asked of them afterwards.

use uuid::Uuid;

use crate::limits::QuotaCount;
use crate::policy::{DialectName, Endpoint, Usage};
use crate::store::Entries;
use crate::units::{KeyId, Units};

/// What became of one request of a known key. `S` is borrowed where an entry is made, owned where it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<S = Box<str>> {
    /// As the client was told; at most 128 bytes.
    pub request_id: S,
    /// When it was settled, milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Whose it is.
    pub key: KeyId,
    /// The first 8 bytes of the digest of the secret it came with, when another had taken that one's place.
    pub previous_secret: Option<[u8; 8]>,
    /// Whose API.
    pub dialect: DialectName,
    /// Which call.
    pub endpoint: Endpoint,
    /// As the client wrote it; empty where there is none.
    pub model: S,
    /// What became of it.
    pub outcome: Outcome,
    /// The name of the refusal, the fault or the cut; empty where there is none.
    pub reason: S,
    /// The answer's status; 0 when there was none.
    pub status: u16,
    /// What it used.
    pub usage: Usage,
    /// What that cost.
    pub units: Units,
    /// The day on which the quota's count had last begun anew when these units were added to it
    /// ([`QuotaCount::since_day`](crate::limits::QuotaCount::since_day)).
    pub since_day: i32,
    /// The quota's day then.
    pub touched_day: i32,
    /// From the end of its head to the first byte of its answer, microseconds; 0 when there was none.
    pub first_byte_us: u64,
    /// From the end of its head until it was settled, microseconds.
    pub duration_us: u64,
    /// How many requests it stands for: 1, or more where several had to be summed up.
    pub requests: u32,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered, whole or not, and charged.
    Answered,
    /// The upstream answered with an error; nothing was charged.
    UpstreamError,
    /// There was no answer; nothing was charged.
    Fault,
    /// It was refused.
    Refused,
    /// It was answered from memory.
    Local,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Answered, Self::UpstreamError, Self::Fault, Self::Refused, Self::Local];

    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::UpstreamError => "upstream_error",
            Self::Fault => "fault",
            Self::Refused => "refused",
            Self::Local => "local",
        }
    }

    /// Whether each one becomes a record of its own. What was refused or answered from memory is only counted.
    pub fn is_recorded(self) -> bool {
        matches!(self, Self::Answered | Self::UpstreamError | Self::Fault)
    }
}

/// Entries of several journals, to be written in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageBatch {
    /// Of one journal each.
    pub slices: Vec<JournalSlice>,
}

/// Entries of one journal. Those at or below the number that the store has drained of it already are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSlice {
    /// Which journal.
    pub journal: Uuid,
    /// What it holds of them.
    pub entries: Entries,
    /// Whether the journal's file is gone, so that its number need not be kept any more.
    pub is_last: bool,
}

/// How usage is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// By key.
    Key,
    /// By model, as clients asked for it.
    Model,
    /// By the team its key had then.
    Team,
    /// By the organisation its key had then.
    Org,
    /// By day, UTC.
    Day,
    /// By hour, UTC.
    Hour,
    /// By call.
    Endpoint,
    /// All in one row.
    Total,
}

/// Which usage is asked for. Times are whole hours: `from_ms` is rounded down, `to_ms` up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Not before, milliseconds since 1970.
    pub from_ms: i64,
    /// Before, milliseconds since 1970.
    pub to_ms: i64,
    /// How it is summed up.
    pub group_by: GroupBy,
    /// Of one key, removed or not.
    pub key: Option<KeyId>,
    /// Of what was this team's then.
    pub team_id: Option<Box<str>>,
    /// Of what was this organisation's then.
    pub org_id: Option<Box<str>>,
}

/// One sum.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UsageRow {
    /// Its group: the key's id, a name, a day (`2026-01-31`), an hour (`2026-01-31T13:00:00Z`), empty for none and for the total.
    pub group: String,
    /// The key's name, when summed up by key.
    pub name: Option<String>,
    /// Requests of every outcome.
    pub requests: u64,
    /// Those that were refused, by the refusal's name, in the order of the names.
    pub refusals: Vec<(String, u64)>,
    /// Those that ended in an upstream's error or a fault.
    pub errors: u64,
    /// Those whose usage was estimated.
    pub estimated: u64,
    /// Tokens.
    pub input_tokens: u64,
    /// Tokens of those.
    pub cached_input_tokens: u64,
    /// Tokens.
    pub output_tokens: u64,
    /// Units.
    pub units: u64,
    /// Half of the answers began within so many milliseconds; none when nothing was answered.
    pub first_byte_p50_ms: Option<f64>,
    /// 99 in a hundred.
    pub first_byte_p99_ms: Option<f64>,
    /// Half of the requests were over within so many milliseconds.
    pub duration_p50_ms: Option<f64>,
    /// 99 in a hundred.
    pub duration_p99_ms: Option<f64>,
}

/// The books, recomputed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Keys with a count.
    pub keys: u64,
    /// Records.
    pub records: u64,
    /// Requests they stand for, those folded away included.
    pub requests: u64,
    /// Units of them all, those folded away included.
    pub units: u64,
    /// What each key's count stands at.
    pub counts: Vec<(KeyId, QuotaCount)>,
    /// What does not agree.
    pub mismatches: Vec<Mismatch>,
}

/// Two numbers that should be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Whose.
    pub key: Option<KeyId>,
    /// What is compared, such as `quota_used against the sum of its records`.
    pub what: &'static str,
    /// The first.
    pub counted: u64,
    /// The second.
    pub summed: u64,
}

impl Entry<&str> {
    /// The same, its text its own.
    pub fn to_owned_text(&self) -> Entry {
        Entry {
            request_id: self.request_id.into(),
            at_unix_ms: self.at_unix_ms,
            key: self.key,
            previous_secret: self.previous_secret,
            dialect: self.dialect,
            endpoint: self.endpoint,
            model: self.model.into(),
            outcome: self.outcome,
            reason: self.reason.into(),
            status: self.status,
            usage: self.usage,
            units: self.units,
            since_day: self.since_day,
            touched_day: self.touched_day,
            first_byte_us: self.first_byte_us,
            duration_us: self.duration_us,
            requests: self.requests,
        }
    }
}

impl Entry {
    /// The same, its text borrowed.
    pub fn as_text(&self) -> Entry<&str> {
        Entry {
            request_id: &self.request_id,
            at_unix_ms: self.at_unix_ms,
            key: self.key,
            previous_secret: self.previous_secret,
            dialect: self.dialect,
            endpoint: self.endpoint,
            model: &self.model,
            outcome: self.outcome,
            reason: &self.reason,
            status: self.status,
            usage: self.usage,
            units: self.units,
            since_day: self.since_day,
            touched_day: self.touched_day,
            first_byte_us: self.first_byte_us,
            duration_us: self.duration_us,
            requests: self.requests,
        }
    }
}

impl<S> Entry<S> {
    /// What it added to its key's quota, and to which count.
    pub fn counted(&self) -> QuotaCount {
        QuotaCount { used: self.units, since_day: self.since_day, touched_day: self.touched_day }
    }
}
