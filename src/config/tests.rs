//! Each class of fault by its exact words, and what a good file means.

mod backends;

use std::time::Duration;

use super::*;
use crate::admin::Role;
use crate::limits::OnLowQuota;
use crate::store::{Backend, PepperSource};
use crate::upstream::Credential;

/// The least a file must say.
const LEAST: &str = "[[upstreams]]\nname = \"s\"\ndialect = \"sandbox\"\nmodels = [\"*\"]\n";

fn env(name: &str) -> Option<String> {
    match name {
        "GOOD" => Some("0123456789abcdef".to_owned()),
        "SHORT" => Some("0123456789abcde".to_owned()),
        "EMPTY" => Some(String::new()),
        "SPACED" => Some("0123456789 abcdef\n".to_owned()),
        _ => None,
    }
}

fn parse_text(text: &str) -> Result<Config, Faults> {
    parse(text, Path::new("etc/keyward.toml"), &env)
}

/// The least file with `more` before it.
fn good(more: &str) -> Config {
    parse_text(&format!("{more}\n{LEAST}")).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The faults of `text`, one line each, without the file's name.
fn faults(text: &str) -> Vec<String> {
    let faults = parse_text(text).expect_err("the file is good");
    faults.to_string().lines().map(|line| line.trim_start_matches("etc/keyward.toml:").to_owned()).collect()
}

/// The one fault of the least file with `more` before it.
#[track_caller]
fn fault(more: &str) -> String {
    let mut faults = faults(&format!("{more}\n{LEAST}"));
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

/// The one fault of an upstream with `more` in it.
#[track_caller]
fn upstream_fault(more: &str) -> String {
    let written = ["name", "dialect", "url", "models"].map(|name| more.lines().any(|line| line.starts_with(name)));
    let defaults = ["name = \"a\"", "dialect = \"openai\"", "url = \"https://h\"", "models = [\"*\"]"];
    let rest: Vec<&str> = defaults.into_iter().zip(written).filter(|(_, w)| !w).map(|(line, _)| line).collect();
    let mut faults = faults(&format!("[[upstreams]]\n{more}\n{}\n", rest.join("\n")));
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn the_least_file_means_the_defaults() {
    let config = good("");
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!((config.server.workers, config.server.max_body), (0, 32 << 20));
    assert_eq!(config.server.header_timeout, Duration::from_secs(10));
    assert!(config.server.cut_streams && config.server.trusted_proxies.is_empty());
    assert_eq!(config.admin.listen, "127.0.0.1:8081".parse().unwrap());
    assert_eq!(config.admin.tokens, []);
    assert_eq!(config.storage.backend, Backend::Sqlite("etc/data/keyward.db".into()));
    assert_eq!(config.storage.pepper, PepperSource::File("etc/data/pepper".into()));
    assert_eq!(config.limits, LimitSettings::default());
    assert_eq!((config.keys_file, config.warnings.len()), (None, 0));
}

#[test]
fn unknown_names_are_told_with_what_was_meant() {
    assert_eq!(fault("[server]\nlisen = 1"), "2:1: server.lisen: unknown name; did you mean listen?");
    assert_eq!(
        fault("[limits]\ncolour = 1"),
        "2:1: limits.colour: unknown name; known here: default_max_output, on_low_quota, quota_status"
    );
    assert_eq!(fault("\"a b\" = 1").split("; ").next(), Some("1:1: \"a b\": unknown name"));
    assert_eq!(upstream_fault("apikey = \"x\""), "2:1: upstreams[0].apikey: unknown name; did you mean api_key?");
}

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_lines() {
    let text = "[server]\nlisen = 1\nworkers = 5000\ncut_streams = \"yes\"\n[limits]\non_low_quota = \"sometimes\"\n\
                [[upstreams]]\nname = \"a\"\ndialect = \"opnai\"\n[prices.x]\ninput = -1\noutptu = 1\n";
    assert_eq!(
        faults(text),
        [
            "2:1: server.lisen: unknown name; did you mean listen?",
            "3:11: server.workers: 5000 is not a whole number from 0 to 1024",
            "4:15: server.cut_streams: \"yes\" is not true or false",
            "6:16: limits.on_low_quota: \"sometimes\" is not one of \"clamp\", \"refuse\"",
            "7:1: upstreams[0].models: is missing: a list of model names or patterns with \"*\" is required",
            "9:11: upstreams[0].dialect: \"opnai\" is not one of \"openai\", \"anthropic\", \"gemini\", \"azure\", \"sandbox\"",
            "11:9: prices.x.input: -1 is not a whole number from 0 to 9223372036854775807",
            "12:1: prices.x.outptu: unknown name; did you mean output?",
        ]
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_nothing_of_a_secret() {
    let broken = parse_text("[server\nworkers = 1\n[storage]\npepper = S3CRET\n").unwrap_err();
    assert_eq!(
        broken.to_string(),
        "etc/keyward.toml:1:8: not TOML: unclosed table, expected `]`\n\
         etc/keyward.toml:4:10: not TOML: string values must be quoted, expected literal string"
    );
    assert!(broken.render(false).contains("4 | pepper = ******"), "{}", broken.render(false));
    let twice = faults(&format!("[server]\nworkers = 1\nworkers = 2\nlisen = 1\n{LEAST}"));
    assert_eq!(twice[0], "3:1: this name is given a second time");
    assert_eq!(twice[1], "4:1: server.lisen: unknown name; did you mean listen?");
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault_without_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keyward.toml");
    let told = |path: &Path| load(path, &env).unwrap_err().to_string().replace(&*path.to_string_lossy(), "F");
    let made = std::process::Command::new("mkfifo").arg(directory.path().join("pipe")).status().unwrap();
    assert!(made.success());
    assert_eq!(
        told(&directory.path().join("pipe")),
        "F: cannot be read: it is not a regular file",
        "and it does not wait"
    );
    assert_eq!(told(&path), "F: cannot be read: it does not exist");
    std::fs::write(&path, b"a = 1\n\xff").unwrap();
    assert_eq!(told(&path), "F: is not UTF-8: line 2 holds other bytes");
    std::fs::write(&path, LEAST).unwrap();
    assert!(load(&path, &env).is_ok());
}

#[test]
fn addresses_are_addresses() {
    const IS: &str = "is not an IP address and port such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
    assert_eq!(
        fault("[server]\nlisten = \"localhost:80\""),
        format!(
            "2:10: server.listen: \"localhost:80\" {IS}; names are not looked up; this machine alone is \"127.0.0.1:80\""
        )
    );
    assert_eq!(
        fault("[server]\nlisten = [\"[::1]:80\", \":90\"]"),
        format!("2:23: server.listen[1]: \":90\" {IS}; every address is \"0.0.0.0:90\"")
    );
    assert_eq!(fault("[server]\nlisten = \"1.2.3.4\""), format!("2:10: server.listen: \"1.2.3.4\" {IS}"));
    assert_eq!(fault("[server]\nlisten = []"), "2:10: server.listen: is empty: at least one address is required");
    assert_eq!(
        fault("[server]\nlisten = [\"1.1.1.1:1\", \"1.1.1.1:1\"]"),
        "2:24: server.listen[1]: 1.1.1.1:1 is listed twice"
    );
    assert_eq!(
        fault("[server]\nlisten = 80"),
        "2:10: server.listen: 80 is not an address such as \"127.0.0.1:8080\", or a list of them"
    );
    assert_eq!(
        fault("[server]\nlisten = \"127.0.0.1:7\"\n[admin]\nlisten = \"127.0.0.1:7\""),
        "3:1: admin.listen: 127.0.0.1:7 is an address of server.listen already"
    );
    assert_eq!(
        fault("[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/33\"]"),
        "2:34: server.trusted_proxies[1]: \"10.0.0.0/33\" is not an IP address or a prefix such as \"10.0.0.0/8\""
    );
    let config = good("[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\ntrusted_proxies = [\"10.0.0.0/8\"]");
    assert_eq!(config.server.listen.len(), 2);
    assert!(config.server.trusted_proxies.contains("10.1.1.1".parse().unwrap()));
}

#[test]
fn quantities_have_units_and_bounds() {
    assert_eq!(
        fault("[server]\nheader_timeout = 10"),
        "2:18: server.header_timeout: 10 is not a duration such as \"250ms\", \"30s\", \"5m\" or \"24h\""
    );
    assert_eq!(
        fault("[server]\nheader_timeout = \"0s\""),
        "2:18: server.header_timeout: \"0s\" is not within 1ms to 24h"
    );
    assert_eq!(
        fault("[server]\nmax_body = \"32MB\""),
        "2:12: server.max_body: \"32MB\" is not a size such as \"100B\", \"512KiB\", \"32MiB\" or \"1GiB\""
    );
    assert_eq!(fault("[server]\nmax_body = \"5GiB\""), "2:12: server.max_body: \"5GiB\" is not within 1KiB to 4GiB");
    assert_eq!(
        fault("[server]\nbody_budget = \"16MiB\""),
        "2:15: server.body_budget: is smaller than server.max_body, so a body of that size could never be taken"
    );
    assert_eq!(
        fault("[server]\nmax_body = \"2GiB\""),
        "2:12: server.max_body: is larger than server.body_budget, so a body of that size could never be taken"
    );
    assert_eq!(
        fault("[server]\nmax_connections = 0"),
        "2:19: server.max_connections: 0 is not a whole number from 1 to 1000000"
    );
    assert_eq!(good("[server]\ndrain_timeout = \"0s\"\nworkers = 0x10").server.drain_timeout, Duration::ZERO);
}

#[test]
fn a_path_to_listen_on_is_of_the_files_folder_and_has_a_mode() {
    let config = good(
        "[server]\nlisten = [\"unix:run/data.sock\", \"127.0.0.1:1\"]\nsocket_mode = \"666\"\n[admin]\nlisten = \"unix:/a\"",
    );
    assert_eq!(config.server.listen, ["unix:etc/run/data.sock".parse().unwrap(), "127.0.0.1:1".parse().unwrap()]);
    assert_eq!((config.server.socket_mode, config.admin.socket_mode), (0o666, 0o600));
    assert!(config.warnings.is_empty(), "a path is of this machine alone");
    const IS: &str = "is not \"unix:PATH\" with the path of a socket, 103 bytes at most with the folder";
    assert_eq!(fault("[server]\nlisten = \"unix:\""), format!("2:10: server.listen: \"unix:\" {IS}"));
    assert!(fault(&format!("[server]\nlisten = \"unix:/{}\"", "a".repeat(103))).ends_with(IS));
    assert_eq!(
        fault("[server]\nlisten = [\"unix:/a\", \"unix:/a\"]"),
        "2:22: server.listen[1]: unix:/a is listed twice"
    );
    for mode in ["\"0999\"", "\"rw\"", "\"01777\"", "\"7\"", "432"] {
        let told = fault(&format!("[server]\nsocket_mode = {mode}"));
        assert_eq!(told, format!("2:15: server.socket_mode: {mode} is not the mode of a file such as \"0660\""));
    }
}

#[test]
fn a_memory_limit_is_a_word_or_a_size() {
    use crate::proxy::settings::MemoryLimit;
    let of = |text: &str| good(&format!("[server]\nmemory_limit = \"{text}\"")).server.memory_limit;
    assert_eq!(
        (of("auto"), of("none"), of("2GiB")),
        (MemoryLimit::Auto, MemoryLimit::None, MemoryLimit::Bytes(2 << 30))
    );
    assert!(fault("[server]\nmemory_limit = \"1KiB\"").contains("within 64MiB to 65536GiB"));
}

#[test]
fn what_this_version_does_not_offer_is_refused() {
    assert_eq!(
        fault("[server]\nproxy_protocol = true"),
        "1:1: server.proxy_protocol: is only taken from an address in server.trusted_proxies, and none is listed there"
    );
    assert_eq!(
        fault("[storage]\nurl = \"postgres://me:S3CRET@db/keyward\""),
        "2:7: storage.url: this version does not offer Postgres yet; \"sqlite:PATH\" is expected"
    );
}

#[test]
fn secrets_come_from_the_environment_or_a_file_or_with_a_warning() {
    let of = |secret: &str| format!("api_key = {secret}");
    assert_eq!(
        upstream_fault(&of("\"env:NONE\"")),
        "2:11: upstreams[0].api_key: the environment variable NONE is not set"
    );
    assert_eq!(
        upstream_fault(&of("\"env:EMPTY\"")),
        "2:11: upstreams[0].api_key: the environment variable EMPTY is empty"
    );
    assert_eq!(
        upstream_fault(&of("\"env:sk-1234\"")),
        "2:11: upstreams[0].api_key: what follows \"env:\" is not the name of an environment variable"
    );
    assert_eq!(
        upstream_fault(&of("\"file:none\"")),
        "2:11: upstreams[0].api_key: the file \"etc/none\" cannot be read: it does not exist"
    );
    assert_eq!(
        upstream_fault(&of("\"file:/dev/zero\"")),
        "2:11: upstreams[0].api_key: the file \"/dev/zero\" cannot be read: it is not a regular file"
    );
    assert_eq!(
        upstream_fault(&of("\"\"")),
        "2:11: upstreams[0].api_key: is empty; \"env:NAME\" or \"file:PATH\" is expected"
    );
    assert_eq!(
        upstream_fault(&of("\"${KEY}\"")),
        "2:11: upstreams[0].api_key: variables are not expanded here; write \"env:NAME\""
    );
    assert_eq!(
        upstream_fault(&of("5")),
        "2:11: upstreams[0].api_key: a whole number is not a secret: \"env:NAME\" or \"file:PATH\" is expected"
    );
    assert_eq!(
        upstream_fault(&of("\"env:SPACED\"")),
        "2:11: upstreams[0].api_key: holds a character that cannot stand in a header"
    );
    let text = format!(
        "[[upstreams]]\nname=\"a\"\ndialect=\"openai\"\nurl=\"http://h\"\nmodels=[\"*\"]\n{}",
        of("\"S3CRET\"")
    );
    let config = parse_text(&text).unwrap();
    let warning = &config.warnings[0];
    assert_eq!(
        warning.to_string(),
        "etc/keyward.toml:6:11: upstreams[0].api_key: the secret stands in this file in clear; \
         \"env:NAME\" or \"file:PATH\" keeps it out"
    );
    assert!(warning.render(false).starts_with("warning: upstreams[0].api_key"), "{}", warning.render(false));
    assert!(!format!("{config:?}{}", warning.render(true)).contains("S3CRET"));
    assert_eq!(config.upstreams[0].credentials.first().cloned(), Credential::new("S3CRET"));
}

#[test]
fn a_secrets_file_loses_one_newline_and_lies_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "S3CRET\n").unwrap();
    let path = directory.path().join("keyward.toml");
    let text =
        "[[upstreams]]\nname=\"a\"\ndialect=\"openai\"\nurl=\"http://h\"\nmodels=[\"*\"]\napi_key=\"file:secret\"";
    let config = parse(text, &path, &env).unwrap();
    assert_eq!(config.upstreams[0].credentials.first().cloned(), Credential::new("S3CRET"));
    for (content, told) in
        [(&b"\n"[..], "is empty"), (&b"\xff"[..], "is not text"), (&[b'a'; 65_537], "is larger than")]
    {
        std::fs::write(directory.path().join("secret"), content).unwrap();
        assert!(parse(text, &path, &env).unwrap_err().to_string().contains(told));
    }
}

#[test]
fn storage_is_a_file_with_a_long_enough_pepper() {
    assert_eq!(fault("[storage]\nurl = \"x.db\""), "2:7: storage.url: is not \"sqlite:PATH\" with the path of a file");
    assert!(fault("[storage]\nurl = \"sqlite::memory:\"").contains("is not \"sqlite:PATH\""));
    assert_eq!(
        fault("[storage]\npepper = \"env:SHORT\""),
        "2:10: storage.pepper: is shorter than 16 bytes; \"env:NAME\" or \"file:PATH\" is expected"
    );
    assert!(matches!(good("[storage]\npepper = \"env:GOOD\"").storage.pepper, PepperSource::Given(_)));
    assert_eq!(good("[storage]\nurl = \"sqlite:///x.db\"").storage.backend, Backend::Sqlite("/x.db".into()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pepper");
    let text = format!("[storage]\npepper = \"file:{}\"", path.display());
    assert_eq!(good(&text).storage.pepper, PepperSource::File(path.clone()));
    std::fs::write(&path, "short").unwrap();
    assert_eq!(fault(&text), format!("2:10: storage.pepper: the file {path:?} is shorter than 16 bytes"));
}

#[test]
fn operators_have_a_name_a_long_token_and_a_role() {
    let one = |token: &str| format!("[admin]\ntokens = [{{ {token} }}]");
    assert_eq!(
        fault(&one("name = \"a\", token = \"env:SHORT\", role = \"read\"")),
        "2:33: admin.tokens[0].token: is shorter than 16 characters"
    );
    assert_eq!(
        fault(&one("name = \"a\", token = \"env:GOOD\", role = \"admin\"")),
        "2:52: admin.tokens[0].role: \"admin\" is not one of \"read\", \"write\""
    );
    assert_eq!(
        fault(&one("token = \"env:GOOD\", role = \"read\"")),
        "2:11: admin.tokens[0].name: is missing: text of 1 to 100 characters is required"
    );
    let twice = "[[admin.tokens]]\nname = \"a\"\ntoken = \"env:GOOD\"\nrole = \"read\"\n".repeat(2);
    assert_eq!(
        faults(&format!("{twice}{LEAST}")),
        [
            "6:8: admin.tokens[1].name: \"a\" is the name of admin.tokens[0] already",
            "7:9: admin.tokens[1].token: is the same secret as admin.tokens[0].token",
        ]
    );
    let config = good(&one("name = \"a\", token = \"env:GOOD\", role = \"write\", org_id = \"o\", team_id = \"t\""));
    let token = &config.admin.tokens[0];
    assert_eq!((token.role, token.org_id.as_deref(), token.team_id.as_deref()), (Role::Write, Some("o"), Some("t")));
    let open = good("[admin]\nlisten = \"0.0.0.0:8081\"");
    assert_eq!(
        open.warnings[0].to_string(),
        "etc/keyward.toml:2:10: admin.listen: the admin listener can be reached from other machines, and speaks in clear"
    );
    assert!(good("[admin]\nlisten = \"[::1]:8081\"").warnings.is_empty());
}

#[test]
fn limits_are_read() {
    let limits = good("[limits]\ndefault_max_output = 100\non_low_quota = \"refuse\"\nquota_status = 402").limits;
    assert_eq!((limits.default_max_output, limits.on_low_quota), (100, OnLowQuota::Refuse));
    assert_eq!(limits.quota_status, http::StatusCode::PAYMENT_REQUIRED);
    assert_eq!(fault("[limits]\nquota_status = 403"), "2:16: limits.quota_status: 403 is not 429 or 402");
    assert_eq!(
        fault("[limits]\ndefault_max_output = 0"),
        "2:22: limits.default_max_output: 0 is not a whole number from 1 to 10000000"
    );
    assert_eq!(fault("limits = 5"), "1:10: limits: 5 is not a table");
}

#[test]
fn a_fault_is_drawn_on_its_line() {
    let text = format!("[limits]\non_low_quota = \"sometimes\" # or S3CRET\n[server]\nlisen = \"S3CRET\"\n{LEAST}");
    let drawn = parse_text(&text).unwrap_err().render(false);
    let expected = r#"error: limits.on_low_quota
 --> etc/keyward.toml:2:16
  |
2 | on_low_quota = "sometimes"
  |                ^^^^^^^^^^^ "sometimes" is not one of "clamp", "refuse"

error: server.lisen
 --> etc/keyward.toml:4:1
  |
4 | lisen = "******"
  | ^^^^^ unknown name
  |
  = help: did you mean listen?"#;
    assert_eq!(drawn, expected);
}

#[test]
fn sockets_threads_and_storage_need_a_restart_and_nothing_else_does() {
    let old = good("");
    let new = good("[server]\nworkers = 3\nmax_body = \"1MiB\"\n[storage]\nurl = \"sqlite:other.db\"");
    assert_eq!(needs_restart(&old, &new), ["server.workers", "storage.url"]);
    let new = good(
        "[server]\nlisten = \"127.0.0.1:9\"\n[admin]\nlisten = \"127.0.0.1:10\"\n[storage]\npepper = \"env:GOOD\"",
    );
    assert_eq!(needs_restart(&old, &new), ["server.listen", "admin.listen", "storage.pepper"]);
    assert_eq!(needs_restart(&old, &good("[limits]\nquota_status = 402\n[models]\na = \"b\"")), [""; 0]);
}

#[test]
fn the_other_dialects_of_the_admin_listener_have_their_settings() {
    let admin = |text: &str| good(text).admin;
    assert!(admin("").apig.apps.is_empty() && admin("").newapi.create_returns_data);
    let set = admin("[admin.apig]\napps = [\"p-1/i/9ed8b7fe\"]\n[admin.newapi]\ncreate_returns_data = false");
    assert_eq!((set.apig.apps, set.newapi.create_returns_data), (vec!["p-1/i/9ed8b7fe".into()], false));
    for app in ["", "a/b", "a/b/c/d", "a//c", "a/b/c d", "/a/b"] {
        let told = fault(&format!("[admin.apig]\napps = [\"{app}\"]"));
        assert!(told.starts_with("2:9: admin.apig.apps[0]"), "{told}");
    }
}
