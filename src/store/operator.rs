//! Operators whose tokens the program made itself; those of the configuration are not kept.

/// One of them. Its token is known only by its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredOperator {
    /// Unique.
    pub name: Box<str>,
    /// SHA-256 of the token.
    pub token_sha256: [u8; 32],
    /// `read` or `write`.
    pub role: Box<str>,
    /// When it was made, milliseconds since 1970.
    pub created_at_ms: i64,
}

impl std::fmt::Debug for StoredOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredOperator").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}
