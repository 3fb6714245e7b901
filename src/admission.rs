//! The decision: may this caller's request go on, and the proof that it was paid for.
//!
//! Two steps with a body in between: [`identify`] from the head alone, so that nothing is read for an unknown caller, and
//! [`admit`], which takes from every limit or from none. `policy::authorize` stands between them and says what is to be taken.

mod cache;

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock::{Clock, Now};
use crate::keys::{KeyTable, SecretSlot};
use crate::limits::{KeyLimits, LimitSettings, Reservation, Settled, owe, reserve, reserve_within};
use crate::policy::{Charge, KeyPolicy, Rates, Refusal, RequestFacts, Standing, Usage};
use crate::units::{KeyDigest, Tokens};

pub use cache::CallerCache;

/// Who is calling: a secret that works, with the policy of its key as it was when it was looked up. Clones are the same one, and stay with
/// the worker that looked it up.
#[derive(Clone)]
pub struct Caller(Rc<Known>);

struct Known {
    slot: Arc<SecretSlot>,
    policy: Arc<KeyPolicy>,
    /// How often the policy had been changed by then.
    changes: u64,
}

impl Caller {
    /// Whoever comes with this secret.
    fn of(slot: Arc<SecretSlot>) -> Self {
        let changes = slot.entry().changes();
        let policy = slot.entry().policy();
        Self(Rc::new(Known { slot, policy, changes }))
    }

    /// The secret it came with.
    pub fn slot(&self) -> &Arc<SecretSlot> {
        &self.0.slot
    }

    /// What it may do.
    pub fn policy(&self) -> &Arc<KeyPolicy> {
        &self.0.policy
    }

    /// Whether its secret works still.
    ///
    /// # Errors
    /// What a new request with it would be refused with; see [`identify`].
    pub fn recheck(&self, now: Now) -> Result<(), Refusal> {
        self.refreshed().stands(now)
    }

    /// The same of a caller whose policy is the one in force.
    fn stands(&self, now: Now) -> Result<(), Refusal> {
        let latest = self.slot().latest();
        // That it goes over once more meanwhile is not the caller's concern.
        if latest.is_withdrawn() || latest.entry().is_removed() {
            return Err(Refusal::InvalidKey);
        }
        if std::ptr::eq(latest, &**self.slot()) {
            return in_force(latest, self.policy(), now);
        }
        in_force(latest, &latest.entry().policy(), now)
    }

    /// The same with the policy that is in force now.
    #[must_use]
    pub fn refreshed(&self) -> Self {
        if self.slot().entry().changes() == self.0.changes { self.clone() } else { Self::of(Arc::clone(self.slot())) }
    }

    /// Where its key stands in its rate limits.
    pub fn rates(&self, now: Now) -> Rates {
        self.slot().entry().limits().rates(self.policy(), now)
    }

    /// Lets it in from `address`, and notes that.
    fn enter(self, address: IpAddr, now: Now) -> Result<Self, Unidentified> {
        let from = &self.policy().allowed_ips;
        if !from.is_empty() && !from.contains(address) {
            return Err((Some(self), Refusal::AddressNotAllowed { address }));
        }
        self.slot().note_use(now);
        Ok(self)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("key", &self.policy().id).finish_non_exhaustive()
    }
}

/// Why [`identify`] found no caller, and who it would have been where that is known for sure.
pub type Unidentified = (Option<Caller>, Refusal);

/// Finds the key of a secret and checks that it may be used, now and from here (POLICY 3.1 and 3.2). A secret that works is
/// noted as used. `digest` is `None` where there was no secret, or one that cannot be one.
///
/// # Errors
/// In this order: [`Refusal::InvalidKey`], [`Refusal::KeyDisabled`], [`Refusal::KeyExpired`], [`Refusal::GraceEnded`],
/// [`Refusal::AddressNotAllowed`]; the last with the caller, whose limits are told all the same (POLICY 4). Ends are exclusive.
pub fn identify(
    table: &KeyTable,
    digest: Option<KeyDigest>,
    address: IpAddr,
    now: Now,
) -> Result<Caller, Unidentified> {
    let find = || digest.and_then(|digest| table.find(&digest)).ok_or((None, Refusal::InvalidKey));
    let mut caller = Caller::of(find()?);
    loop {
        let verdict = in_force(caller.slot(), caller.policy(), now);
        if !caller.slot().is_gone() {
            verdict.map_err(|refusal| (None, refusal))?;
            return caller.enter(address, now);
        }
        // A change has overtaken the lookup. The secret is gone, or has gone over to another key, which one more look tells.
        let other = find()?;
        if Arc::ptr_eq(caller.slot(), &other) {
            return Err((None, Refusal::InvalidKey));
        }
        caller = Caller::of(other);
    }
}

/// Whether a secret works at this moment, wherever it comes from.
fn in_force(slot: &SecretSlot, policy: &KeyPolicy, now: Now) -> Result<(), Refusal> {
    if policy.is_disabled {
        return Err(Refusal::KeyDisabled);
    }
    if let Some(at_unix_ms) = policy.expires_at_ms.filter(|end| now.unix_ms >= *end) {
        return Err(Refusal::KeyExpired { at_unix_ms });
    }
    if let Some(at_unix_ms) = slot.until_unix_ms().filter(|until| now.unix_ms >= *until) {
        return Err(Refusal::GraceEnded { at_unix_ms });
    }
    Ok(())
}

/// A request that was decided and paid for. Only [`admit`] makes one, and forwarding needs one.
#[derive(Debug)]
#[must_use = "an admitted request is settled, voided, or charged as metered so far when it is dropped"]
pub struct Admitted(Box<Reservation<Wish>>);

/// Who is admitted, and to what.
#[derive(Debug)]
pub struct Wish {
    caller: Caller,
    facts: RequestFacts,
}

impl Borrow<KeyLimits> for Wish {
    fn borrow(&self) -> &KeyLimits {
        self.caller.slot().entry().limits()
    }
}

/// Takes `charge` from every limit of the caller's key, or from none (POLICY 3.6 and 3.7). `charge` is what
/// `policy::authorize` said of these `facts`.
///
/// # Errors
/// What [`identify`] would refuse the secret with by now, else what [`reserve`] refuses with; the caller comes back, for what is to be said to it.
pub fn admit(
    caller: Caller,
    facts: RequestFacts,
    charge: Charge,
    settings: &LimitSettings,
    clock: &Clock,
    now: Now,
) -> Result<Admitted, (Caller, Refusal)> {
    // Limits changed meanwhile hold for it too; the charge and where it goes were decided by the policy it came under.
    let caller = caller.refreshed();
    // Its body may have taken a while: what was switched off, removed or ended meanwhile is not forwarded any more.
    if let Err(refusal) = caller.stands(now) {
        return Err((caller, refusal));
    }
    let wish = Wish { caller: caller.clone(), facts };
    match reserve(wish, caller.policy(), charge, settings, clock, now) {
        Ok(reservation) => Ok(Admitted(reservation)),
        Err(refusal) => Err((caller, refusal)),
    }
}

/// As [`admit`], for what is asked for within `open`, a request under way: it shares that one's slot.
///
/// # Errors
/// As [`admit`], but for the slot; the caller is that of `open`.
pub fn admit_within(
    open: &Admitted,
    facts: RequestFacts,
    charge: Charge,
    settings: &LimitSettings,
    clock: &Clock,
    now: Now,
) -> Result<Admitted, Refusal> {
    let caller = open.caller().refreshed();
    caller.stands(now)?;
    let wish = Wish { caller: caller.clone(), facts };
    reserve_within(wish, caller.policy(), charge, settings, clock, now).map(Admitted)
}

/// What a backend has begun of itself within `open`, a request under way: it cannot be refused any more, only charged.
pub fn owe_within(open: &Admitted, facts: RequestFacts, charge: Charge, clock: &Clock, now: Now) -> Admitted {
    let caller = open.caller().refreshed();
    Admitted(owe(Wish { caller: caller.clone(), facts }, caller.policy(), charge, clock, now))
}

impl Admitted {
    /// Whose request it is.
    pub fn caller(&self) -> &Caller {
        &self.0.state().caller
    }

    /// What it wants.
    pub fn facts(&self) -> &RequestFacts {
        &self.0.state().facts
    }

    /// When a quota covers only part of the output: how many output tokens each answer (choice) may have.
    pub fn clamp(&self) -> Option<Tokens> {
        self.0.clamp()
    }

    /// What it holds: to mark it forwarded and to note what was metered.
    pub fn reservation(&mut self) -> &mut Reservation<Wish> {
        &mut self.0
    }

    /// Where the key stands now, this request included.
    pub fn standing(&self, now: Now) -> Standing {
        let caller = self.caller();
        caller.slot().entry().limits().standing(caller.policy(), now)
    }

    /// Charges `usage` and ends it. See [`Reservation::settle`].
    pub fn settle(self, usage: Usage, now: Now) -> Settled {
        self.0.settle(usage, now)
    }

    /// Ends it without a charge. See [`Reservation::void`].
    pub fn void(self, now: Now) {
        self.0.void(now);
    }

    /// Ends it as if it had never been made. See [`Reservation::undo`].
    pub fn undo(self, now: Now) {
        self.0.undo(now);
    }
}

#[cfg(test)]
mod tests;
