//! Who changed what, when and from where: appended to, never changed.

use crate::units::KeyId;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Given by the store, ascending; 0 until then.
    pub number: i64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The operator's name; `file` for what a reload of the key file changed.
    pub operator: Box<str>,
    /// Which API: `native`, `apig`, `newapi`, `file`.
    pub via: &'static str,
    /// What was done: `key.create`, `key.update`, `key.rotate`, `key.rotate_end`, `key.disable`, `key.enable`, `key.delete`,
    /// `config.reload`, `operator.create`.
    pub action: &'static str,
    /// To which key.
    pub key: Option<KeyId>,
    /// The key's organisation, for operators who see only theirs.
    pub org_id: Option<Box<str>>,
    /// The key's team.
    pub team_id: Option<Box<str>>,
    /// From where; none for a file.
    pub address: Option<std::net::IpAddr>,
    /// The key before, as JSON without a secret; only the members that changed.
    pub before: Option<String>,
    /// The same after.
    pub after: Option<String>,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Of one key.
    pub key: Option<KeyId>,
    /// Exactly.
    pub org_id: Option<Box<str>>,
    /// Exactly.
    pub team_id: Option<Box<str>>,
    /// Exactly.
    pub operator: Option<Box<str>>,
    /// Exactly.
    pub action: Option<Box<str>>,
    /// Not before, milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Before, milliseconds since 1970.
    pub to_ms: Option<i64>,
    /// Only those with a smaller number: where the last page ended.
    pub before_number: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// Some of the entries asked for, as they are read back: names are text by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// Newest first.
    pub entries: Vec<AuditRow>,
    /// Whether there are more.
    pub has_more: bool,
}

/// An entry read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Ascending with time.
    pub number: i64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Who.
    pub operator: String,
    /// By which API.
    pub via: String,
    /// What.
    pub action: String,
    /// To which key.
    pub key: Option<KeyId>,
    /// Its organisation.
    pub org_id: Option<String>,
    /// Its team.
    pub team_id: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// What changed, as it was; JSON.
    pub before: Option<String>,
    /// What changed, as it became; JSON.
    pub after: Option<String>,
}
