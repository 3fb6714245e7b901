//! Who may log in to the admin listener, and what an operator sees and may change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use crate::admin::settings::{Role, Settings, TokenDigest, TokenSettings};
use crate::clock::{NS_PER_SECOND, Now};
use crate::keys::secret::{self, Secret};
use crate::limits::Attempts;
use crate::store::{Store, StoreFault, StoredOperator, Write};

/// What every token that the program makes begins with.
pub const TOKEN_PREFIX: &str = "kw-admin-";

/// Failed logins of one address that are answered as such; beyond them it is told to wait.
pub const FAILURES_PER_MINUTE: u32 = 20;

/// The longest token that is looked at, bytes.
const LONGEST_TOKEN: usize = 1_024;

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Unique; stands in the audit.
    pub name: Box<str>,
    /// What it may do.
    pub role: Role,
    /// What it sees.
    pub scope: Scope,
}

/// The organisation and the team outside of which an operator sees and changes nothing. Both absent: it sees everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The only organisation.
    pub org_id: Option<Box<str>>,
    /// The only team.
    pub team_id: Option<Box<str>>,
}

impl Scope {
    /// Whether there is no bound.
    pub fn is_unbound(&self) -> bool {
        self.org_id.is_none() && self.team_id.is_none()
    }

    /// Whether what belongs to this organisation and team is inside.
    pub fn sees(&self, org_id: Option<&str>, team_id: Option<&str>) -> bool {
        let within = |bound: &Option<Box<str>>, value: Option<&str>| bound.as_deref().is_none_or(|b| value == Some(b));
        within(&self.org_id, org_id) && within(&self.team_id, team_id)
    }

    /// Narrows what is asked for to what is inside; `false` when nothing of it is.
    #[must_use]
    pub fn narrow(&self, org_id: &mut Option<Box<str>>, team_id: &mut Option<Box<str>>) -> bool {
        let narrow = |bound: &Option<Box<str>>, asked: &mut Option<Box<str>>| match (bound, asked.as_deref()) {
            (Some(bound), Some(asked)) => **bound == *asked,
            (Some(bound), None) => {
                *asked = Some(bound.clone());
                true
            }
            (None, _) => true,
        };
        // Both are narrowed, whatever the first says.
        let (org, team) = (narrow(&self.org_id, org_id), narrow(&self.team_id, team_id));
        org && team
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginRefused {
    /// No token, or one of nobody (401).
    Unknown,
    /// Too many failures from this address (429). A token that is somebody's is never met by this.
    Throttled {
        /// Whole seconds until one more may be made.
        retry_after_s: u64,
    },
}

/// Everybody who may log in. Tokens are found by their SHA-256: what a look-up's time tells is about the hash, of which nobody can
/// choose a part.
#[derive(Debug)]
pub struct Operators {
    by_token: ArcSwap<HashMap<TokenDigest, Arc<Operator>>>,
    /// Those of the store, which a reload of the configuration keeps.
    stored: Mutex<Vec<StoredOperator>>,
    attempts: Attempts,
    failures_per_minute: u32,
}

impl Operators {
    /// Those of the configuration or, where that lists none, those of the store: a token that the program has made counts until others are listed.
    pub fn new(settings: &Settings, stored: Vec<StoredOperator>) -> Self {
        let by_token = ArcSwap::from_pointee(index(&settings.tokens, &stored));
        Self {
            by_token,
            stored: Mutex::new(stored),
            attempts: Attempts::new(),
            failures_per_minute: FAILURES_PER_MINUTE,
        }
    }

    /// The same with another allowance of failures.
    #[must_use]
    pub fn allowing(self, failures_per_minute: u32) -> Self {
        Self { failures_per_minute, ..self }
    }

    /// Puts other tokens of the configuration in force, for the next request.
    pub fn replace(&self, settings: &Settings) {
        self.by_token.store(Arc::new(index(&settings.tokens, &self.stored())));
    }

    /// Makes the operator `admin` where there is nobody, and returns its token, which is in clear this once. To be called once somebody is there to be
    /// told: it is made only if nobody is.
    ///
    /// # Errors
    /// The store does not take it; there is nobody then.
    pub fn make_first(&self, store: &dyn Store, now: Now) -> Result<Option<Secret>, StoreFault> {
        if !self.by_token.load().is_empty() {
            return Ok(None);
        }
        let token = secret::generate_token(TOKEN_PREFIX);
        let operator = StoredOperator {
            name: "admin".into(),
            token_sha256: Sha256::digest(token.expose().as_bytes()).into(),
            role: Role::Write.as_str().into(),
            created_at_ms: now.unix_ms,
        };
        store.write(Write::Operator(operator.clone()))?;
        let mut stored = self.stored();
        stored.push(operator);
        self.by_token.store(Arc::new(index(&[], &stored)));
        Ok(Some(token))
    }

    fn stored(&self) -> MutexGuard<'_, Vec<StoredOperator>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose token this is. A failure counts against `address`; a missing token is none, since it guesses nothing.
    ///
    /// # Errors
    /// [`LoginRefused`].
    pub fn log_in(&self, token: Option<&[u8]>, address: IpAddr, now: Now) -> Result<Arc<Operator>, LoginRefused> {
        let token = token.ok_or(LoginRefused::Unknown)?;
        if token.len() <= LONGEST_TOKEN
            && let Some(operator) = self.by_token.load().get(&TokenDigest(Sha256::digest(token).into()))
        {
            return Ok(Arc::clone(operator));
        }
        match self.attempts.record_failure(address, self.failures_per_minute, now) {
            Ok(()) => Err(LoginRefused::Unknown),
            Err(ns) => Err(LoginRefused::Throttled { retry_after_s: ns.div_ceil(NS_PER_SECOND) }),
        }
    }
}

fn index(tokens: &[TokenSettings], stored: &[StoredOperator]) -> HashMap<TokenDigest, Arc<Operator>> {
    let made = stored.iter().filter(|_| tokens.is_empty()).map(|operator| {
        // A role this version does not know may see and no more.
        let role = if &*operator.role == Role::Write.as_str() { Role::Write } else { Role::Read };
        (TokenDigest(operator.token_sha256), Operator { name: operator.name.clone(), role, scope: Scope::default() })
    });
    let given = tokens.iter().map(|token| {
        let scope = Scope { org_id: token.org_id.clone(), team_id: token.team_id.clone() };
        (token.digest, Operator { name: token.name.clone(), role: token.role, scope })
    });
    made.chain(given).map(|(digest, operator)| (digest, Arc::new(operator))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { monotonic_ns: 1 << 40, unix_ms: 0 };

    fn token(name: &str, text: &str, team: Option<&str>) -> TokenSettings {
        TokenSettings {
            name: name.into(),
            digest: TokenDigest(Sha256::digest(text.as_bytes()).into()),
            role: Role::Read,
            org_id: None,
            team_id: team.map(Into::into),
        }
    }

    fn settings(tokens: Vec<TokenSettings>) -> Settings {
        Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            socket_mode: 0o600,
            tokens,
            apig: Default::default(),
            newapi: Default::default(),
            tls: None,
        }
    }

    fn stored(name: &str, text: &str) -> StoredOperator {
        let token_sha256 = Sha256::digest(text.as_bytes()).into();
        StoredOperator { name: name.into(), token_sha256, role: "write".into(), created_at_ms: 0 }
    }

    #[test]
    fn failures_are_throttled_and_a_valid_token_never_is() {
        let operators = Operators::new(&settings(vec![token("ops", "right", Some("blue"))]), Vec::new());
        let from = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..FAILURES_PER_MINUTE {
            assert_eq!(operators.log_in(Some(b"wrong"), from, NOW), Err(LoginRefused::Unknown));
        }
        let refused = operators.log_in(Some(b"wrong"), from, NOW);
        assert_eq!(refused, Err(LoginRefused::Throttled { retry_after_s: 3 }));
        assert_eq!(operators.log_in(None, from, NOW), Err(LoginRefused::Unknown));
        let found = operators.log_in(Some(b"right"), from, NOW).unwrap();
        assert_eq!((&*found.name, found.role, found.scope.team_id.as_deref()), ("ops", Role::Read, Some("blue")));
        assert_eq!(operators.log_in(Some(b"wrong"), IpAddr::from([10, 0, 0, 2]), NOW), Err(LoginRefused::Unknown));
    }

    #[test]
    fn a_made_token_counts_until_others_are_listed() {
        let operators = Operators::new(&settings(vec![]), vec![stored("admin", "made")]);
        let from = IpAddr::from([10, 0, 0, 1]);
        let may = |text: &str| operators.log_in(Some(text.as_bytes()), from, NOW).is_ok();
        assert!(may("made"));
        operators.replace(&settings(vec![token("ops", "first", None)]));
        assert!(may("first") && !may("made"), "there is no token that is not listed");
        operators.replace(&settings(vec![token("ops", "second", None)]));
        assert!(!may("first") && may("second") && !may("made"));
        operators.replace(&settings(vec![]));
        assert!(may("made") && !may("second"));
    }

    #[test]
    fn a_scope_sees_only_what_matches_every_bound() {
        let scope = Scope { org_id: Some("o".into()), team_id: None };
        assert!(scope.sees(Some("o"), Some("t")) && scope.sees(Some("o"), None));
        assert!(!scope.sees(None, Some("t")) && !scope.sees(Some("p"), None));
        let (mut org, mut team) = (None, Some("t".into()));
        assert!(scope.narrow(&mut org, &mut team));
        assert_eq!((org.as_deref(), team.as_deref()), (Some("o"), Some("t")));
        assert!(!scope.narrow(&mut Some("p".into()), &mut None));
    }
}
