//! A key's fields as the native API sends them: those present, read strictly.

use axum::http::StatusCode;

use crate::admin::native::json::Json;
use crate::admin::native::reader::{Faults, Given, Item, Members};
use crate::admin::native::refused::Refused;
use crate::admin::service::{KeyFields, ServiceFault};
use crate::keys::secret::{Secret, Shape, shape};
use crate::policy::{AddressRules, EndpointRules, Glob, ModelRules, OnDisconnect, QuotaReset, QuotaRule};
use crate::units::{Parallel, Rpm, Tpm};

/// The most entries of a list.
pub const MOST_ENTRIES: usize = 1_000;

const NO_QUOTA: &str = "A quota_reset has no meaning without a quota_limit";

/// What was sent of a key.
#[derive(Debug, Default)]
pub struct Patch {
    name: Option<Box<str>>,
    org_id: Given<Box<str>>,
    team_id: Given<Box<str>>,
    models: Given<ModelRules>,
    endpoints: Given<EndpointRules>,
    rpm: Given<Rpm>,
    tpm: Given<Tpm>,
    max_parallel: Given<Parallel>,
    quota_limit: Given<u64>,
    quota_reset: Given<QuotaReset>,
    allowed_ips: Given<AddressRules>,
    expires_at_ms: Given<i64>,
    is_sandbox: Given<bool>,
    on_disconnect: Given<OnDisconnect>,
    metadata: Given<Vec<(Box<str>, Box<str>)>>,
    secret: Given<Secret>,
}

impl Patch {
    /// What is sent to make a key: all but the name may be absent, and `key` may be chosen.
    ///
    /// # Errors
    /// Every fault.
    pub fn for_create(body: &Json) -> Result<Self, Refused> {
        let mut faults = Faults::default();
        let mut members = Members::of_body(body, &mut faults);
        let name = members.require("name", &mut faults).and_then(|item| read_name(&item, &mut faults));
        let secret = members.nullable("key", &mut faults, read_secret);
        let patch = Self { name, secret, ..Self::read(&mut members, &mut faults) };
        members.finish(&mut faults);
        if patch.is_periodic() && patch.quota_limit.is_none_or(|limit| limit.is_none()) {
            patch.quota_fault(&mut faults);
        }
        faults.verdict().map(|()| patch)
    }

    /// What is sent to change one: all may be absent.
    ///
    /// # Errors
    /// Every fault.
    pub fn for_update(body: &Json) -> Result<Self, Refused> {
        let mut faults = Faults::default();
        let mut members = Members::of_body(body, &mut faults);
        let name = members.take("name").and_then(|item| read_name(&item, &mut faults));
        let patch = Self { name, ..Self::read(&mut members, &mut faults) };
        members.finish(&mut faults);
        if patch.is_periodic() && patch.quota_limit == Some(None) {
            patch.quota_fault(&mut faults);
        }
        faults.verdict().map(|()| patch)
    }

    /// The secret that was chosen.
    pub fn secret(&mut self) -> Option<Secret> {
        self.secret.take().flatten()
    }

    fn read(members: &mut Members<'_>, faults: &mut Faults) -> Self {
        let owner =
            |item: Item<'_>, faults: &mut Faults| item.text(1..=KeyFields::LONGEST_OWNER, faults).map(Into::into);
        Self {
            name: None,
            secret: None,
            org_id: members.nullable("org_id", faults, owner),
            team_id: members.nullable("team_id", faults, owner),
            models: members.nullable("models_allowed", faults, read_models),
            endpoints: members.nullable("endpoints_allowed", faults, read_endpoints),
            rpm: members.nullable("rpm_limit", faults, |item, faults| {
                Rpm::new(u32::try_from(item.integer(1..=Rpm::MAX.into(), faults)?).ok()?)
            }),
            tpm: members.nullable("tpm_limit", faults, |item, faults| Tpm::new(item.integer(1..=Tpm::MAX, faults)?)),
            max_parallel: members.nullable("max_parallel", faults, |item, faults| {
                Parallel::new(u32::try_from(item.integer(1..=Parallel::MAX.into(), faults)?).ok()?)
            }),
            quota_limit: members
                .nullable("quota_limit", faults, |item, faults| item.integer(1..=KeyFields::MOST_QUOTA, faults)),
            quota_reset: members.nullable("quota_reset", faults, |item, faults| {
                item.one_of(&QuotaReset::ALL.map(|reset| (reset.as_str(), reset)), faults)
            }),
            allowed_ips: members.nullable("allowed_ips", faults, read_addresses),
            expires_at_ms: members.nullable("expires_at", faults, |item, faults| item.moment(faults)),
            is_sandbox: members.nullable("is_sandbox", faults, |item, faults| item.boolean(faults)),
            on_disconnect: members.nullable("on_disconnect", faults, |item, faults| {
                item.one_of(&OnDisconnect::ALL.map(|way| (way.as_str(), way)), faults)
            }),
            metadata: members.nullable("metadata", faults, |item, faults| item.pairs(KeyFields::MOST_METADATA, faults)),
        }
    }

    /// The quota that results, over what there was.
    fn quota(&self, before: Option<QuotaRule>) -> Option<QuotaRule> {
        let limit = self.quota_limit.unwrap_or(before.map(|rule| rule.limit))?;
        let reset = match self.quota_reset {
            None => before.map_or(QuotaReset::None, |rule| rule.reset),
            Some(reset) => reset.unwrap_or(QuotaReset::None),
        };
        Some(QuotaRule { limit, reset })
    }

    /// Whether a period is named, which means nothing without a limit.
    fn is_periodic(&self) -> bool {
        self.quota_reset.flatten().is_some_and(|reset| reset != QuotaReset::None)
    }

    fn quota_fault(&self, faults: &mut Faults) {
        faults.add(vec!["body".into(), "quota_reset".into()], "value_error", NO_QUOTA);
    }

    /// Writes what was sent over what there was; `null` clears.
    ///
    /// # Errors
    /// 409: what was sent does not fit what there was.
    pub fn apply(self, fields: &mut KeyFields) -> Result<(), Refused> {
        if self.is_periodic() && self.quota(fields.quota).is_none() {
            return Err(Refused::said(StatusCode::CONFLICT, NO_QUOTA));
        }
        fields.quota = self.quota(fields.quota);
        if let Some(name) = self.name {
            fields.name = name;
        }
        set(&mut fields.org_id, self.org_id.map(Some), None);
        set(&mut fields.team_id, self.team_id.map(Some), None);
        set(&mut fields.models, self.models, ModelRules::default());
        set(&mut fields.endpoints, self.endpoints, EndpointRules::ALL);
        set(&mut fields.rpm, self.rpm.map(Some), None);
        set(&mut fields.tpm, self.tpm.map(Some), None);
        set(&mut fields.max_parallel, self.max_parallel.map(Some), None);
        set(&mut fields.allowed_ips, self.allowed_ips, AddressRules::default());
        set(&mut fields.expires_at_ms, self.expires_at_ms.map(Some), None);
        set(&mut fields.is_sandbox, self.is_sandbox, false);
        set(&mut fields.on_disconnect, self.on_disconnect, OnDisconnect::default());
        set(&mut fields.metadata, self.metadata, Vec::new());
        Ok(())
    }
}

fn set<T>(field: &mut T, given: Given<T>, cleared: T) {
    if let Some(value) = given {
        *field = value.unwrap_or(cleared);
    }
}

fn read_name(item: &Item<'_>, faults: &mut Faults) -> Option<Box<str>> {
    item.text(1..=KeyFields::LONGEST_NAME, faults).map(Into::into)
}

/// A secret of the client's own. What is wrong with one is never told with its text.
pub fn read_secret(item: Item<'_>, faults: &mut Faults) -> Option<Secret> {
    let secret = Secret::new(item.text(8..=128, faults)?.to_owned());
    let fault = match shape(secret.expose().as_bytes()) {
        Shape::Ours | Shape::Chosen => return Some(secret),
        Shape::Mistyped => ServiceFault::SecretMistyped,
        Shape::Malformed => ServiceFault::SecretMalformed,
    };
    item.fault(faults, "value_error", fault.to_string());
    None
}

fn read_models(item: Item<'_>, faults: &mut Faults) -> Option<ModelRules> {
    let read = |item: &Item<'_>, faults: &mut Faults| {
        item.parsed("a model name or a pattern with '*': 1 to 256 of A-Z a-z 0-9 . _ : / @ + - *", faults, Glob::new)
    };
    item.list(MOST_ENTRIES, faults, read).map(ModelRules::new)
}

fn read_endpoints(item: Item<'_>, faults: &mut Faults) -> Option<EndpointRules> {
    let names = item.list(MOST_ENTRIES, faults, |item: &Item<'_>, faults: &mut Faults| {
        item.parsed("an endpoint such as 'chat' or '/v1/embeddings'", faults, |name| {
            EndpointRules::compile(&[name]).ok().map(|_| name)
        })
    })?;
    EndpointRules::compile(&names).ok()
}

fn read_addresses(item: Item<'_>, faults: &mut Faults) -> Option<AddressRules> {
    let entries = item.list(MOST_ENTRIES, faults, |item: &Item<'_>, faults: &mut Faults| {
        item.parsed("an IP address or a prefix such as '10.0.0.0/8'", faults, |entry| {
            AddressRules::compile(&[entry]).ok().map(|_| entry)
        })
    })?;
    AddressRules::compile(&entries).ok()
}
