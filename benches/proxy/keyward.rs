//! Keyward's files for a measurement, and its process.

use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use keyward::keys::secret;

use crate::guard::Guarded;

/// The binary that cargo built for this bench.
const BINARY: &str = env!("CARGO_BIN_EXE_keyward");

/// Keys that the load uses; all the others only stand in the table.
const USED: usize = 64;

/// All limits that can be set, none of which is ever reached.
const POLICY: &str = "\
models_allowed = [\"o3-mini\", \"text-embedding-3-*\", \"gpt-4o*\"]
allowed_ips = [\"10.0.0.0/8\", \"192.168.0.0/16\", \"127.0.0.0/8\", \"::1\"]
rpm_limit = 1000000000
tpm_limit = 10000000000
max_parallel = 1000000
quota_limit = 9000000000000000000
quota_reset = \"monthly\"
";

/// How Keyward is set.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub workers: usize,
    /// In the key file.
    pub keys: usize,
    /// Every policy on the keys used, or none.
    pub has_policy: bool,
    /// An access line for each request, to /dev/null.
    pub has_access_log: bool,
}

/// The key file, which can be written again with a key switched off.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
    setup: Setup,
    pub secrets: Vec<String>,
}

impl KeyFile {
    /// Not written yet.
    pub fn new(path: PathBuf, setup: Setup) -> Self {
        let secrets = (0..USED.min(setup.keys)).map(|_| secret::generate().expose().to_owned()).collect();
        Self { path, setup, secrets }
    }

    /// Writes a new file beside the one that is read. The last of the used keys is switched off or on.
    pub fn write(&self, is_last_disabled: bool) -> anyhow::Result<()> {
        Ok(std::fs::write(self.beside(), self.text(is_last_disabled))?)
    }

    /// Renames it over the one that is read.
    pub fn put(&self) -> anyhow::Result<()> {
        Ok(std::fs::rename(self.beside(), &self.path)?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the digests alone, each with its key's name, as HAProxy reads them.
    pub fn write_map(&self) -> anyhow::Result<()> {
        let lines = self.digests().map(|(number, _, hash)| format!("{hash} key-{number:06}\n"));
        Ok(std::fs::write(&self.path, lines.collect::<String>())?)
    }

    fn beside(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// All keys in their order: a number, the secret where it is used, and its digest. The used ones are spread evenly.
    fn digests(&self) -> impl Iterator<Item = (usize, Option<&String>, String)> {
        let stride = self.setup.keys / self.secrets.len().max(1);
        (0..self.setup.keys).map(move |number| {
            let used = (number % stride == 0).then(|| self.secrets.get(number / stride)).flatten();
            let hash = match used {
                Some(secret) => secret::sha256_hex(secret),
                None => secret::sha256_hex(format!("stranger-{number:08}")),
            };
            (number, used, hash)
        })
    }

    fn text(&self, is_last_disabled: bool) -> String {
        let mut text = String::with_capacity(self.setup.keys * 140);
        for (number, used, hash) in self.digests() {
            // Writing to a string does not fail.
            let _ = write!(text, "[[keys]]\nname = \"key-{number:06}\"\nkey_hash = \"sha256:{hash}\"\n");
            if used.is_some() && self.setup.has_policy {
                text.push_str(POLICY);
            }
            if is_last_disabled && used.is_some() && used == self.secrets.last() {
                text.push_str("disabled = true\n");
            }
        }
        text
    }
}

/// Writes both files into `folder`, which is there.
pub fn write_files(folder: &Path, listen: SocketAddr, backend: SocketAddr, setup: Setup) -> anyhow::Result<KeyFile> {
    let text = format!(
        "keys_file = \"keys.toml\"
[server]
listen = \"{listen}\"
workers = {workers}
max_connections = 1000000
max_connections_per_client = 1000000
keep_alive_timeout = \"600s\"
[admin]
listen = \"127.0.0.1:0\"
[storage]
url = \"sqlite:keyward.db\"
pepper = \"file:pepper\"
[[upstreams]]
name = \"backend\"
dialect = \"openai\"
url = \"http://{backend}\"
api_key = \"env:BENCH_UPSTREAM_KEY\"
models = [\"*\"]
[prices.\"gpt-4o*\"]
input = 2500000
cached_input = 1250000
output = 10000000
",
        workers = setup.workers
    );
    std::fs::write(folder.join("keyward.toml"), text)?;
    let keys = KeyFile::new(folder.join("keys.toml"), setup);
    keys.write(false)?;
    keys.put()?;
    Ok(keys)
}

/// Starts the binary on the files in `folder`; faults are found in `keyward.log` there.
pub fn spawn(folder: &Path, setup: Setup) -> anyhow::Result<Guarded> {
    let stderr = if setup.has_access_log { Stdio::null() } else { File::create(folder.join("keyward.log"))?.into() };
    let config = folder.join("keyward.toml");
    Guarded::spawn(BINARY, ["serve".as_ref(), "--config".as_ref(), config.as_os_str()], |command| {
        command.env("KEYWARD_LOG", if setup.has_access_log { "info" } else { "warn" });
        command.env("BENCH_UPSTREAM_KEY", "upstream-credential-of-the-bench");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    })
}
