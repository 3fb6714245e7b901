//! The numbers and names every other module speaks in. A value of one of these types is already in range.

use std::fmt;
use std::num::NonZeroU32;
use std::num::NonZeroU64;
use std::sync::Arc;

use uuid::Uuid;

/// Tokens, as a backend counts them.
pub type Tokens = u64;

/// Quota units. What one is worth is the operator's choice: a token when a model has no price, else what `[prices]` says.
pub type Units = u64;

/// Requests per minute, 1 to 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rpm(NonZeroU32);

/// Tokens per minute, 1 to 10,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tpm(NonZeroU64);

/// Requests of one key under way at once, 1 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parallel(NonZeroU32);

impl Rpm {
    /// The largest rate that can be set.
    pub const MAX: u32 = 1_000_000_000;

    /// `None` when `per_minute` is zero or above [`Rpm::MAX`].
    pub fn new(per_minute: u32) -> Option<Self> {
        NonZeroU32::new(per_minute).filter(|n| n.get() <= Self::MAX).map(Self)
    }

    /// Requests per minute.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The same, for APIs that want the proof that it is not zero.
    pub fn non_zero(self) -> NonZeroU32 {
        self.0
    }
}

impl Tpm {
    /// The largest rate that can be set; beyond it a token refills in under the bucket's resolution.
    pub const MAX: u64 = 10_000_000_000;

    /// `None` when `per_minute` is zero or above [`Tpm::MAX`].
    pub fn new(per_minute: u64) -> Option<Self> {
        NonZeroU64::new(per_minute).filter(|n| n.get() <= Self::MAX).map(Self)
    }

    /// Tokens per minute.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl Parallel {
    /// The largest limit that can be set.
    pub const MAX: u32 = 1_000_000;

    /// `None` when `requests` is zero or above [`Parallel::MAX`].
    pub fn new(requests: u32) -> Option<Self> {
        NonZeroU32::new(requests).filter(|n| n.get() <= Self::MAX).map(Self)
    }

    /// Requests at once.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// A key's identity for life: a uuid (v7 when we make it). Never the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub Uuid);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a secret is stored and looked up by: HMAC-SHA-256(pepper, SHA-256(secret)). Not a secret itself, but nothing to
/// print either, so `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// The bytes that a model name may have.
static MODEL_BYTES: [bool; 256] = {
    let (mut table, mut at) = ([false; 256], 0);
    while at < table.len() {
        table[at] = matches!(at as u8, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b':' | b'/' | b'@' | b'+' | b'-');
        at += 1;
    }
    table
};

/// The name of a model as a client writes it: 1 to 256 of `[A-Za-z0-9._:/@+-]`, without `..` (SECURITY: it may become part
/// of a path). Compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// `None` when `name` is not a model name.
    pub fn new(name: &str) -> Option<Self> {
        Self::is_valid(name.as_bytes()).then(|| Self(name.into()))
    }

    /// Whether these bytes are a model name.
    pub fn is_valid(name: &[u8]) -> bool {
        let (mut is_sound, mut last) = (true, 0);
        for byte in name.iter().take(Self::MAX_BYTES) {
            is_sound &= MODEL_BYTES[usize::from(*byte)] && !(last == b'.' && *byte == b'.');
            last = *byte;
        }
        is_sound && !name.is_empty() && name.len() <= Self::MAX_BYTES
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_is_never_a_limit() {
        assert!(Rpm::new(0).is_none());
        assert!(Tpm::new(0).is_none());
        assert!(Parallel::new(0).is_none());
        assert!(Tpm::new(Tpm::MAX + 1).is_none());
        assert_eq!(Tpm::new(Tpm::MAX).map(Tpm::get), Some(Tpm::MAX));
    }

    #[test]
    fn a_model_name_cannot_climb_a_path_or_hide_a_byte() {
        for good in ["gpt-4o", "org/model:free", "id@main", "a", "ft:gpt-4o+x"] {
            assert!(ModelName::new(good).is_some(), "{good}");
        }
        let long = "a".repeat(257);
        for bad in ["", "..", "a/../b", "a b", "a\0", "ü", "a%2f", "a?b", "a#b", long.as_str()] {
            assert!(ModelName::new(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_model_name_is_what_its_rule_says(name in "[a-z.]{0,8}|[A-Za-z0-9._:/@+-]{0,300}|\\PC{0,6}|[ -~]{0,4}") {
            let is_one = !name.is_empty()
                && name.len() <= ModelName::MAX_BYTES
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte))
                && !name.contains("..");
            prop_assert_eq!(ModelName::is_valid(name.as_bytes()), is_one);
        }
    }

    #[test]
    fn a_digest_does_not_print() {
        assert_eq!(format!("{:?}", KeyDigest([7; 32])), "KeyDigest(..)");
    }
}
