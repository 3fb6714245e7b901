//! Real SDKs, unmodified but for base URL and key, against the real binary: the programs under `tests/sdk`.
//!
//! The SDKs are installed once below `target/sdk`, and again when their pinned versions change. Python is required; without
//! node its part is skipped with a note.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Each key's name and the lines of its policy. Limits are state, so each program that meets one has a key of its own.
const KEYS: [(&str, &str); 24] = [
    ("alice", ""),
    ("some-models", "models_allowed = [\"gpt-4o*\", \"claude-haiku-*\", \"gemini-2.5-flash*\"]"),
    ("sandboxed", "is_sandbox = true\nquota_limit = 1"),
    ("chat-only", "endpoints_allowed = [\"chat\"]"),
    ("elsewhere", "allowed_ips = [\"10.0.0.0/8\", \"2001:db8::/32\"]"),
    ("expired", "expires_at = \"2020-01-01T00:00:00Z\""),
    ("rpm-openai", "rpm_limit = 60"),
    ("rpm-openai-async", "rpm_limit = 60"),
    ("rpm-azure", "rpm_limit = 60"),
    ("rpm-anthropic", "rpm_limit = 60"),
    ("rpm-gemini", "rpm_limit = 60"),
    ("rpm-node-openai", "rpm_limit = 60"),
    ("rpm-node-anthropic", "rpm_limit = 60"),
    ("rpm-roomy", "rpm_limit = 600\ntpm_limit = 100000"),
    ("tpm-openai", "tpm_limit = 100"),
    ("tpm-anthropic", "tpm_limit = 100"),
    ("parallel-openai", "max_parallel = 1"),
    ("parallel-anthropic", "max_parallel = 1"),
    ("quota-openai", "quota_limit = 600"),
    ("quota-openai-async", "quota_limit = 1"),
    ("quota-anthropic", "quota_limit = 1"),
    ("quota-gemini", "quota_limit = 1"),
    ("quota-node-openai", "quota_limit = 1"),
    ("quota-node-anthropic", "quota_limit = 1"),
];

const CONFIG: &str = r#"
keys_file = "keys.toml"

[server]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"
tokens = [{ name = "ops", token = "env:KEYWARD_TEST_ADMIN_TOKEN", role = "write" }]

[storage]
url = "sqlite:keyward.db"
pepper = "file:pepper"

[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = [
    "gpt-4o", "gpt-4o-mini", "claude-haiku-4-5", "claude-opus-4-1", "gemini-2.5-flash", "gemini-2.5-pro",
    "text-embedding-3-small", "gpt-*", "claude-*", "gemini-*", "sandbox-*", "text-embedding-*", "whisper-*", "gpt-image-*",
    "tts-*", "dall-e-*", "omni-*", "rerank-*",
]

[models]
"fast" = "gpt-4o-mini"
"#;

/// The admin token of a run; long enough to be taken, and nothing else's.
const ADMIN_TOKEN: &str = "ops-0123456789abcdef0123456789abcdef";

#[test]
fn python_sdks_work_unmodified() {
    let python = python_with_the_sdks();
    let (keyward, under_tls) = (Keyward::start(), Keyward::start_under_tls());
    let mut tests = python.command();
    tests.env("KEYWARD_TEST_TLS_URL", &under_tls.url).env("KEYWARD_TEST_CA", under_tls.home.path().join("cert.pem"));
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5"]).arg(sources("python"));
    let output = run(keyward.tell(&mut tests).env("PYTHONDONTWRITEBYTECODE", "1"));
    keyward.verdict("Python", &output);
    under_tls.verdict("Python under TLS", &output);
}

#[test]
fn node_sdks_work_unmodified() {
    if !is_there("node") || !is_there("npm") {
        println!("skipped: node and npm are not installed, so the SDKs for node were not tried");
        return;
    }
    let (home, programs) = node_with_the_sdks();
    let keyward = Keyward::start();
    let mut tests = Command::new("node");
    tests.args(["--test", "--test-timeout=60000"]).args(programs).current_dir(home);
    keyward.verdict("node", &run(keyward.tell(&mut tests)));
}

/// The real binary with a configuration of its own, stopped when dropped.
struct Keyward {
    child: Child,
    home: tempfile::TempDir,
    secrets: BTreeMap<&'static str, String>,
    url: String,
}

impl Keyward {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory for the configuration");
        let mut keyward = Self::start_in(home, CONFIG);
        keyward.url = format!("http://{}", keyward.url);
        keyward
    }

    /// The same, with a certificate of its own for `localhost`.
    fn start_under_tls() -> Self {
        let home = tempfile::tempdir().expect("a directory for the configuration");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(home.path().join("cert.pem"), made.cert.pem()).expect("the certificate is written");
        fs::write(home.path().join("key.pem"), made.signing_key.serialize_pem()).expect("the key is written");
        let tls = "[server]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }";
        let mut keyward = Self::start_in(home, &CONFIG.replacen("[server]", tls, 1));
        let port = keyward.url.rsplit_once(':').map(|(_, port)| port.to_owned()).expect("an address has a port");
        keyward.url = format!("https://localhost:{port}");
        keyward
    }

    /// With this configuration; `url` is the bare address yet.
    fn start_in(home: tempfile::TempDir, config: &str) -> Self {
        let at = |name: &str| home.path().join(name);
        let secrets: BTreeMap<_, _> = KEYS.iter().map(|(name, _)| (*name, format!("sdk-test-{name}-secret"))).collect();
        fs::write(at("keyward.toml"), config).expect("the configuration is written");
        fs::write(at("keys.toml"), key_file(&secrets)).expect("the key file is written");
        let log = fs::File::create(at("log")).expect("a file for the log");
        let child = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .arg("serve")
            .arg("--config")
            .arg(at("keyward.toml"))
            .arg("--ready-file")
            .arg(at("ready"))
            .env("KEYWARD_TEST_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("KEYWARD_TEST_ALICE", &secrets["alice"])
            .stdout(log.try_clone().expect("one file for both streams"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut keyward = Self { child, home, secrets, url: String::new() };
        keyward.url = keyward.address();
        keyward
    }

    /// The data address it bound, once it has said so.
    fn address(&mut self) -> String {
        // Another process cannot be waited for in any other way that works everywhere; 30 s is far beyond its need.
        for _ in 0..1_500 {
            let ready = fs::read(self.home.path().join("ready")).unwrap_or_default();
            let ready: serde_json::Value = serde_json::from_slice(&ready).unwrap_or_default();
            if let Some(address) = ready["data"][0].as_str() {
                return address.to_owned();
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("keyward ended ({status}) instead of listening:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("keyward does not listen:\n{}", self.log());
    }

    /// Tells a program where Keyward is and which keys it has, and nothing of the caller's own keys and proxies.
    fn tell<'a>(&self, program: &'a mut Command) -> &'a mut Command {
        let keys = serde_json::to_string(&self.secrets).expect("names and secrets are JSON");
        program.env("KEYWARD_TEST_URL", &self.url).env("KEYWARD_TEST_KEYS", keys);
        for vendor in ["OPENAI", "AZURE_OPENAI", "ANTHROPIC", "GOOGLE", "GEMINI"] {
            for what in ["API_KEY", "BASE_URL", "ENDPOINT", "AUTH_TOKEN", "AD_TOKEN", "ORG_ID", "PROJECT_ID"] {
                program.env_remove(format!("{vendor}_{what}"));
            }
        }
        program.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost")
    }

    /// Fails with the program's output unless it succeeded; and in any case when a secret stands in the log.
    fn verdict(&self, name: &str, output: &Output) {
        let log = self.log();
        let leaked: Vec<_> = self.secrets.iter().filter(|(_, secret)| log.contains(secret.as_str())).collect();
        assert!(leaked.is_empty(), "secrets of {leaked:?} stand in the log:\n{log}");
        assert!(!log.contains(ADMIN_TOKEN), "the admin token stands in the log:\n{log}");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{said}");
        assert!(output.status.success(), "the SDKs for {name} failed ({}):\n{said}\n-- log:\n{log}", output.status);
    }

    fn log(&self) -> String {
        fs::read(self.home.path().join("log"))
            .map_or_else(|e| e.to_string(), |log| String::from_utf8_lossy(&log).into_owned())
    }
}

impl Drop for Keyward {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The keys, one by its secret in the environment and the others by their digests.
fn key_file(secrets: &BTreeMap<&str, String>) -> String {
    let mut file = String::new();
    for (name, policy) in KEYS {
        let digest = Sha256::digest(secrets[name].as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = match name {
            "alice" => "key = \"env:KEYWARD_TEST_ALICE\"".to_owned(),
            _ => format!("key_hash = \"sha256:{digest}\""),
        };
        writeln!(file, "[[keys]]\nname = \"{name}\"\n{secret}\n{policy}\n").expect("a string grows");
    }
    file
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(language)
}

/// Where the SDKs are installed: beside the build, so that they go when it goes.
fn installed(what: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let home = target.join("sdk").join(what);
    fs::create_dir_all(&home).expect("a directory for the SDKs");
    home
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"))
}

fn must(command: &mut Command) {
    let output = run(command);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?} failed:\n{}{}", said(&output.stdout), said(&output.stderr));
}

fn is_there(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Runs `install` unless it was run with these very pins before.
fn once(home: &Path, pins: &str, install: impl FnOnce()) {
    let stamp = home.join("installed-pins");
    if fs::read_to_string(&stamp).is_ok_and(|before| before == pins) {
        return;
    }
    install();
    fs::write(stamp, pins).expect("the pins are noted");
}

/// An interpreter that finds the SDKs.
struct Python {
    program: PathBuf,
    packages: Option<PathBuf>,
}

impl Python {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(packages) = &self.packages {
            command.env("PYTHONPATH", packages);
        }
        command
    }
}

fn python_with_the_sdks() -> Python {
    assert!(is_there("python3"), "python3 is needed to try the SDKs for Python");
    let home = installed("python");
    let requirements = sources("python").join("requirements.txt");
    let pins = fs::read_to_string(&requirements).expect("the pinned versions");
    let (venv, packages) = (home.join("venv"), home.join("packages"));
    let program = venv.join("bin/python");
    once(&home, &pins, || {
        let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        if made.status.success() {
            // Only one of the two is there, so that it is clear which to use.
            let _ = fs::remove_dir_all(&packages);
            must(Command::new(&program).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements));
        } else {
            // Some systems ship python3 without ensurepip, and so without virtual environments.
            let _ = fs::remove_dir_all(&venv);
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&packages);
            must(pip.arg("--requirement").arg(&requirements));
        }
    });
    match program.exists() {
        true => Python { program, packages: None },
        false => Python { program: "python3".into(), packages: Some(packages) },
    }
}

/// The directory with the programs for node beside their packages, as node looks for them nowhere else; and the tests in it.
fn node_with_the_sdks() -> (PathBuf, Vec<String>) {
    let home = installed("node");
    let manifest = sources("node").join("package.json");
    let pins = fs::read_to_string(&manifest).expect("the pinned versions");
    once(&home, &pins, || {
        fs::copy(&manifest, home.join("package.json")).expect("the manifest is copied");
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-save", "--package-lock=false", "--no-audit", "--no-fund", "--ignore-scripts"]);
        must(npm.current_dir(&home));
    });
    let mut tests = Vec::new();
    for entry in fs::read_dir(sources("node")).expect("the programs for node") {
        let from = entry.expect("a program for node").path();
        let name = from.file_name().expect("a file has a name").to_string_lossy().into_owned();
        fs::copy(&from, home.join(&name)).expect("a program is copied");
        if name.ends_with(".test.mjs") {
            tests.push(name);
        }
    }
    assert!(!tests.is_empty(), "no tests for node were found");
    (home, tests)
}
