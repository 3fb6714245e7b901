//! A store full of keys.

use std::path::Path;
use std::time::Duration;

use keyward::clock::Clock;
use keyward::keys::secret::{Digester, Pepper};
use keyward::keys::{KeyRecord, Source, secret};
use keyward::policy::{AddressRules, Glob, KeyPolicy, ModelRules, QuotaReset, QuotaRule};
use keyward::store::embedded::Embedded;
use keyward::store::{KeyDetails, Mask, Store, StoredChange, StoredKey, Write};
use keyward::units::{KeyId, Rpm, Tpm};
use uuid::Uuid;

/// Keys whose secrets are known, for the traffic.
const USED: usize = 64;

const BATCH: usize = 5_000;

/// What was filled in.
pub struct Filled {
    pub ids: Vec<Uuid>,
    pub secrets: Vec<String>,
    pub took: Duration,
}

/// Fills the store that a `keyward.toml` in `folder` names by default.
pub fn fill(folder: &Path, count: usize) -> anyhow::Result<Filled> {
    let data = folder.join("data");
    std::fs::create_dir_all(&data)?;
    let pepper = "a pepper for the bench, of no use elsewhere";
    std::fs::write(data.join("pepper"), pepper)?;
    let digester = Digester::new(&Pepper::new(pepper.as_bytes())?);
    let clock = Clock::system();
    let began = clock.monotonic_ns();
    let store = Embedded::open(&data.join("keyward.db"))?;
    let (mut ids, mut secrets, mut changes) = (Vec::with_capacity(count), Vec::new(), Vec::new());
    let stride = (count / USED).max(1);
    for number in 0..count {
        let made = if number % stride == 0 {
            let made = secret::generate();
            secrets.push(made.expose().to_owned());
            made
        } else {
            secret::Secret::new(format!("stranger-{number:08}"))
        };
        let id = Uuid::now_v7();
        ids.push(id);
        changes.push(StoredChange::Put(Box::new(key(id, number, stride, &made, &digester, clock.now().unix_ms))));
        if changes.len() == BATCH || number + 1 == count {
            let changes = std::mem::take(&mut changes);
            store.write(Write::Keys { changes, audit: Vec::new(), remember: None })?;
        }
    }
    drop(store);
    Ok(Filled { ids, secrets, took: Duration::from_nanos(clock.monotonic_ns() - began) })
}

fn key(id: Uuid, number: usize, stride: usize, secret: &secret::Secret, digester: &Digester, now_ms: i64) -> StoredKey {
    // What the traffic uses may do anything; of the others some are switched off, over, or may ask for little.
    let is_used = number.is_multiple_of(stride);
    let models: &[&str] = match number {
        _ if is_used || !number.is_multiple_of(3) => &["gpt-4o*", "text-embedding-3-*"],
        _ if number.is_multiple_of(7) => &[],
        _ => &["claude-*", "o1"],
    };
    let models = models.iter().copied().filter_map(Glob::new).collect();
    let limit = if !is_used && number.is_multiple_of(50) { 0 } else { 1_000_000_000_000 };
    let policy = KeyPolicy {
        team_id: Some(format!("team-{}", number % 1000).into()),
        org_id: Some(format!("org-{}", number % 50).into()),
        models: ModelRules::new(models),
        allowed_ips: AddressRules::compile(&["127.0.0.0/8", "10.0.0.0/8"]).unwrap_or_default(),
        rpm: Rpm::new(1_000_000),
        tpm: Tpm::new(1_000_000_000),
        quota: Some(QuotaRule { limit, reset: QuotaReset::Monthly }),
        is_disabled: !is_used && number.is_multiple_of(23),
        expires_at_ms: (!is_used && number.is_multiple_of(11)).then_some(now_ms),
        ..KeyPolicy::unlimited(KeyId(id), &format!("key-{number:07}"), &secret::prefix(secret.expose()))
    };
    let current = digester.digest(secret.expose().as_bytes());
    let details = KeyDetails {
        version: 1,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        mask: Mask::of(secret),
        ..KeyDetails::default()
    };
    StoredKey { number: 0, record: KeyRecord { policy, current, previous: Vec::new(), source: Source::Api }, details }
}
