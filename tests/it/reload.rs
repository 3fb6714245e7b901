//! Reloading: in one step or not at all, seen within a second however the file is changed, and felt by nobody.

mod clashes;
mod process;
mod step;
mod under_load;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyward::admin::{Gate, Operators, Vendors};
use keyward::app::keys::Declared;
use keyward::app::reload::{Reloader, Told};
use keyward::clock::{Clock, Now};
use keyward::config;

use crate::harness::{Answer, Backend, Client, Proxy, get, post};

const NOW: Now = Now { monotonic_ns: 1_000_000_000_000, unix_ms: 1_750_000_000_000 };

/// A proxy in this process whose configuration and keys are files, as `serve` has them but for the watch.
struct Filed {
    proxy: Proxy,
    reloader: Arc<Reloader>,
    home: tempfile::TempDir,
    /// Everything of `keyward.toml` but the name of the key file.
    config: String,
}

impl Filed {
    fn start(backend: &Backend, keys: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let config = Proxy::config_for(backend, "");
        let proxy = Proxy::start(&config, "keys = []", Clock::manual(NOW));
        let path = home.path().join("keyward.toml");
        let filed_config = format!("keys_file = \"keys.toml\"\n{config}");
        fs::write(&path, &filed_config).expect("written");
        let in_force = config::load(&path, &|_| None).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let operators = Arc::new(Operators::new(&in_force.admin, Vec::new()));
        let vendors = Arc::new(Vendors::new(&in_force.admin));
        let told = Told { gate: Gate::default(), operators, vendors, admin_tls: Arc::default() };
        let declared = Arc::new(Declared::new(Arc::clone(&proxy.plane.keys)));
        let reloader = Arc::new(Reloader::new(path, Arc::clone(&proxy.plane), in_force, declared, told));
        let filed = Self { proxy, reloader, home, config };
        filed.reload_with(keys).expect("the first keys");
        filed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes the key file and reloads.
    fn reload_with(&self, keys: &str) -> Result<(), Vec<String>> {
        fs::write(self.path("keys.toml"), keys).expect("written");
        self.reload()
    }

    /// Reloads on a thread of its own: it may wait for operators.
    fn reload(&self) -> Result<(), Vec<String>> {
        let reloader = &self.reloader;
        std::thread::scope(|scope| scope.spawn(|| reloader.reload()).join()).expect("a verdict")
    }

    /// The name of the key that `secret` belongs to now, if it belongs to one.
    async fn holder(&self, secret: &str) -> Option<String> {
        holder(self.proxy.address, secret).await
    }
}

/// The name of the key that `secret` belongs to.
async fn holder(address: std::net::SocketAddr, secret: &str) -> Option<String> {
    let answer = Client::once(address, &get("/v1/key", secret)).await;
    match answer.status {
        200 => answer.json()["name"].as_str().map(str::to_owned),
        _ => None,
    }
}

fn chat(secret: &str) -> Vec<u8> {
    post("/v1/chat/completions", secret, &crate::harness::chat("m", false))
}

/// A key file of these names and secrets.
fn keys(keys: &[(&str, &str)]) -> String {
    match keys {
        [] => "keys = []".to_owned(),
        _ => Proxy::keys_of(&keys.iter().map(|(name, secret)| (*name, *secret, "")).collect::<Vec<_>>()),
    }
}
