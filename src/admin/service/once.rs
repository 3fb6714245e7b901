//! Calls that may be made again with an `Idempotency-Key` and are answered the same way, secret and all.
//!
//! No secret is kept for it: one that was made is made again from its seed and the pepper, one that was chosen stands in the repeated
//! call. Where it stands in the answer, the answer that is kept has a NUL, which no JSON text contains.

use std::fmt;

use crate::admin::service::{Caller, Core, Made, Service, ServiceFault};
use crate::keys::secret::{self, Secret};
use crate::store::{KeyFilter, Order, PageFrom, Remembered, RememberedAnswer};

/// How long an answer is remembered.
const REMEMBERED_MS: i64 = 24 * 3_600_000;

/// The longest key, bytes.
const LONGEST: usize = 255;

/// What marks the secret's place.
const PLACE: &str = "\0";

/// A call that may be made again: its `Idempotency-Key`, and a keyed digest of who asks for what.
#[derive(Clone, PartialEq, Eq)]
pub struct Idempotent {
    key: Box<str>,
    call: [u8; 32],
}

/// Renders the answer to a call that may be made again, secret included; JSON.
pub type Render = fn(&Made) -> String;

/// An answer, given the first time or again.
#[derive(Clone, PartialEq, Eq)]
pub struct Given {
    /// Rendered by [`Render`]; holds the secret in clear.
    pub body: String,
    /// The key's entity tag at the time.
    pub etag: String,
    /// Whether it was given before.
    pub is_repeated: bool,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("etag", &self.etag)
            .field("is_repeated", &self.is_repeated)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Idempotent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Idempotent(..)")
    }
}

impl Idempotent {
    /// The key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

impl Service {
    /// A call that came with this `Idempotency-Key`. Method, path and body are what makes it the same call again, and what its caller may
    /// see and do.
    ///
    /// # Errors
    /// [`ServiceFault::CallKeyMalformed`].
    pub fn idempotent(
        &self,
        caller: &Caller,
        key: &[u8],
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<Idempotent, ServiceFault> {
        let is_good = (1..=LONGEST).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        let key = std::str::from_utf8(key).ok().filter(|_| is_good).ok_or(ServiceFault::CallKeyMalformed)?;
        let scope = &caller.operator.scope;
        let bounds = [&scope.org_id, &scope.team_id].map(|bound| bound.as_deref().unwrap_or_default().as_bytes());
        let role = caller.operator.role.as_str().as_bytes();
        let parts = [method.as_bytes(), path.as_bytes(), body, bounds[0], bounds[1], role];
        let call = self.core.digester.keyed("keyward idempotent call", &parts);
        Ok(Idempotent { key: key.into(), call })
    }
}

impl Core {
    /// The answer given before, if there was one.
    pub(super) fn repeated(
        &self,
        caller: &Caller,
        call: &Idempotent,
        chosen: Option<&Secret>,
    ) -> Result<Option<Given>, ServiceFault> {
        // Not forgotten by a clock that was set forward by mistake: the call would be made twice.
        let now_ms = self.clock.certain().unix_ms;
        let found = self.store.remembered(&caller.operator.name, &call.key, now_ms);
        let Some(answer) = found.map_err(|fault| self.failed(fault))? else { return Ok(None) };
        if answer.call != call.call {
            return Err(ServiceFault::CallKeyReused);
        }
        let made = answer.seed.map(|seed| secret::generate_from(&seed, &self.digester));
        // The digests agree, so a secret that was chosen then stands in this call too.
        let secret = made.as_ref().or(chosen).ok_or(ServiceFault::Internal)?;
        self.follow_secret(secret)?;
        let body = answer.body.replace(PLACE, secret.expose());
        Ok(Some(Given { body, etag: answer.etag.into(), is_repeated: true }))
    }

    /// A secret that is given again works, if it is still its key's: also when the call that made it ended in an accident.
    fn follow_secret(&self, secret: &Secret) -> Result<(), ServiceFault> {
        let digest = self.digester.digest(secret.expose().as_bytes());
        if self.keys.find(&digest).is_some() {
            return Ok(());
        }
        let filter = KeyFilter { secret: Some(digest), ..KeyFilter::default() };
        let found = self.store.keys(&filter, Order::NumberDescending, PageFrom::Offset(0), 1);
        found.map_err(|fault| self.failed(fault))?.keys.iter().for_each(|(key, _)| self.follow(key));
        Ok(())
    }

    /// What is to be remembered of an answer, and the answer.
    pub(super) fn remember(
        &self,
        caller: &Caller,
        call: &Idempotent,
        seed: Option<[u8; 32]>,
        made: &Made,
        render: Render,
    ) -> (Remembered, Given) {
        let given = Given { body: render(made), etag: made.view.etag(), is_repeated: false };
        let answer = RememberedAnswer {
            call: call.call,
            body: given.body.replace(made.secret.expose(), PLACE),
            seed,
            etag: given.etag.as_str().into(),
        };
        let at_ms = self.clock.certain().unix_ms;
        let remembered = Remembered {
            operator: caller.operator.name.clone(),
            key: call.key.clone(),
            answer,
            at_ms,
            until_ms: at_ms.saturating_add(REMEMBERED_MS),
        };
        (remembered, given)
    }

    /// A secret: the chosen one, else a new one; with its seed where it is to be made again.
    pub(super) fn secret(
        &self,
        chosen: Option<Secret>,
        is_once: bool,
    ) -> Result<(Secret, Option<[u8; 32]>), ServiceFault> {
        if let Some(secret) = chosen {
            Self::check_chosen(&secret)?;
            return Ok((secret, None));
        }
        if !is_once {
            return Ok((secret::generate(), None));
        }
        let seed = secret::seed();
        Ok((secret::generate_from(&seed, &self.digester), Some(seed)))
    }
}
