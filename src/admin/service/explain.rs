//! Would this be admitted now? Every check of the data plane, in its order, without taking anything.

use std::net::IpAddr;
use std::sync::Arc;

use crate::admin::service::{Caller, Core, Service, ServiceFault};
use crate::clock::Now;
use crate::limits::KeyLimits;
use crate::limits::quota::covered_output;
use crate::policy::{
    Charge, DialectName, Endpoint, Estimate, KeyPolicy, Price, QuotaStanding, RequestFacts, Standing, authorize,
};
use crate::store::{KeyRef, StoredKey};
use crate::units::{ModelName, Tokens};

/// The request that is asked about.
#[derive(Debug, Clone)]
pub struct Probe {
    /// For which model; the checks that need one are left out when there is none.
    pub model: Option<ModelName>,
    /// Which call.
    pub endpoint: Endpoint,
    /// From where; not checked when there is none.
    pub address: Option<IpAddr>,
    /// The prompt.
    pub prompt_tokens: Tokens,
    /// The output it allows itself; assumed when it says nothing.
    pub max_output: Option<Tokens>,
}

/// What one check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It lets the request through.
    Pass,
    /// It lets it through with less output than it asks for.
    Clamp,
    /// It refuses it.
    Refuse,
    /// There is nothing to check.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name: `status`, `address`, `endpoint`, `model`, `upstream`, `quota`, `parallel`, `tokens`, `requests`.
    pub name: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// The name of the refusal.
    pub reason: Option<&'static str>,
    /// What the key has.
    pub limit: Option<u64>,
    /// What is used or held of it.
    pub used: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// What the request would take.
    pub asked: Option<u64>,
    /// When all of it is there again, milliseconds since 1970.
    pub resets_at_ms: Option<i64>,
    /// In words.
    pub message: String,
}

/// Every check, in the order of the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the request would be admitted.
    pub admitted: bool,
    /// All checks, those after a refusal too.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Clamp => "clamp",
            Self::Refuse => "refuse",
            Self::Skip => "skip",
        }
    }
}

impl Service {
    /// Whether a request with the key's current secret would be admitted now, and why not. Takes nothing.
    ///
    /// # Errors
    /// [`ServiceFault::NotFound`], [`ServiceFault::Unavailable`].
    pub async fn explain(&self, caller: &Caller, key: KeyRef, probe: Probe) -> Result<Explanation, ServiceFault> {
        let caller = caller.clone();
        self.blocking(move |core| {
            let (key, _) = core.seen(&caller, key)?;
            let tells_names = caller.operator.scope.is_unbound();
            Ok(core.explain(&key, &probe, tells_names))
        })
        .await
    }
}

impl Core {
    /// `tells_names` says whether upstreams are named: they concern nobody who is bound.
    fn explain(&self, key: &StoredKey, probe: &Probe, tells_names: bool) -> Explanation {
        let now = self.clock.now();
        let entry = self.keys.get(key.record.policy.id);
        // What is in force decides, which is what the table has.
        let policy = entry.as_ref().map_or_else(|| Arc::new(key.record.policy.clone()), |entry| entry.policy_at_rest());
        let limits = entry.as_ref().and_then(|entry| entry.limits_if_used()).cloned().unwrap_or_default();
        let (facts, price) = self.facts(&policy, probe);
        let standing = limits.standing(&policy, self.clock.certain());
        let mut checks = vec![status(&policy, entry.is_some(), now), address(&policy, probe.address)];
        checks.extend(rules(&policy, &facts, price));
        checks.push(self.upstream(&policy, &facts, tells_names));
        let charge = authorize(&KeyPolicy::unlimited(policy.id, "", ""), &facts, price);
        let charge =
            charge.ok().map(|charge| Charge { bills_quota: charge.bills_quota && !policy.is_sandbox, ..charge });
        let may_clamp = self.program.limit_settings().on_low_quota == crate::limits::OnLowQuota::Clamp;
        let of_quota = quota(&standing, charge.as_ref(), &limits, may_clamp);
        // What the quota lowers is asked of the tokens as it is then.
        let charge =
            if of_quota.verdict == Verdict::Clamp { charge.map(|charge| lowered(charge, &standing)) } else { charge };
        checks.extend([of_quota, parallel(&standing), tokens(&standing, charge.as_ref(), now)]);
        checks.push(requests(&standing, now));
        let admitted = checks.iter().all(|check| check.verdict != Verdict::Refuse);
        Explanation { admitted, checks }
    }

    fn facts(&self, policy: &KeyPolicy, probe: &Probe) -> (RequestFacts, Price) {
        let model = probe.model.as_ref().map(ModelName::as_str);
        let is_counted = !probe.endpoint.is_free() && !probe.endpoint.is_local();
        let output = match probe.max_output {
            _ if !is_counted || !probe.endpoint.has_output() => 0,
            Some(stated) => stated,
            None => self.program.expected_output(model),
        };
        let prompt = if is_counted { probe.prompt_tokens } else { 0 };
        let dialect = dialect_of(probe.endpoint);
        let facts = RequestFacts {
            dialect,
            endpoint: probe.endpoint,
            model: probe.model.clone(),
            other_models: Vec::new(),
            model_free: false,
            stream: false,
            estimate: Estimate {
                prompt,
                output,
                choices: 1,
                output_is_stated: probe.max_output.is_some(),
                least_output: 1,
            },
        };
        let target = probe.model.as_ref().filter(|_| !policy.is_sandbox);
        let routes = self.program.routes();
        let target = target.and_then(|model| routes.find(dialect, model)).and_then(|found| found.rename);
        let price =
            model.map_or(Price::TOKEN, |name| self.program.prices().price_as(name, target.map(ModelName::as_str)));
        (facts, price)
    }

    fn upstream(&self, policy: &KeyPolicy, facts: &RequestFacts, tells_names: bool) -> Check {
        let Some(model) = facts.model.as_ref().filter(|_| !facts.endpoint.is_local()) else {
            return Check::skipped("upstream", "no model was named");
        };
        let routes = self.program.routes();
        let way = if policy.is_sandbox { routes.sandbox() } else { routes.find(facts.dialect, model) };
        match way {
            Some(_) if !tells_names => Check::passed("upstream", format!("{model} is served")),
            Some(way) => {
                let name = &way.upstream.settings.name;
                let renamed = way.rename.map(|name| format!(" as {name}")).unwrap_or_default();
                Check::passed("upstream", format!("{name} serves it{renamed}"))
            }
            None => Check::refused(
                "upstream",
                "model_not_found",
                format!("no upstream serves {model} for {}", facts.endpoint.as_str()),
            ),
        }
    }
}

/// The API that has this call. OpenAI's calls are Azure's too; the first is meant.
fn dialect_of(endpoint: Endpoint) -> DialectName {
    match endpoint {
        Endpoint::Messages | Endpoint::CountTokens => DialectName::Anthropic,
        gemini if gemini.is_gemini_verb() => DialectName::Gemini,
        _ => DialectName::OpenAi,
    }
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            reason: None,
            limit: None,
            used: None,
            remaining: None,
            asked: None,
            resets_at_ms: None,
            message: message.into(),
        }
    }

    fn passed(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Verdict::Pass, message)
    }

    fn skipped(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Verdict::Skip, message)
    }

    fn refused(name: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason: Some(reason), ..Self::new(name, Verdict::Refuse, message) }
    }
}

fn status(policy: &KeyPolicy, is_in_table: bool, now: Now) -> Check {
    if !is_in_table {
        return Check::refused("status", "invalid_key", "the key is in the store and not in force");
    }
    if policy.is_disabled {
        return Check::refused("status", "key_disabled", "the key is disabled");
    }
    match policy.expires_at_ms {
        Some(end) if now.unix_ms >= end => {
            Check { resets_at_ms: Some(end), ..Check::refused("status", "key_expired", "the key has expired") }
        }
        _ => Check::passed("status", "the key is enabled and has not expired"),
    }
}

fn address(policy: &KeyPolicy, address: Option<IpAddr>) -> Check {
    let rules = &policy.allowed_ips;
    match address {
        _ if rules.is_empty() => Check::passed("address", "the key may be used from anywhere"),
        None => Check::skipped("address", "no client_ip was given"),
        Some(address) if rules.contains(address) => Check::passed("address", format!("{address} is allowed")),
        Some(address) => Check::refused("address", "ip_not_allowed", format!("{address} is not allowed")),
    }
}

/// Endpoint and model, each by the rules themselves.
fn rules(policy: &KeyPolicy, facts: &RequestFacts, price: Price) -> [Check; 2] {
    let call = facts.endpoint.as_str();
    let endpoint = if policy.endpoints.allows(facts.endpoint) {
        Check::passed("endpoint", format!("{call} is allowed"))
    } else {
        Check::refused("endpoint", "endpoint_not_allowed", format!("{call} is not allowed"))
    };
    let any_endpoint = KeyPolicy { endpoints: crate::policy::EndpointRules::ALL, ..policy.clone() };
    let model = match (&facts.model, authorize(&any_endpoint, facts, price)) {
        (None, _) if !policy.models.is_unlimited() => Check::skipped("model", "no model was named"),
        (None, _) => Check::passed("model", "every model is allowed"),
        (Some(model), Ok(_)) => Check::passed("model", format!("{model} is allowed")),
        (Some(model), Err(refusal)) => Check::refused("model", refusal.as_str(), format!("{model} is not allowed")),
    };
    [endpoint, model]
}

fn quota(standing: &Standing, charge: Option<&Charge>, limits: &Arc<KeyLimits>, may_clamp: bool) -> Check {
    let Some(quota) = standing.quota else {
        let used = Some(limits.quota_used());
        return Check { used, ..Check::passed("quota", "the key has no quota") };
    };
    let QuotaStanding { limit, used, reserved, resets_at_ms, .. } = quota;
    let asked = charge.map_or(0, Charge::units);
    let remaining = quota.remaining();
    let least = charge.map_or(0, |charge| charge.units_for_output(charge.least_output));
    let check = if asked == 0 || asked <= remaining {
        Check::passed("quota", format!("{asked} of {remaining} units would be reserved"))
    } else if may_clamp && charge.is_some_and(|charge| charge.can_clamp) && least <= remaining {
        Check::new("quota", Verdict::Clamp, "the quota covers the prompt and a part of the output")
    } else {
        Check::refused("quota", "insufficient_quota", format!("{asked} units are asked for and {remaining} are left"))
    };
    let used = Some(used.saturating_add(reserved));
    Check { limit: Some(limit), used, remaining: Some(remaining), asked: Some(asked), resets_at_ms, ..check }
}

/// `charge` with the output that the quota covers of it.
fn lowered(charge: Charge, standing: &Standing) -> Charge {
    let left = standing.quota.as_ref().map_or(u64::MAX, QuotaStanding::remaining);
    let output =
        covered_output(&charge, left).map_or(charge.estimate.output, |each| each * charge.estimate.choices.max(1));
    Charge { estimate: Estimate { output, ..charge.estimate }, ..charge }
}

fn parallel(standing: &Standing) -> Check {
    let Some(slots) = standing.parallel else { return Check::passed("parallel", "the key has no such limit") };
    let (limit, used) = (u64::from(slots.limit), u64::from(slots.in_use));
    let check = if used < limit {
        Check::passed("parallel", format!("{used} of {limit} requests are under way"))
    } else {
        Check::refused("parallel", "max_parallel", format!("{limit} requests are under way"))
    };
    let remaining = Some(limit.saturating_sub(used));
    Check { limit: Some(limit), used: Some(used), remaining, asked: Some(1), ..check }
}

fn tokens(standing: &Standing, charge: Option<&Charge>, now: Now) -> Check {
    let Some(gauge) = standing.tokens else { return Check::passed("tokens", "the key has no such limit") };
    let prompt = charge.map_or(0, |charge| charge.estimate.prompt);
    // A reservation is clipped to what a whole minute gives.
    let asked = charge.map_or(0, Charge::tokens).min(gauge.limit);
    let check = if asked == 0 || (prompt <= gauge.limit && asked <= gauge.remaining) {
        Check::passed("tokens", format!("{asked} of {} tokens would be reserved", gauge.remaining))
    } else if prompt > gauge.limit {
        Check::refused("tokens", "prompt_over_tpm_limit", "the prompt alone is larger than what a minute gives")
    } else {
        Check::refused("tokens", "tpm_limit", format!("{asked} tokens are asked for and {} are left", gauge.remaining))
    };
    let resets_at_ms = Some(now.plus_ns(gauge.reset_ns).unix_ms);
    Check { limit: Some(gauge.limit), remaining: Some(gauge.remaining), asked: Some(asked), resets_at_ms, ..check }
}

fn requests(standing: &Standing, now: Now) -> Check {
    let Some(gauge) = standing.requests else { return Check::passed("requests", "the key has no such limit") };
    let check = if gauge.remaining > 0 {
        Check::passed("requests", format!("{} requests are left", gauge.remaining))
    } else {
        Check::refused("requests", "rpm_limit", "the minute's requests are used up")
    };
    let resets_at_ms = Some(now.plus_ns(gauge.reset_ns).unix_ms);
    Check { limit: Some(gauge.limit), remaining: Some(gauge.remaining), asked: Some(1), resets_at_ms, ..check }
}
