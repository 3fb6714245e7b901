//! The example files, the shapes every configuration is promised to have, and what holds for any file whatever.

use std::collections::BTreeSet;
use std::path::Path;

use keyward::config::{Config, key_setting_names, parse, parse_keys, setting_names};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../config/keyward.example.toml");
const KEYS_EXAMPLE: &str = include_str!("../config/keys.example.toml");

/// The shape of `keyward.toml` whose names are fixed.
const CONTRACT: &str = r#"
keys_file = "keys.toml"

[server]
listen = ["127.0.0.1:8080"]
workers = 0
trusted_proxies = []
proxy_protocol = false
max_body = "32MiB"
header_timeout = "10s"
drain_timeout = "30s"
cut_streams = true

[admin]
listen = "127.0.0.1:8081"
tokens = [{ name = "ops", token = "env:KEYWARD_ADMIN_TOKEN", role = "write" }]

[storage]
url = "sqlite:data/keyward.db"
pepper = "file:data/pepper"

[limits]
default_max_output = 512
on_low_quota = "clamp"

[[upstreams]]
name = "openai"
dialect = "openai"
url = "https://api.openai.com"
api_key = "env:OPENAI_API_KEY"
models = ["gpt-*", "o*", "text-embedding-*"]
connect_timeout = "5s"
first_byte_timeout = "600s"
idle_timeout = "300s"
retries = 1

[models]
"fast" = "gpt-4o-mini"

[prices."gpt-4o*"]
input = 2500000
cached_input = 1250000
output = 10000000
request = 0
"#;

/// The shape of `keys.toml` whose names are fixed.
const KEYS_CONTRACT: &str = r#"
[[keys]]
name = "alice"
key_hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
models_allowed = ["gpt-4o*", "text-embedding-3-small"]
rpm_limit = 60
tpm_limit = 100000
max_parallel = 8
quota_limit = 5000000
quota_reset = "monthly"
allowed_ips = ["127.0.0.0/8", "::1"]
expires_at = "2030-01-01T00:00:00Z"

[[keys]]
name = "ci"
key = "env:CI_KEY"
is_sandbox = true
"#;

fn env(name: &str) -> Option<String> {
    ["KEYWARD_ADMIN_TOKEN", "OPENAI_API_KEY", "CI_KEY"].contains(&name).then(|| "0123456789-abcdef".to_owned())
}

fn read(text: &str) -> Config {
    parse(text, Path::new("keyward.toml"), &env).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
}

#[test]
fn the_promised_shapes_are_read_without_a_warning() {
    let config = read(CONTRACT);
    assert_eq!(config.warnings, []);
    assert_eq!(config.keys_file.as_deref(), Some(Path::new("keys.toml")));
    assert_eq!((config.admin.tokens.len(), config.upstreams.len(), config.aliases.len()), (1, 1, 1));
    let keys = parse_keys(KEYS_CONTRACT, Path::new("keys.toml"), &env).unwrap();
    assert_eq!(keys.iter().map(|key| &*key.policy.name).collect::<Vec<_>>(), ["alice", "ci"]);
    assert!(keys.iter().all(|key| key.warnings.is_empty()));
}

#[test]
fn the_examples_are_read_without_a_warning() {
    assert_eq!(read(EXAMPLE).warnings, []);
    let keys = parse_keys(KEYS_EXAMPLE, Path::new("keys.toml"), &env).unwrap();
    assert!(keys.iter().all(|key| key.warnings.is_empty()));
}

#[test]
fn the_example_says_every_setting() {
    let said = said(EXAMPLE);
    for name in setting_names() {
        assert!(said.contains(&name), "keyward.example.toml does not say {name}; it says {said:#?}");
    }
    let said = said_of_keys();
    for name in key_setting_names() {
        assert!(said.contains(&name), "keys.example.toml does not say {name}; it says {said:#?}");
    }
}

fn said_of_keys() -> BTreeSet<String> {
    said(KEYS_EXAMPLE)
}

/// The paths of all settings a text mentions as `name =`, also in comments, in the spelling of `setting_names`.
fn said(text: &str) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    let (mut section, mut open) = (String::new(), String::new());
    for line in text.lines() {
        let line = line.trim().trim_start_matches("# ");
        if let Some(header) = line.strip_prefix('[').filter(|_| line.ends_with(']')) {
            let name = header.trim_matches(['[', ']']);
            // The names of prices are the operator's.
            let name = if name.starts_with("prices.") { "prices.*" } else { name };
            said.extend([name, name.split('.').next().unwrap_or_default()].map(str::to_owned));
            section = if header.starts_with('[') { format!("{name}[].") } else { format!("{name}.") };
            continue;
        }
        if let Some((name, value)) = line.split_once(" = ")
            && !name.contains([' ', '{'])
        {
            let name = if ["models.", "fallbacks."].contains(&section.as_str()) { "*" } else { name };
            open = format!("{section}{name}");
            said.insert(open.clone());
            open += if value.starts_with('[') { "[]." } else { "." };
        }
        if let Some((_, inside)) = line.split_once('{') {
            let pairs = inside.split(", ").filter_map(|pair| pair.split_once(" = "));
            said.extend(pairs.map(|(name, _)| format!("{open}{}", name.trim())));
        }
    }
    said
}

#[test]
fn the_example_states_the_real_defaults() {
    let least = read("[[upstreams]]\nname = \"openai\"\ndialect = \"openai\"\nurl = \"https://h\"\nmodels = [\"*\"]");
    let example = read(EXAMPLE);
    let without_routes = keyward::proxy::Settings { passthrough: Vec::new(), ..example.server.clone() };
    assert_eq!(format!("{without_routes:#?}"), format!("{:#?}", least.server));
    assert_eq!(example.limits, least.limits);
    assert_eq!(example.storage, least.storage);
    assert_eq!(example.admin.listen, least.admin.listen);
    let timing = |config: &Config| {
        let upstream = &config.upstreams[0];
        let mut told = upstream.clone();
        // What the example fills in; the rest is as without it.
        (told.models, told.credentials) = (Vec::new(), Vec::new());
        told.urls.clear();
        format!("{told:#?}")
    };
    assert_eq!(timing(&example), timing(&least));
}

#[test]
fn what_the_example_says_in_comments_is_read_too() {
    let on = ["tls = ", "tls_min_version = ", "client_ca = ", "client_auth = ", "{ name = "]
        .iter()
        .fold(EXAMPLE.to_owned(), |text, setting| text.replace(&format!("# {setting}"), setting));
    let told = parse(&on, Path::new("keyward.toml"), &env).unwrap_err().to_string();
    let told: Vec<&str> = told.lines().map(|line| line.split(": ").nth(1).unwrap_or_default()).collect();
    assert_eq!(
        told,
        [
            "server.tls.cert",
            "server.tls.key",
            "server.client_ca",
            "admin.tokens[1].token",
            "admin.tls.cert",
            "admin.tls.key",
            "admin.client_ca",
            "upstreams[0].tls.ca",
            "upstreams[0].tls.cert",
            "upstreams[0].tls.key"
        ],
        "none of the files is there"
    );
}

#[test]
fn a_hundred_thousand_keys_are_read_with_every_fault_among_them() {
    let key =
        |n: usize| format!("[[keys]]\nname = \"k{n}\"\nkey_hash = \"sha256:{n:064x}\"\nrpm_limit = {}\n", n % 1000);
    let text: String = (0..100_000).map(key).collect();
    let faults = parse_keys(&text, Path::new("keys.toml"), &env).unwrap_err();
    assert_eq!(faults.len(), 100);
    let last = faults.iter().last().unwrap().to_string();
    assert_eq!(last, "keys.toml:396004:13: keys[99000].rpm_limit: 0 is not a whole number from 1 to 1000000000");
    let keys = parse_keys(&text.replace("rpm_limit = 0\n", ""), Path::new("keys.toml"), &env).unwrap();
    assert_eq!(keys.len(), 100_000);
}

/// Places where a secret may stand, `@` for it, also in files that are wrong in other ways.
const SECRET_PLACES: [&str; 22] = [
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = \"https://h\"\nmodels = [\"*\"]\napi_key = \"@\"",
    "[[upstreams]]\nname = \"a\"\ndialect = \"opnai\"\napi_key = \"@\"\nmodels = 5",
    "[[upstreams]]\nname = \"a\"\napi_kye = \"@\" # @",
    "[[upstreams]]\nurl = \"https://me:@/x\"\napi_key = [\"@\"]",
    "[[upstreams]]\nurl = \"https://h?key=@\"\nretries = -1",
    "[[upstreams]]\nname = \"a\"\ndialect = \"openai\"\nurl = [{ url = \"https://me:@\", weight = 0 }]\nproxy = \"http://me:@@p\"",
    "[[upstreams]]\ndialect = \"openai\"\nheaders = { x-a = \"@\\n\", authorization = \"@\", x-b = [\"@\"], \"a b\" = \"@\" }",
    "[[upstreams]]\ndialect = \"openai\"\napi_key = [\"@\", \"@\", 5]\nheaders = \"@\"\ntls = { key = \"\", cert = 5 }",
    "upstreams = [{ api_key = \"@\", retries = 99, nmae = \"x\" }]",
    "upstreams = [{ api_key = \"@\", retries = 99",
    "upstreams = { api_key = \"@\" }\nlimits = [\"@\"]",
    "[admin]\ntokens = [{ name = \"ops\", token = \"@\", role = \"wirte\" }]",
    "[admin]\ntokens = [{ name = \"ops\" token = \"@\" role = \"write\" }]",
    "[admin.tokens]\nname = \"ops\"\ntoken = \"@\"",
    "[storage]\nurl = \"postgres://me:@/db\"\npepper = \"@\"",
    "[storage]\npepper = @",
    "[storage]\npepper = \"@\npepper = '@'\n@\n@ = 1",
    "[[keys]]\nname = \"k\"\nkey = \"@\"",
    "[[keys]]\nname = \"k\"\nkey_hash = \"@\"\nrpm_limit = 0",
    "[[keys]]\nkey = \"@\"\n[[keys]]\nkey = \"@\"",
    "keys = [{ key = \"@\", previous = [{ key_hash = \"@\" }], rpm = 0 }]",
    "[[keys]]\nname = \"k\"\nkey = \"\"\"\n@\"\"\"\nrpm_limit = \"no\"",
];

fn told(text: &str, env: &dyn Fn(&str) -> Option<String>) -> String {
    let config = match parse(text, Path::new("keyward.toml"), env) {
        Ok(config) => {
            let drawn: Vec<String> =
                config.warnings.iter().map(|w| format!("{w}{}{}", w.render(true), w.render(false))).collect();
            format!("{config:?}{config:#?}{drawn:?}")
        }
        Err(faults) => format!("{faults}{faults:?}{}{}", faults.render(true), faults.render(false)),
    };
    let keys = match parse_keys(text, Path::new("keys.toml"), env) {
        Ok(keys) => {
            let warnings = keys.iter().flat_map(|key| &key.warnings);
            let drawn: Vec<String> = warnings.map(|w| format!("{w}{}{}", w.render(true), w.render(false))).collect();
            format!("{keys:?}{keys:#?}{drawn:?}")
        }
        Err(faults) => format!("{faults}{faults:?}{}{}", faults.render(true), faults.render(false)),
    };
    config + &keys
}

proptest! {
    #[test]
    fn no_secret_is_ever_told(secret in "[A-Za-z0-9+_/=-]{1,4}[A-Za-z0-9]{12}[A-Za-z0-9+_/=-]{0,40}") {
        for place in SECRET_PLACES {
            let told = told(&place.replace('@', &secret), &|_| None);
            prop_assert!(!told.contains(&secret), "{} tells {}: {}", place, secret, told);
        }
        for place in SECRET_PLACES {
            let told = told(&place.replace('@', "env:SECRET"), &|_| Some(secret.clone()));
            prop_assert!(!told.contains(&secret), "{} tells {} of the environment: {}", place, secret, told);
        }
    }

    #[test]
    fn any_text_gets_a_verdict(text in "\\PC{0,200}") {
        told(&text, &|_| None);
    }

    #[test]
    fn any_mix_of_pieces_gets_a_verdict(pieces in prop::collection::vec(0_usize..40, 0..60)) {
        const PIECES: [&str; 40] = [
            "[[keys]]", "[[upstreams]]", "[server]", "[admin]", "[limits]", "[prices.x]", "[models]", "[storage]", "\n", "\r\n",
            "name", "key", "api_key", "listen", "url", "models", "tokens", "until", "expires_at", "metadata", " = ", "\"", "'",
            "\"\"\"", "[", "]", "{", "}", ",", "#", "5", "-1.5", "true", "2030-01-01T00:00:00Z", "\"https://h\"", "\"env:A\"",
            "ü", "\u{feff}", "\0", "\n",
        ];
        let text: String = pieces.into_iter().filter_map(|piece| PIECES.get(piece)).copied().collect();
        told(&text, &|_| Some("letters-and-more-letters".to_owned()));
    }

    #[test]
    fn a_damaged_example_gets_a_verdict(cut in 0_usize..7000, with in "[\\[\\]{}=\"'#\n,a5ü.]{0,3}", remove in 0_usize..40) {
        for example in [EXAMPLE, KEYS_EXAMPLE] {
            let damaged: String = example.chars().take(cut).chain(with.chars()).chain(example.chars().skip(cut + remove)).collect();
            told(&damaged, &env);
        }
    }
}
