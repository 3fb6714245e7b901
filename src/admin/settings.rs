//! What the configuration says of the admin listener and of the operators.

use std::fmt;
use std::net::SocketAddr;

/// `[admin]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who may log in; there is no token that was not given.
    pub tokens: Vec<TokenSettings>,
}

/// One operator's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Whose it is; unique.
    pub name: Box<str>,
    /// What the token is recognised by.
    pub digest: TokenDigest,
    /// What it may do.
    pub role: Role,
    /// The only organisation it sees, when bound to one.
    pub org_id: Option<Box<str>>,
    /// The only team it sees, when bound to one.
    pub team_id: Option<Box<str>>,
}

impl TokenSettings {
    /// The shortest token, bytes (SECURITY 4: short secrets refuse to start).
    pub const MIN_TOKEN_BYTES: usize = 16;
}

/// SHA-256 of a token; the token itself is not kept. `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See.
    Read,
    /// See and change.
    Write,
}

impl Role {
    /// The name used in configuration and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}
