//! Keys as they are kept: what the table needs, and what only operators ask about.

use std::fmt;

use crate::keys::KeyRecord;
use crate::keys::secret::Secret;
use crate::limits::QuotaCount;
use crate::policy::KeyStatus;
use crate::units::{KeyDigest, KeyId};

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// A small number for APIs that count keys; given by the store when the key is first written (0 until then), for life.
    pub number: i64,
    /// What the table needs.
    pub record: KeyRecord,
    /// What only operators ask about.
    pub details: KeyDetails,
}

/// What of a key only operators ask about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyDetails {
    /// Counts the changes, from 1, of a removed key that comes back from 1 again. A change is refused as
    /// [`stale`](crate::store::StoreFault::Stale) unless it is the next one.
    pub version: u64,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub updated_at_ms: i64,
    /// What may be shown of the current secret.
    pub mask: Mask,
    /// What may be shown of the secrets before it; one for each of the record's `previous`, in their order.
    pub old_secrets: Vec<OldSecret>,
    /// Up to 16 pairs that are the operator's own.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// What only the new-api family has; kept and given back.
    pub newapi: NewApiFields,
}

/// What may be shown of a secret to operators, who see it in full only once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    /// Its first characters: 12 of a long one, 4 of one below 32 characters, 2 of one of 20 or fewer; none where only its hash is known.
    pub head: Box<str>,
    /// Its last characters: 8, 4 or 2.
    pub tail: Box<str>,
}

/// What may be shown of a secret that was replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OldSecret {
    /// Its prefix.
    pub prefix: Box<str>,
}

/// Fields of a token of the new-api family that mean nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewApiFields {
    /// The group.
    pub group: Box<str>,
    /// Whether other groups may be tried.
    pub cross_group_retry: bool,
    /// The list of models while it is switched off; as it was written.
    pub dormant_models: Option<Box<str>>,
    /// What was said to remain while the quota is unlimited.
    pub dormant_remain: i64,
}

impl Mask {
    /// Of this secret.
    pub fn of(secret: &Secret) -> Self {
        let text = secret.expose();
        let (head, tail) = match text.len() {
            0..=4 => (0, 0),
            5..=20 => (2, 2),
            21..=31 => (4, 4),
            _ => (12, 8),
        };
        // Secrets are ASCII; of anything else nothing is shown.
        let head = text.get(..head).unwrap_or_default();
        let tail = text.get(text.len().saturating_sub(tail)..).unwrap_or_default();
        Self { head: head.into(), tail: tail.into() }
    }

    /// Head, seven stars, tail.
    pub fn with_seven_stars(&self) -> String {
        format!("{}*******{}", self.head, self.tail)
    }

    /// At most four characters at either end, ten stars between.
    pub fn with_ten_stars(&self) -> String {
        let head = self.head.get(..4).unwrap_or(&self.head);
        let tail = self.tail.get(self.tail.len().saturating_sub(4)..).unwrap_or(&self.tail);
        format!("{head}**********{tail}")
    }
}

/// What names a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRef {
    /// Its identity.
    Id(KeyId),
    /// Its number.
    Number(i64),
}

/// What is counted of a key, as far as it is in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyState {
    /// Of its quota.
    pub counted: QuotaCount,
    /// When it was last used, milliseconds since 1970.
    pub last_used_ms: Option<i64>,
    /// The use of its previous secrets, those in grace or past it.
    pub old_secrets: Vec<SecretUse>,
}

/// The use of a previous secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Which.
    pub digest: KeyDigest,
    /// Requests since another secret took its place.
    pub uses: u64,
    /// The last of them, milliseconds since 1970.
    pub last_used_ms: Option<i64>,
}

impl fmt::Debug for SecretUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretUse").field("uses", &self.uses).field("last_used_ms", &self.last_used_ms).finish()
    }
}

/// A change to the keys that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredChange {
    /// Makes or replaces one; a key removed earlier comes back under its number.
    Put(Box<StoredKey>),
    /// Removes one. Its number, its name and what it used stay known.
    Remove {
        /// Which.
        id: KeyId,
        /// When, milliseconds since 1970.
        at_ms: i64,
    },
}

/// Which keys are asked for; every condition must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Exactly.
    pub org_id: Option<Box<str>>,
    /// Exactly.
    pub team_id: Option<Box<str>>,
    /// Contained, any letter case.
    pub name_contains: Option<Box<str>>,
    /// As SQL's LIKE reads it, with `%` alone: what the new-api family searches by.
    pub name_like: Option<Box<str>>,
    /// Begins the prefix that is shown of the secret.
    pub prefix: Option<Box<str>>,
    /// Whose secret has this digest.
    pub secret: Option<KeyDigest>,
    /// Which may ask for this model.
    pub model: Option<Box<str>>,
    /// Exactly.
    pub is_sandbox: Option<bool>,
    /// As computed at a moment.
    pub status: Option<StatusFilter>,
}

/// A computed status, and the moment it is computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusFilter {
    /// Which.
    pub status: KeyStatus,
    /// When, milliseconds since 1970: what has expired by then.
    pub at_ms: i64,
    /// What of it is certain, by which the periods of quotas turn.
    pub certain_ms: i64,
}

/// How keys are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By time of creation, newest first; equal ones by number, largest first.
    NewestFirst,
    /// By number, largest first.
    NumberDescending,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFrom {
    /// After so many.
    Offset(u64),
    /// After the key with this time of creation (milliseconds since 1970) and number.
    After {
        /// Its time of creation.
        created_at_ms: i64,
        /// Its number.
        number: i64,
    },
}

/// Some of the keys asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    /// In the order asked for.
    pub keys: Vec<(StoredKey, KeyState)>,
    /// How many there are on all pages.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret;

    #[test]
    fn a_mask_shows_twelve_and_eight_of_ours_and_little_of_a_short_one() {
        let ours = secret::generate();
        let mask = Mask::of(&ours);
        assert_eq!((mask.head.len(), mask.tail.len()), (12, 8));
        assert!(ours.expose().starts_with(&*mask.head) && ours.expose().ends_with(&*mask.tail));
        let shown = |text: &str| Mask::of(&Secret::new(text.to_owned())).with_seven_stars();
        assert_eq!(shown("12345678"), "12*******78");
        assert_eq!(shown("12345678901234567890"), "12*******90");
        assert_eq!(shown("123456789012345678901"), "1234*******8901");
        assert_eq!(shown("fdc8d90a30121234567813b6f572a123"), "fdc8d90a3012*******f572a123");
        assert_eq!(Mask::of(&ours).with_ten_stars().len(), 18);
        assert_eq!(Mask::default().with_ten_stars(), "**********");
    }
}
