//! Keys made, changed and removed.

use uuid::Builder;

use crate::admin::service::{
    Caller, Core, Given, Idempotent, IfMatch, KeyFields, KeyView, Made, NewKey, Render, Service, ServiceFault, journal,
};
use crate::keys::secret;
use crate::keys::{KeyChange, KeyRecord, Source};
use crate::policy::KeyPolicy;
use crate::store::{
    AuditEntry, KeyDetails, KeyRef, KeyState, Mask, Remembered, StoredChange, StoredKey, Write, Written,
};
use crate::units::KeyId;

/// What a call that makes a secret comes to.
pub(super) enum Outcome {
    Made(Box<Made>),
    Given(Given),
}

/// A call that may be made again, with what renders its answer.
pub(super) type Once = Option<(Idempotent, Render)>;

impl Service {
    /// Makes a key. It is in force for the next request.
    ///
    /// # Errors
    /// [`ServiceFault`].
    pub async fn create(&self, caller: &Caller, new: NewKey) -> Result<Made, ServiceFault> {
        match self.create_as(caller, new, None).await? {
            Outcome::Made(made) => Ok(*made),
            Outcome::Given(_) => Err(ServiceFault::Internal), // only calls that may be made again are given
        }
    }

    /// Makes a key, or says again what was said to the same call before.
    ///
    /// # Errors
    /// [`ServiceFault`].
    pub async fn create_once(
        &self,
        caller: &Caller,
        new: NewKey,
        call: Idempotent,
        render: Render,
    ) -> Result<Given, ServiceFault> {
        match self.create_as(caller, new, Some((call, render))).await? {
            Outcome::Given(given) => Ok(given),
            Outcome::Made(_) => Err(ServiceFault::Internal),
        }
    }

    async fn create_as(&self, caller: &Caller, new: NewKey, once: Once) -> Result<Outcome, ServiceFault> {
        caller.may_write()?;
        // Before the gate, as everywhere: who waits for this one must not keep a reload from its turn.
        let repeats = match &once {
            Some((call, _)) => Some(self.calls.lock((&caller.operator.name, call.key())).await),
            None => None,
        };
        let in_gate = self.gate.pass().await;
        let caller = caller.clone();
        self.blocking(move |core| {
            let _held = (in_gate, repeats);
            core.create(&caller, new, once.as_ref())
        })
        .await
    }

    /// Changes a key: `edit` is given its fields and what is shown of it. An edit that changes nothing writes nothing. `action` is the
    /// name in the audit.
    ///
    /// # Errors
    /// [`ServiceFault`], or what `edit` refuses with; nothing is changed then.
    pub async fn edit<E>(
        &self,
        caller: &Caller,
        key: KeyRef,
        if_match: IfMatch,
        action: &'static str,
        edit: impl FnOnce(&mut KeyFields, &KeyView) -> Result<(), E> + Send + 'static,
    ) -> Result<KeyView, E>
    where
        E: From<ServiceFault> + Send + 'static,
    {
        let work = move |core: &Core, caller: &Caller, id| core.edit(caller, id, &if_match, action, edit);
        self.change(caller, key, work).await
    }

    /// Switches a key off or on. Running streams of a key that is switched off are cut by the data plane.
    ///
    /// # Errors
    /// [`ServiceFault`].
    pub async fn set_disabled(
        &self,
        caller: &Caller,
        key: KeyRef,
        if_match: IfMatch,
        is_disabled: bool,
    ) -> Result<KeyView, ServiceFault> {
        let action = if is_disabled { "key.disable" } else { "key.enable" };
        let set = move |fields: &mut KeyFields, _: &KeyView| {
            fields.is_disabled = is_disabled;
            Ok(())
        };
        self.edit(caller, key, if_match, action, set).await
    }

    /// Removes a key. What it used stays known.
    ///
    /// # Errors
    /// [`ServiceFault`].
    pub async fn delete(&self, caller: &Caller, key: KeyRef, if_match: IfMatch) -> Result<(), ServiceFault> {
        self.change(caller, key, move |core, caller, id| core.delete(caller, id, &if_match)).await
    }

    /// Runs `work` under the gate and the key's lock.
    pub(super) async fn change<T, E>(
        &self,
        caller: &Caller,
        key: KeyRef,
        work: impl FnOnce(&Core, &Caller, KeyId) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ServiceFault> + Send + 'static,
    {
        caller.may_write()?;
        let in_gate = self.gate.pass().await;
        let id = match key {
            KeyRef::Id(id) => id,
            KeyRef::Number(_) => {
                let caller = caller.clone();
                self.blocking(move |core| core.seen(&caller, key).map(|(key, _)| key.record.policy.id)).await?
            }
        };
        let alone = self.keys.lock(id).await;
        let caller = caller.clone();
        self.blocking(move |core| {
            let _held = (in_gate, alone);
            work(core, &caller, id)
        })
        .await
    }
}

impl Core {
    fn create(
        &self,
        caller: &Caller,
        new: NewKey,
        once: Option<&(Idempotent, Render)>,
    ) -> Result<Outcome, ServiceFault> {
        if let Some((call, _)) = once
            && let Some(given) = self.repeated(caller, call, new.secret.as_ref())?
        {
            return Ok(Outcome::Given(given));
        }
        let NewKey { mut fields, secret } = new;
        let scope = &caller.operator.scope;
        fields.org_id = fields.org_id.or_else(|| scope.org_id.clone());
        fields.team_id = fields.team_id.or_else(|| scope.team_id.clone());
        check_owner(caller, None, &fields)?;
        let (secret, seed) = self.secret(secret, once.is_some())?;
        let now_ms = self.clock.now().unix_ms;
        let digest = self.digester.digest(secret.expose().as_bytes());
        if self.keys.find(&digest).is_some() {
            return Err(ServiceFault::SecretTaken);
        }
        let prefix = secret::prefix(secret.expose());
        let mut key = StoredKey {
            number: 0,
            record: KeyRecord {
                policy: KeyPolicy::unlimited(new_id(now_ms), "", &prefix),
                current: digest,
                previous: Vec::new(),
                source: Source::Api,
            },
            details: KeyDetails {
                version: 1,
                created_at_ms: now_ms,
                updated_at_ms: now_ms,
                mask: Mask::of(&secret),
                ..KeyDetails::default()
            },
        };
        fields.into_key(&mut key);
        let state = KeyState::default();
        let audit = journal::entries(&caller.into(), "key.create", None, Some(&key), now_ms);
        let mut made = Made { view: self.view(&key, &state), secret, replaced: None };
        match once {
            None => {
                made.view.number = self.put(None, key, audit, None)?;
                Ok(Outcome::Made(Box::new(made)))
            }
            Some((call, render)) => {
                let (remembered, given) = self.remember(caller, call, seed, &made, *render);
                self.put(None, key, audit, Some(remembered))?;
                Ok(Outcome::Given(given))
            }
        }
    }

    fn edit<E: From<ServiceFault>>(
        &self,
        caller: &Caller,
        id: KeyId,
        if_match: &IfMatch,
        action: &'static str,
        edit: impl FnOnce(&mut KeyFields, &KeyView) -> Result<(), E>,
    ) -> Result<KeyView, E> {
        let (before, state) = self.own(caller, id, if_match)?;
        let view = self.view(&before, &state);
        let mut fields = view.fields.clone();
        edit(&mut fields, &view)?;
        if fields == view.fields {
            self.follow(&before);
            return Ok(view);
        }
        check_owner(caller, Some(&view.fields), &fields)?;
        let mut after = self.next(&before);
        fields.into_key(&mut after);
        let audit = journal::entries(&caller.into(), action, Some(&before), Some(&after), after.details.updated_at_ms);
        let shown = self.view(&after, &state);
        self.put(Some(before), after, audit, None)?;
        Ok(shown)
    }

    fn delete(&self, caller: &Caller, id: KeyId, if_match: &IfMatch) -> Result<(), ServiceFault> {
        let (key, _) = self.own(caller, id, if_match)?;
        let at_ms = self.clock.now().unix_ms;
        let audit = journal::entries(&caller.into(), "key.delete", Some(&key), None, at_ms);
        let changes = vec![StoredChange::Remove { id, at_ms }];
        if let Err(fault) = self.store.write(Write::Keys { changes, audit, remember: None })
            && !matches!(self.store.key(KeyRef::Id(id)), Ok(None))
        {
            return Err(self.failed(fault));
        }
        self.forget(id);
        Ok(())
    }

    /// The same key, one version on.
    pub(super) fn next(&self, key: &StoredKey) -> StoredKey {
        let mut next = key.clone();
        next.details.version = key.details.version.saturating_add(1);
        next.details.updated_at_ms = self.clock.now().unix_ms.max(key.details.created_at_ms);
        next
    }

    /// Makes a key durable and puts it in force. Returns its number.
    pub(super) fn put(
        &self,
        before: Option<StoredKey>,
        key: StoredKey,
        audit: Vec<AuditEntry>,
        remember: Option<Remembered>,
    ) -> Result<i64, ServiceFault> {
        let write = Write::Keys {
            changes: vec![StoredChange::Put(Box::new(key.clone()))],
            audit,
            remember: remember.map(Box::new),
        };
        let number = match self.store.write(write) {
            Ok(Written::Keys(numbers)) => numbers.first().copied().unwrap_or(key.number),
            Ok(_) => return Err(ServiceFault::Internal),
            // A store at the other end of a line may have done what it could not say.
            Err(fault) => match self.store.key(KeyRef::Id(key.record.policy.id)) {
                Ok(Some((found, _))) if found.record == key.record && found.details == key.details => found.number,
                _ => return Err(self.failed(fault)),
            },
        };
        if let Err(refused) = self.keys.apply(KeyChange::Put(Box::new(key.record.clone()))) {
            tracing::error!(%refused, "the table refused a change that the store took; it is undone");
            self.undo(before, &key)?;
            return Err(ServiceFault::Overtaken);
        }
        self.count_keys();
        Ok(number)
    }

    /// Takes a change back out of the store.
    fn undo(&self, before: Option<StoredKey>, key: &StoredKey) -> Result<(), ServiceFault> {
        let change = match before {
            Some(mut before) => {
                before.details.version = key.details.version.saturating_add(1);
                StoredChange::Put(Box::new(before))
            }
            None => StoredChange::Remove { id: key.record.policy.id, at_ms: self.clock.now().unix_ms },
        };
        let write = Write::Keys { changes: vec![change], audit: Vec::new(), remember: None };
        self.store.write(write).map(drop).map_err(|fault| self.failed(fault))
    }

    /// Puts in force what the store has. Changes nothing but after an accident amid a change, when the store had taken it and nobody was told.
    pub(super) fn follow(&self, key: &StoredKey) {
        if let Err(refused) = self.keys.apply(KeyChange::Put(Box::new(key.record.clone()))) {
            tracing::error!(%refused, "the table refuses a key as the store has it");
        }
    }

    /// The same for a key that the store does not have.
    pub(super) fn forget(&self, id: KeyId) {
        if self.keys.get(id).is_some_and(|entry| entry.source() == Source::Api) {
            // Removing is never refused.
            let _always = self.keys.apply(KeyChange::Remove(id));
            self.count_keys();
        }
    }

    fn count_keys(&self) {
        self.program.metrics().keys.set(i64::try_from(self.keys.len()).unwrap_or(i64::MAX));
    }
}

/// An operator grants nothing outside of its scope, and moves no key out of it. One that is bound to a team alone may not say whose
/// team it is: the organisation stays as it was, absent for a new key.
fn check_owner(caller: &Caller, before: Option<&KeyFields>, after: &KeyFields) -> Result<(), ServiceFault> {
    let scope = &caller.operator.scope;
    let bound = |bound: &Option<Box<str>>,
                 other: &Option<Box<str>>,
                 was: Option<&Box<str>>,
                 value: &Option<Box<str>>| match (bound, other) {
        (Some(_), _) => value == bound,
        (None, Some(_)) => value.as_ref() == was,
        (None, None) => true,
    };
    if !bound(&scope.org_id, &scope.team_id, before.and_then(|b| b.org_id.as_ref()), &after.org_id) {
        return Err(ServiceFault::Outside { field: "org_id" });
    }
    // An organisation's operator says which of its teams.
    if scope.team_id.is_some() && after.team_id != scope.team_id {
        return Err(ServiceFault::Outside { field: "team_id" });
    }
    Ok(())
}

/// A uuid of version 7: ordered by the time it is made.
fn new_id(now_ms: i64) -> KeyId {
    let seed = secret::seed();
    let mut random = [0; 10];
    random.iter_mut().zip(seed).for_each(|(byte, from)| *byte = from);
    KeyId(Builder::from_unix_timestamp_millis(u64::try_from(now_ms).unwrap_or(0), &random).into_uuid())
}
