//! What operators look up: keys, the audit, the models; and the reload they ask for.

use std::sync::Arc;

use serde_json::json;

use crate::admin::service::{Caller, Core, KeyView, Service, ServiceFault, journal};
use crate::policy::DialectName;
use crate::store::{AuditPage, AuditQuery, Books, KeyFilter, KeyRef, Order, PageFrom, Write};

/// Which keys are asked for. The caller's scope is put on top.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Every condition must hold.
    pub filter: KeyFilter,
    /// In which order.
    pub order: Order,
    /// Where the page begins.
    pub from: PageFrom,
    /// At most so many.
    pub limit: usize,
}

/// Some of the keys asked for.
#[derive(Debug, Clone)]
pub struct KeyListing {
    /// In the order asked for.
    pub keys: Vec<KeyView>,
    /// How many there are on all pages, of those that the caller may see.
    pub total: u64,
}

/// A model that upstreams serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelView {
    /// As clients name it.
    pub id: String,
    /// The upstream that serves it, for callers who may know.
    pub upstream: Option<String>,
    /// By which APIs.
    pub dialects: Vec<DialectName>,
}

impl Service {
    /// One key.
    ///
    /// # Errors
    /// [`ServiceFault::NotFound`], [`ServiceFault::Unavailable`].
    pub async fn get(&self, caller: &Caller, key: KeyRef) -> Result<KeyView, ServiceFault> {
        let caller = caller.clone();
        self.blocking(move |core| {
            let (key, state) = core.seen(&caller, key)?;
            Ok(core.view(&key, &state))
        })
        .await
    }

    /// A page of keys.
    ///
    /// # Errors
    /// [`ServiceFault::Unavailable`].
    pub async fn list(&self, caller: &Caller, query: ListQuery) -> Result<KeyListing, ServiceFault> {
        let caller = caller.clone();
        self.blocking(move |core| core.list(&caller, query)).await
    }

    /// Whether any key, removed or not, has this `org_id`; for callers that may see it. To one that is bound to a team only that team's
    /// keys tell, and only those that are there.
    ///
    /// # Errors
    /// [`ServiceFault::Unavailable`].
    pub async fn has_org(&self, caller: &Caller, org_id: &str) -> Result<bool, ServiceFault> {
        if caller.operator.scope.org_id.as_deref().is_some_and(|own| own != org_id) {
            return Ok(false);
        }
        if caller.operator.scope.team_id.is_some() {
            let filter = KeyFilter { org_id: Some(org_id.into()), ..KeyFilter::default() };
            let any = ListQuery { filter, order: Order::NumberDescending, from: PageFrom::Offset(0), limit: 1 };
            return Ok(self.list(caller, any).await?.total > 0);
        }
        let org_id = org_id.to_owned();
        self.blocking(move |core| core.store.has_org(&org_id).map_err(|fault| core.failed(fault))).await
    }

    /// Who changed what, newest first, as far as the caller may see it.
    ///
    /// # Errors
    /// [`ServiceFault::Unavailable`].
    pub async fn audit(&self, caller: &Caller, mut query: AuditQuery) -> Result<AuditPage, ServiceFault> {
        if !caller.operator.scope.narrow(&mut query.org_id, &mut query.team_id) {
            return Ok(AuditPage { entries: Vec::new(), has_more: false });
        }
        self.blocking(move |core| core.store.audit(&query).map_err(|fault| core.failed(fault))).await
    }

    /// The models that have a name of their own, by name. Which upstream serves them is told to nobody who is bound.
    pub fn models(&self, caller: &Caller) -> Vec<ModelView> {
        let tells_names = caller.operator.scope.is_unbound();
        let routes = self.core.program.routes();
        let mut models: Vec<ModelView> = Vec::new();
        for dialect in DialectName::ALL {
            for entry in routes.listed(dialect) {
                let (id, upstream) = (entry.id.as_str().to_owned(), tells_names.then(|| entry.owned_by.to_string()));
                match models.iter_mut().find(|model| model.id == id && model.upstream == upstream) {
                    Some(known) if known.dialects.contains(&dialect) => {}
                    Some(known) => known.dialects.push(dialect),
                    None => models.push(ModelView { id, upstream, dialects: vec![dialect] }),
                }
            }
        }
        models.sort_by(|a, b| (&a.id, &a.upstream).cmp(&(&b.id, &b.upstream)));
        models
    }

    /// Reads configuration and key file anew. The verdict: nothing, or every fault.
    ///
    /// # Errors
    /// [`ServiceFault::ReadOnlyToken`], [`ServiceFault::Bound`].
    pub async fn reload(&self, caller: &Caller) -> Result<Result<(), Vec<String>>, ServiceFault> {
        caller.may_write()?;
        if !caller.operator.scope.is_unbound() {
            return Err(ServiceFault::Bound);
        }
        let caller = caller.clone();
        let alone = Arc::clone(&self.reloads).lock_owned().await;
        // Not through the gate: the reload closes it itself.
        self.blocking(move |core| {
            let _held = alone;
            let verdict = core.program.reload();
            let faults = verdict.as_ref().err().map_or(0, Vec::len);
            let after = json!({ "applied": verdict.is_ok(), "faults": faults });
            let audit = vec![journal::entry(&caller, "config.reload", after, core.clock.now().unix_ms)];
            let write = Write::Keys { changes: Vec::new(), audit, remember: None };
            // What is in force is in force; that it could not be written down is counted and logged.
            let _counted = core.store.write(write).map_err(|fault| core.failed(fault));
            Ok(verdict)
        })
        .await
    }

    /// The books, recomputed.
    ///
    /// # Errors
    /// [`ServiceFault::Bound`]; [`ServiceFault::Unavailable`].
    pub async fn books(&self, caller: &Caller) -> Result<Books, ServiceFault> {
        if !caller.operator.scope.is_unbound() {
            return Err(ServiceFault::Bound);
        }
        let read = |core: &Core| {
            core.program.verify_books().map_err(|error| core.failed(crate::store::StoreFault::Unavailable(error)))
        };
        self.blocking(read).await
    }
}

impl Core {
    fn list(&self, caller: &Caller, query: ListQuery) -> Result<KeyListing, ServiceFault> {
        let ListQuery { mut filter, order, from, limit } = query;
        if !caller.operator.scope.narrow(&mut filter.org_id, &mut filter.team_id) {
            return Ok(KeyListing { keys: Vec::new(), total: 0 });
        }
        // By what was used up to now, as each key's own status tells it.
        if filter.status.is_some() {
            self.program.flush_usage();
        }
        let page = self.store.keys(&filter, order, from, limit).map_err(|fault| self.failed(fault))?;
        let keys = page.keys.iter().map(|(key, state)| self.view(key, state)).collect();
        Ok(KeyListing { keys, total: page.total })
    }
}
