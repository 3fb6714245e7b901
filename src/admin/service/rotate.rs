//! A key's secret replaced, and the end of the grace of those before it.

use crate::admin::service::change::{Once, Outcome};
use crate::admin::service::{
    Caller, Core, Given, Idempotent, IfMatch, KeyView, Made, OldSecretView, Render, Service, ServiceFault, journal,
};
use crate::keys::PreviousSecret;
use crate::keys::secret::{self, Secret};
use crate::store::{KeyRef, Mask, OldSecret, StoredKey};
use crate::units::KeyId;

/// How long a replaced secret works when nothing is said, seconds.
pub const DEFAULT_GRACE_S: u32 = 86_400;

/// The longest grace, seconds: 30 days.
pub const MOST_GRACE_S: u32 = 2_592_000;

/// How long a secret whose grace ended stays known, so that its holder is told why it does not work.
const LISTED_MS: i64 = 30 * 86_400_000;

/// The most previous secrets of a key.
const MOST_PREVIOUS: usize = 16;

/// A rotation.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// How long the secret in use goes on working, seconds; at most [`MOST_GRACE_S`].
    pub grace_seconds: u32,
    /// The new secret, where the client chose it.
    pub secret: Option<Secret>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { grace_seconds: DEFAULT_GRACE_S, secret: None }
    }
}

impl Service {
    /// Gives a key another secret. The one in use works on for its grace; those before it keep their own ends.
    ///
    /// # Errors
    /// [`ServiceFault`].
    pub async fn rotate(
        &self,
        caller: &Caller,
        key: KeyRef,
        if_match: IfMatch,
        rotation: Rotation,
    ) -> Result<Made, ServiceFault> {
        match self
            .change(caller, key, move |core, caller, id| core.rotate(caller, id, &if_match, rotation, None))
            .await?
        {
            Outcome::Made(made) => Ok(*made),
            Outcome::Given(_) => Err(ServiceFault::Internal), // only calls that may be made again are given
        }
    }

    /// Gives a key another secret, or says again what was said to the same call before.
    ///
    /// # Errors
    /// [`ServiceFault`].
    pub async fn rotate_once(
        &self,
        caller: &Caller,
        key: KeyRef,
        if_match: IfMatch,
        rotation: Rotation,
        call: Idempotent,
        render: Render,
    ) -> Result<Given, ServiceFault> {
        caller.may_write()?;
        let repeats = self.calls.lock((&caller.operator.name, call.key())).await;
        let work = move |core: &Core, caller: &Caller, id| {
            let _held = repeats;
            core.rotate(caller, id, &if_match, rotation, Some((call, render)))
        };
        match self.change(caller, key, work).await? {
            Outcome::Given(given) => Ok(given),
            Outcome::Made(_) => Err(ServiceFault::Internal),
        }
    }

    /// Ends the grace of every previous secret now.
    ///
    /// # Errors
    /// [`ServiceFault`].
    pub async fn end_grace(&self, caller: &Caller, key: KeyRef, if_match: IfMatch) -> Result<KeyView, ServiceFault> {
        self.change(caller, key, move |core, caller, id| core.end_grace(caller, id, &if_match)).await
    }
}

impl Core {
    fn rotate(
        &self,
        caller: &Caller,
        id: KeyId,
        if_match: &IfMatch,
        rotation: Rotation,
        once: Once,
    ) -> Result<Outcome, ServiceFault> {
        if let Some((call, _)) = &once
            && let Some(given) = self.repeated(caller, call, rotation.secret.as_ref())?
        {
            return Ok(Outcome::Given(given));
        }
        let (before, state) = self.own(caller, id, if_match)?;
        let (secret, seed) = self.secret(rotation.secret, once.is_some())?;
        let digest = self.digester.digest(secret.expose().as_bytes());
        if self.keys.find(&digest).is_some() || before.record.secrets().any(|(known, _)| known == digest) {
            return Err(ServiceFault::SecretTaken);
        }
        let mut after = self.next(&before);
        let now_ms = self.clock.now().unix_ms;
        let grace_ms = i64::from(rotation.grace_seconds.min(MOST_GRACE_S)) * 1_000;
        retire(&mut after, now_ms.saturating_add(grace_ms), now_ms)?;
        after.record.current = digest;
        after.record.policy.key_prefix = secret::prefix(secret.expose()).into();
        after.details.mask = Mask::of(&secret);
        let audit = journal::entries(&caller.into(), "key.rotate", Some(&before), Some(&after), now_ms);
        let view = self.view(&after, &state);
        let made = Made { replaced: Some(self.replaced(&before, &view)), view, secret };
        match once {
            None => {
                self.put(Some(before), after, audit, None)?;
                Ok(Outcome::Made(Box::new(made)))
            }
            Some((call, render)) => {
                let (remembered, given) = self.remember(caller, &call, seed, &made, render);
                self.put(Some(before), after, audit, Some(remembered))?;
                Ok(Outcome::Given(given))
            }
        }
    }

    fn end_grace(&self, caller: &Caller, id: KeyId, if_match: &IfMatch) -> Result<KeyView, ServiceFault> {
        let (before, state) = self.own(caller, id, if_match)?;
        let now_ms = self.clock.now().unix_ms;
        let mut after = self.next(&before);
        let works = after.record.previous.iter_mut().filter(|previous| now_ms < previous.until_unix_ms);
        if works.map(|previous| previous.until_unix_ms = now_ms).count() == 0 {
            self.follow(&before);
            return Ok(self.view(&before, &state));
        }
        let audit = journal::entries(&caller.into(), "key.rotate_end", Some(&before), Some(&after), now_ms);
        let shown = self.view(&after, &state);
        self.put(Some(before), after, audit, None)?;
        Ok(shown)
    }

    /// What is known of the secret that is being replaced. The table still has it as the current one.
    fn replaced(&self, before: &StoredKey, after: &KeyView) -> OldSecretView {
        let live = self.keys.find(&before.record.current).and_then(|slot| slot.last_used_unix_ms());
        let until_ms = after.old_secrets.first().map_or(i64::MIN, |old| old.until_ms);
        OldSecretView {
            prefix: before.record.policy.key_prefix.clone(),
            until_ms,
            uses: 0,
            // Before any rotation there was no other secret that could have been used.
            last_used_at_ms: live.or(after.last_used_at_ms.filter(|_| before.record.previous.is_empty())),
        }
    }
}

/// Puts the current secret among the previous ones, and forgets those that ended long ago or have no place.
fn retire(key: &mut StoredKey, until_unix_ms: i64, now_ms: i64) -> Result<(), ServiceFault> {
    let record = &mut key.record;
    let shown = key.details.old_secrets.drain(..).chain(std::iter::repeat_with(OldSecret::default));
    let mut all: Vec<(PreviousSecret, OldSecret)> = record.previous.drain(..).zip(shown).collect();
    all.retain(|(previous, _)| now_ms < previous.until_unix_ms.saturating_add(LISTED_MS));
    let current = PreviousSecret { digest: record.current, until_unix_ms };
    all.push((current, OldSecret { prefix: record.policy.key_prefix.clone() }));
    while all.len() > MOST_PREVIOUS {
        let ended = all.iter().enumerate().filter(|(_, (previous, _))| previous.until_unix_ms <= now_ms);
        let oldest = ended.min_by_key(|(_, (previous, _))| previous.until_unix_ms).map(|(at, _)| at);
        all.remove(oldest.ok_or(ServiceFault::TooManySecrets)?);
    }
    (record.previous, key.details.old_secrets) = all.into_iter().unzip();
    Ok(())
}
