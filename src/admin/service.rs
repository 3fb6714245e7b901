//! The one writer of keys. Every dialect of the admin listener is words around these calls.
//!
//! **How a dialect uses it.** It authenticates ([`Operators::log_in`](crate::admin::Operators::log_in)), makes a [`Caller`], reads its
//! own syntax into [`KeyFields`] or a [`KeyFilter`](crate::store::KeyFilter), calls, and words the [`KeyView`] or the [`ServiceFault`] it
//! gets. It checks neither scope nor role nor source: that is done here, the same for all.
//!
//! * A key is named by [`KeyRef`]: its id, or its number. What the caller may not see is [`ServiceFault::NotFound`].
//! * [`Service::create`] and [`Service::rotate`] answer with the secret in clear, this once. With an `Idempotency-Key` it is
//!   [`Service::create_once`] and [`Service::rotate_once`], which take the function that renders the answer, since the very same bytes
//!   are given to a repeated call.
//! * [`Service::edit`] gives a closure the fields and what is shown of the key; the closure changes them or refuses with a fault of the
//!   dialect's own, and then nothing is changed. An edit that changes nothing writes nothing.
//! * [`Service::list`] pages by offset or after a key, by time of creation or by number, and searches by name, `%` pattern, prefix or secret.
//!
//! **How a change is made.** Under the gate (so that no reload runs) and the lock of its key (changes to other keys run beside it and share
//! the store's commit): the key is read from the store, checked, edited, checked again, made durable, and put into the table, where the next
//! request meets it. From the first look to the last all of it happens on a thread that may wait and that nobody can cancel: a caller who goes away
//! does not leave a change half made. Where the store fails amid a change and cannot say whether it took it, the store is asked again, and the next
//! call for that key puts in force what the store has.

pub mod fields;
pub mod view;

mod change;
mod explain;
pub mod journal;
mod locks;
mod once;
mod read;
mod rotate;
mod usage;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Mutex;

use crate::admin::operators::Operator;
use crate::admin::program::Program;
use crate::admin::settings::Role;
use crate::clock::Clock;
use crate::keys::secret::{Digester, Secret, Shape, shape};
use crate::keys::{KeyTable, Source};
use crate::store::{KeyRef, KeyState, Store, StoreFault, StoredKey};
use crate::telemetry::metrics::Reason;
use crate::units::KeyId;

pub use explain::{Check, Explanation, Probe, Verdict};
pub use fields::{KeyFields, NewKey};
pub use locks::Gate;
pub use once::{Given, Idempotent, Render};
pub use read::{KeyListing, ListQuery, ModelView};
pub use rotate::{DEFAULT_GRACE_S, MOST_GRACE_S, Rotation};
pub use usage::{Dashboard, Share};
pub use view::{KeyView, OldSecretView};

use locks::Locks;

/// What a service is made of.
pub struct Parts {
    /// Where keys are kept.
    pub store: Arc<dyn Store>,
    /// Where the data plane finds them.
    pub keys: Arc<KeyTable>,
    /// Digests secrets, and what is remembered of calls.
    pub digester: Digester,
    /// Tells the time.
    pub clock: Clock,
    /// The running program.
    pub program: Arc<dyn Program>,
    /// Shared with whoever reloads the key file.
    pub gate: Gate,
}

/// The one writer of keys; shared by every dialect.
pub struct Service {
    core: Arc<Core>,
    gate: Gate,
    /// One at a time for each key.
    keys: Locks,
    /// One at a time for each `Idempotency-Key`.
    calls: Locks,
    /// One reload at a time: one that waits for the gate keeps a thread, and changes in the gate need threads to end.
    reloads: Arc<Mutex<()>>,
}

/// What does the work, on threads that may wait.
struct Core {
    store: Arc<dyn Store>,
    keys: Arc<KeyTable>,
    digester: Digester,
    clock: Clock,
    program: Arc<dyn Program>,
}

/// Who calls, from where, by which API.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub operator: Arc<Operator>,
    /// From where.
    pub address: IpAddr,
    /// Which API: `native`, `apig`, `newapi`.
    pub via: &'static str,
}

/// What a change of a key is made conditional on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// Nothing.
    #[default]
    Always,
    /// Its version is one of these; none of them when the tags were not ours.
    Versions(Vec<u64>),
}

/// Why a call is refused or fails. Nothing is changed then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServiceFault {
    /// There is no such key, or the caller may not see it.
    #[error("Key not found")]
    NotFound,
    /// The caller may only see.
    #[error("This token may only read")]
    ReadOnlyToken,
    /// The caller may not do this with a token that is bound to an organisation or a team.
    #[error("This token is bound to an organisation or a team, and this concerns all")]
    Bound,
    /// The caller may not set this.
    #[error("{field} is outside of what this token may set")]
    Outside {
        /// `org_id` or `team_id`.
        field: &'static str,
    },
    /// The key is declared by file.
    #[error("The key is declared in the key file and can be changed only there")]
    DeclaredByFile,
    /// `If-Match` does not match.
    #[error("The key was changed meanwhile")]
    Stale,
    /// Somebody else changed it at the same moment.
    #[error("The key is being changed by another program")]
    Overtaken,
    /// The secret given is one of ours with a typing error.
    #[error("The checksum does not match: this looks like a mistyped secret")]
    SecretMistyped,
    /// The secret given cannot be one.
    #[error("A secret is 8 to 128 of A-Z a-z 0-9 + - _ / =")]
    SecretMalformed,
    /// The secret given belongs to a key.
    #[error("The secret belongs to a key already")]
    SecretTaken,
    /// The key has as many secrets as can be.
    #[error("The key has 16 previous secrets that still work; end their grace first")]
    TooManySecrets,
    /// The `Idempotency-Key` is not 1 to 255 visible ASCII characters.
    #[error("An Idempotency-Key is 1 to 255 visible ASCII characters")]
    CallKeyMalformed,
    /// The `Idempotency-Key` was used for another call.
    #[error("The Idempotency-Key was used for another call")]
    CallKeyReused,
    /// The store does not answer.
    #[error("The store does not answer; nothing was changed")]
    Unavailable(StoreFault),
    /// Ours.
    #[error("Internal error")]
    Internal,
}

/// A key with its secret in clear, this once.
#[derive(Debug, Clone)]
pub struct Made {
    /// The key.
    pub view: KeyView,
    /// Its secret.
    pub secret: Secret,
    /// What is known of the secret it took the place of; none for a new key.
    pub replaced: Option<OldSecretView>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service(..)")
    }
}

impl Service {
    /// A service over these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, keys, digester, clock, program, gate } = parts;
        let core = Arc::new(Core { store, keys, digester, clock, program });
        Self { core, gate, keys: Locks::new(), calls: Locks::new(), reloads: Arc::default() }
    }

    /// What a reload of the key file closes for its time.
    pub fn reload_gate(&self) -> &Gate {
        &self.gate
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// The running program.
    pub fn program(&self) -> &Arc<dyn Program> {
        &self.core.program
    }

    /// The digest of a secret, to search a key by.
    pub fn digest(&self, secret: &Secret) -> crate::units::KeyDigest {
        self.core.digester.digest(secret.expose().as_bytes())
    }

    /// Does `work` on a thread that may wait. It runs to its end even when nobody waits for it any more.
    async fn blocking<T, E>(&self, work: impl FnOnce(&Core) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ServiceFault> + Send + 'static,
    {
        let core = Arc::clone(&self.core);
        // It fails only when the work panicked, which the runtime has logged.
        let done = tokio::task::spawn_blocking(move || work(&core)).await;
        done.unwrap_or_else(|_| Err(E::from(ServiceFault::Internal)))
    }
}

impl Caller {
    /// Refuses those who may only see.
    fn may_write(&self) -> Result<(), ServiceFault> {
        if self.operator.role == Role::Write { Ok(()) } else { Err(ServiceFault::ReadOnlyToken) }
    }

    fn sees(&self, key: &StoredKey) -> bool {
        let policy = &key.record.policy;
        self.operator.scope.sees(policy.org_id.as_deref(), policy.team_id.as_deref())
    }
}

impl IfMatch {
    fn check(&self, version: u64) -> Result<(), ServiceFault> {
        match self {
            Self::Always => Ok(()),
            Self::Versions(versions) if versions.contains(&version) => Ok(()),
            Self::Versions(_) => Err(ServiceFault::Stale),
        }
    }
}

impl Core {
    /// A key that the caller may see.
    fn seen(&self, caller: &Caller, key: KeyRef) -> Result<(StoredKey, KeyState), ServiceFault> {
        let found = self.store.key(key).map_err(|fault| self.failed(fault))?;
        found.filter(|(key, _)| caller.sees(key)).ok_or(ServiceFault::NotFound)
    }

    /// A key that the caller may change.
    fn own(&self, caller: &Caller, id: KeyId, if_match: &IfMatch) -> Result<(StoredKey, KeyState), ServiceFault> {
        let found = self.store.key(KeyRef::Id(id)).map_err(|fault| self.failed(fault))?;
        let Some((key, state)) = found else {
            self.forget(id);
            return Err(ServiceFault::NotFound);
        };
        if !caller.sees(&key) {
            return Err(ServiceFault::NotFound);
        }
        if key.record.source == Source::File {
            return Err(ServiceFault::DeclaredByFile);
        }
        if_match.check(key.details.version)?;
        Ok((key, state))
    }

    fn view(&self, key: &StoredKey, state: &KeyState) -> KeyView {
        KeyView::of(key, state, &self.keys, &self.clock)
    }

    /// Counts and logs an accident of the store, and says what it is to a caller.
    fn failed(&self, fault: StoreFault) -> ServiceFault {
        if !fault.is_conflict() {
            self.program.metrics().store_faults.get_or_create(&Reason { reason: fault.as_str() }).inc();
            tracing::error!(%fault, "the store refused an operator's call");
        }
        match fault {
            StoreFault::SecretTaken => ServiceFault::SecretTaken,
            StoreFault::Stale | StoreFault::Repeated => ServiceFault::Overtaken,
            StoreFault::Unknown => ServiceFault::NotFound,
            other => ServiceFault::Unavailable(other),
        }
    }

    /// Checks a secret that a client chose.
    fn check_chosen(secret: &Secret) -> Result<(), ServiceFault> {
        match shape(secret.expose().as_bytes()) {
            Shape::Ours | Shape::Chosen => Ok(()),
            Shape::Mistyped => Err(ServiceFault::SecretMistyped),
            Shape::Malformed => Err(ServiceFault::SecretMalformed),
        }
    }
}
