//! `keyward quickstart`: a running proxy from nothing, and two keys to try it with.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::admin::service::{Caller, KeyFields, NewKey, ServiceFault};
use crate::admin::{Operator, Role, Scope};
use crate::app::StartFault;
use crate::app::open::open;
use crate::app::serve::{Start, Started, run};
use crate::app::sockets::Sockets;
use crate::config;
use crate::keys::secret::Secret;
use crate::listen::Inherited;
use crate::units::{Rpm, Tpm};

use super::output::write;
use super::{FAILED, ended};

/// A folder that ends with the program.
struct Home(PathBuf);

impl Home {
    fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("keyward-quickstart-{}", Uuid::now_v7().simple()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("keyward: {}: {error}", self.0.display());
        }
    }
}

/// What it runs with.
fn configuration(listen: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"
[server]
listen = "{listen}"
[admin]
listen = "{admin}"
[storage]
journal_size = "1MiB"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#
    )
}

/// Starts it and prints what to paste.
pub fn quickstart(listen: SocketAddr, admin: SocketAddr, ready_file: Option<&Path>) -> u8 {
    let home = match Home::make() {
        Ok(home) => home,
        Err(error) => {
            eprintln!("keyward: a folder for this run: {error}");
            return FAILED;
        }
    };
    let text = configuration(listen, admin);
    let opened = config::parse(&text, &home.0.join("quickstart.toml"), &|_| None).map_err(StartFault::Config).and_then(
        |config| {
            let sockets = Sockets::of(&config, Inherited::default())
                .map_err(|error| StartFault::Machine { what: "a listener", error })?;
            Ok((open(config, Vec::new(), None, None)?, sockets))
        },
    );
    let greet = async |started: &Started| match keys(started).await {
        Ok((ordinary, sandbox)) => {
            if let Err(failure) = write(&greeting(started, &ordinary, &sandbox)) {
                failure.report();
            }
        }
        Err(fault) => eprintln!("keyward: no key could be made: {fault}"),
    };
    ended(opened.and_then(|(opened, sockets)| {
        run(opened, Start { sockets, ready_file, predecessor: None, can_hand_over: false }, greet)
    }))
}

/// Makes the two keys, as an operator would.
async fn keys(started: &Started) -> Result<(Secret, Secret), ServiceFault> {
    let operator = Operator { name: "quickstart".into(), role: Role::Write, scope: Scope::default() };
    let caller = Caller { operator: Arc::new(operator), address: IpAddr::V4(Ipv4Addr::LOCALHOST), via: "quickstart" };
    let key = |name: &str, is_sandbox| {
        let fields = KeyFields { rpm: Rpm::new(600), tpm: Tpm::new(1_000_000), is_sandbox, ..KeyFields::named(name) };
        started.service.create(&caller, NewKey { fields, secret: None })
    };
    let (ordinary, sandbox) = (key("quickstart", false).await?, key("quickstart-sandbox", true).await?);
    Ok((ordinary.secret, sandbox.secret))
}

fn greeting(started: &Started, ordinary: &Secret, sandbox: &Secret) -> String {
    let (ordinary, sandbox) = (ordinary.expose(), sandbox.expose());
    let token = started.first_token.as_ref().map_or("", Secret::expose);
    let admin = &started.admin;
    let data = started.data.first().map(ToString::to_string).unwrap_or_default();
    format!(
        r#"
Keyward is running on http://{data} in front of a built-in backend. Nothing is kept when it ends.

  key           {ordinary}
  sandbox key   {sandbox}
  admin         http://{admin}  (/docs /metrics /healthz /readyz)
  admin token   {token}

Paste this:

curl http://{data}/v1/chat/completions -H 'authorization: Bearer {ordinary}' -H 'content-type: application/json' -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Hello"}}]}}'

Then try it with "stream":true, with a wrong key, or with an SDK:

  OPENAI_BASE_URL=http://{data}/v1 OPENAI_API_KEY={ordinary} python your_program.py

See and change keys as an operator:

  KEYWARD_ADMIN_URL=http://{admin} KEYWARD_ADMIN_TOKEN={token} keyward key list

Ctrl-C ends it.

"#
    )
}
