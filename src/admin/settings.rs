//! What the configuration says of the admin listener and of the operators.

use std::fmt;
use std::sync::Arc;

use crate::listen::Address;
use crate::tls::Identity;

/// `[admin]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub listen: Address,
    /// The mode of a path among them.
    pub socket_mode: u32,
    /// Who may log in; there is no token that was not given.
    pub tokens: Vec<TokenSettings>,
    /// `[admin.apig]`.
    pub apig: ApigSettings,
    /// `[admin.newapi]`.
    pub newapi: NewApiSettings,
    /// What it shakes hands with; `None` where it speaks in clear.
    pub tls: Option<Arc<Identity>>,
}

/// What the API of Huawei APIG's shape is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApigSettings {
    /// The applications that exist before they have a key: `project/instance/app`.
    pub apps: Vec<Box<str>>,
}

impl ApigSettings {
    /// The longest of the three names of an application, bytes.
    pub const LONGEST_NAME: usize = 64;

    /// An application as it is listed; `None` when it is not three names with slashes between.
    pub fn app(text: &str) -> Option<Box<str>> {
        let names = text.split('/').collect::<Vec<_>>();
        (names.len() == 3 && names.iter().all(|name| Self::is_name(name))).then(|| text.into())
    }

    /// Whether this is the name of a project, an instance or an application: 1 to 64 of `[A-Za-z0-9_-]`.
    pub fn is_name(text: &str) -> bool {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=Self::LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_plain)
    }
}

/// What the API of the new-api family's shape is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiSettings {
    /// Whether a new token is answered with its key. The family's own server answers without, and gives the key to another call,
    /// which cannot be here: a key is shown once.
    pub create_returns_data: bool,
}

impl Default for NewApiSettings {
    fn default() -> Self {
        Self { create_returns_data: true }
    }
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
