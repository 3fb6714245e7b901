//! `keyward quickstart`: a running proxy from nothing, and two keys to try it with.

use std::net::SocketAddr;
use std::path::Path;

use uuid::Uuid;

use crate::app;
use crate::app::serve::Admin;
use crate::config;
use crate::keys::change::{KeyChange, KeyRecord, Source};
use crate::keys::secret::{self, Digester, Pepper, Secret};
use crate::policy::KeyPolicy;
use crate::units::{KeyId, Rpm, Tpm};

use super::{FAILED, ended};

/// What it runs with; nothing is written to disk.
fn configuration(listen: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"
[server]
listen = "{listen}"
[admin]
listen = "{admin}"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#
    )
}

/// Starts it and prints what to paste.
pub fn quickstart(listen: SocketAddr, admin: SocketAddr, ready_file: Option<&Path>) -> u8 {
    let text = configuration(listen, admin);
    let config = match config::parse(&text, Path::new("quickstart"), &|_| None) {
        Ok(config) => config,
        Err(faults) => return ended(Err(app::serve::StartFault::Config(faults))),
    };
    let (ordinary, sandbox) = (secret::generate(), secret::generate());
    let digester = Digester::new(&Pepper::generate());
    let records =
        [record(&ordinary, "quickstart", false, &digester), record(&sandbox, "quickstart-sandbox", true, &digester)];
    let plane = app::serve::plane(&config, digester);
    for record in records {
        if let Err(refused) = plane.keys.apply(KeyChange::Put(Box::new(record))) {
            eprintln!("keyward: {refused}");
            return FAILED;
        }
    }
    let admin = Admin { listen: config.admin.listen, reloading: None };
    ended(app::serve::run(&plane, admin, ready_file, |data, admin| {
        if let Some(address) = data.first() {
            print!("{}", greeting(*address, admin, &ordinary, &sandbox));
        }
    }))
}

fn record(secret: &Secret, name: &str, is_sandbox: bool, digester: &Digester) -> KeyRecord {
    let bytes = secret.expose().as_bytes();
    let policy = KeyPolicy {
        rpm: Rpm::new(600),
        tpm: Tpm::new(1_000_000),
        is_sandbox,
        ..KeyPolicy::unlimited(KeyId(Uuid::now_v7()), name, &secret::prefix(bytes))
    };
    KeyRecord { policy, current: digester.digest(bytes), previous: Vec::new(), source: Source::Api }
}

fn greeting(data: SocketAddr, admin: SocketAddr, ordinary: &Secret, sandbox: &Secret) -> String {
    let (ordinary, sandbox) = (ordinary.expose(), sandbox.expose());
    format!(
        r#"
Keyward is running on http://{data} in front of a built-in backend. Nothing is kept when it ends.

  key           {ordinary}
  sandbox key   {sandbox}
  admin         http://{admin}  (/healthz /readyz /metrics)

Paste this:

curl http://{data}/v1/chat/completions -H 'authorization: Bearer {ordinary}' -H 'content-type: application/json' -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Hello"}}]}}'

Then try it with "stream":true, with a wrong key, or with an SDK:

  OPENAI_BASE_URL=http://{data}/v1 OPENAI_API_KEY={ordinary} python your_program.py

Ctrl-C ends it.

"#
    )
}
