//! Each class of fault by its exact words, and what a good key means.

use super::*;
use crate::policy::{Endpoint, OnDisconnect, QuotaReset, QuotaRule};

const HASH: &str = "key_hash = \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n";

fn env(name: &str) -> Option<String> {
    match name {
        "LONG" => Some("sk-kw-3FqZbM".to_owned() + &"a".repeat(43)),
        "SHORT" => Some("8letters".to_owned()),
        "TOO_SHORT" => Some("letters".to_owned()),
        "SPACED" => Some("with a space".to_owned()),
        _ => None,
    }
}

fn read_text(text: &str) -> Result<Vec<FileKey>, Faults> {
    parse_keys(text, Path::new("keys.toml"), &env)
}

/// The one key `k` with `more`.
fn key(more: &str) -> FileKey {
    let mut keys =
        read_text(&format!("[[keys]]\nname = \"k\"\n{HASH}{more}")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(keys.len(), 1);
    keys.remove(0)
}

fn faults(text: &str) -> Vec<String> {
    let faults = read_text(text).expect_err("the file is good");
    faults.to_string().lines().map(|line| line.trim_start_matches("keys.toml:").to_owned()).collect()
}

/// The one fault of the key `k` with `more` on line 4.
#[track_caller]
fn fault(more: &str) -> String {
    let mut faults = faults(&format!("[[keys]]\nname = \"k\"\n{HASH}{more}"));
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn a_key_without_more_is_without_limits() {
    let key = key("");
    assert_eq!(key.policy, KeyPolicy::unlimited(key.policy.id, "k", "sha256:9f86d081"));
    assert_eq!((key.line, key.created_at_ms, key.metadata.len(), key.warnings.len()), (1, None, 0, 0));
    assert_eq!(key.secret_sha256[..2], [0x9f, 0x86]);
}

#[test]
fn every_field_is_read() {
    let key = key("id = \"0198c2d4-7c3a-7d51-8f63-2b1f0a9e4c77\"\norg_id = \"o\"\nteam_id = \"t\"\n\
         models_allowed = [\"gpt-*\"]\nendpoints_allowed = [\"embeddings\"]\nrpm_limit = 60\ntpm_limit = 100_000\n\
         max_parallel = 8\nquota_limit = 5\nquota_reset = \"weekly\"\nallowed_ips = [\"10.0.0.0/8\"]\n\
         expires_at = 1970-01-01T00:00:01Z\ncreated_at = \"1970-01-01T01:00:00+01:00\"\nis_sandbox = true\n\
         on_disconnect = \"drain\"\ndisabled = true\nmetadata = { b = \"2\", a = \"1\" }");
    let policy = key.policy;
    assert_eq!(policy.id.to_string(), "0198c2d4-7c3a-7d51-8f63-2b1f0a9e4c77");
    assert_eq!((policy.org_id.as_deref(), policy.team_id.as_deref()), (Some("o"), Some("t")));
    assert!(policy.models.allows("gpt-4o") && !policy.models.allows("o3"));
    assert!(policy.endpoints.allows(Endpoint::Embeddings) && !policy.endpoints.allows(Endpoint::ChatCompletions));
    assert_eq!(policy.rpm.map(|rpm| rpm.get()), Some(60));
    assert_eq!(policy.tpm.map(|tpm| tpm.get()), Some(100_000));
    assert_eq!(policy.max_parallel.map(|most| most.get()), Some(8));
    assert_eq!(policy.quota, Some(QuotaRule { limit: 5, reset: QuotaReset::Weekly }));
    assert!(policy.allowed_ips.contains("10.1.1.1".parse().unwrap()));
    assert_eq!((policy.expires_at_ms, key.created_at_ms), (Some(1000), Some(0)));
    assert!(policy.is_sandbox && policy.is_disabled);
    assert_eq!(policy.on_disconnect, OnDisconnect::Drain);
    assert_eq!(key.metadata, [("a".into(), "1".into()), ("b".into(), "2".into())]);
}

#[test]
fn the_id_comes_from_the_name_and_outlives_the_secret() {
    let made = key("").policy.id;
    let other = read_text("[[keys]]\nname = \"k\"\nkey = \"env:LONG\"").unwrap().remove(0).policy.id;
    assert_eq!(made, other);
    assert_eq!(made.to_string(), "7dbb57da-0d23-8f54-9f32-90933257fc97");
    assert_eq!((made.0.get_version_num(), made.0.get_variant()), (8, uuid::Variant::RFC4122));
}

#[test]
fn of_a_clear_secret_a_prefix_is_shown_and_of_a_short_one_less() {
    let prefix = |name: &str| {
        let keys = read_text(&format!("[[keys]]\nname = \"k\"\nkey = \"env:{name}\"")).unwrap();
        keys[0].policy.key_prefix.to_string()
    };
    assert_eq!(prefix("LONG"), "sk-kw-3FqZbM");
    assert_eq!(prefix("SHORT"), "8l");
}

#[test]
fn exactly_one_good_secret() {
    let told = |key: &str| faults(&format!("[[keys]]\nname = \"k\"\n{key}")).join("\n");
    assert_eq!(
        told(""),
        "1:1: keys[0].key_hash: is missing: \"sha256:\" and 64 hex digits, as `keyward key hash` prints it, is required \
         (or key, \"env:NAME\")"
    );
    assert_eq!(
        told(&format!("{HASH}key = \"env:LONG\"")),
        "3:12: keys[0].key_hash: is given beside key; exactly one of the two is expected"
    );
    for bad in [
        "S3CRET",
        "sha256:",
        "sha256:9f86",
        "sha512:9f86",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ] {
        assert_eq!(
            told(&format!("key_hash = \"{bad}\"")),
            "3:12: keys[0].key_hash: is not \"sha256:\" and 64 hex digits, as `keyward key hash` prints it"
        );
    }
    for bad in ["TOO_SHORT", "SPACED"] {
        assert_eq!(
            told(&format!("key = \"env:{bad}\"")),
            "3:7: keys[0].key: a secret is 8 to 128 of A-Z a-z 0-9 + - _ / ="
        );
    }
    let keys =
        read_text("[[keys]]\nname = \"a\"\nkey = \"env:LONG\"\n[[keys]]\nname = \"b\"\nkey = \"in-clear\"").unwrap();
    assert!(keys[0].warnings.is_empty());
    assert_eq!(
        keys[1].warnings[0].to_string(),
        "keys.toml:6:7: keys[1].key: the secret stands in this file in clear; \"env:NAME\" or \"file:PATH\" keeps it out"
    );
    assert!(!format!("{keys:?}").contains("in-clear"));
}

#[test]
fn no_two_keys_share_a_name_an_id_or_a_secret() {
    assert_eq!(
        faults(&format!("[[keys]]\nname = \"k\"\n{HASH}[[keys]]\nname = \"k\"\n{HASH}")),
        [
            "5:8: keys[1].name: \"k\" is the name of keys[0] (line 2) already",
            "6:12: keys[1].key_hash: is the same secret as that of keys[0] (line 3)",
        ]
    );
    let id = "id = \"7dbb57da-0d23-8f54-9f32-90933257fc97\"\n";
    let text = format!("[[keys]]\nname = \"k\"\n{HASH}[[keys]]\nname = \"l\"\nkey = \"env:LONG\"\n{id}");
    assert_eq!(
        faults(&text),
        ["7:6: keys[1].id: the id 7dbb57da-0d23-8f54-9f32-90933257fc97 is that of keys[0] (line 2) already"]
    );
    let previous = format!("previous = [{{ {}, until = \"2030-01-01T00:00:00Z\" }}]", HASH.trim_end());
    assert_eq!(fault(&previous), "4:26: keys[0].previous[0].key_hash: is the same secret as that of this key (line 3)");
}

#[test]
fn zero_is_never_unlimited() {
    assert_eq!(fault("rpm_limit = 0"), "4:13: keys[0].rpm_limit: 0 is not a whole number from 1 to 1000000000");
    assert_eq!(fault("tpm_limit = 0"), "4:13: keys[0].tpm_limit: 0 is not a whole number from 1 to 10000000000");
    assert_eq!(fault("max_parallel = 0"), "4:16: keys[0].max_parallel: 0 is not a whole number from 1 to 1000000");
    assert_eq!(
        fault("quota_limit = 0"),
        "4:15: keys[0].quota_limit: 0 is not a whole number from 1 to 9223372036854775807"
    );
    assert_eq!(fault("quota_reset = \"daily\""), "4:15: keys[0].quota_reset: has no meaning without quota_limit");
    assert_eq!(
        fault("quota_limit = 1\nquota_reset = \"hourly\""),
        "5:15: keys[0].quota_reset: \"hourly\" is not one of \"none\", \"daily\", \"weekly\", \"monthly\""
    );
}

#[test]
fn dates_are_moments() {
    assert_eq!(key("expires_at = \"2030-01-01T00:00:00Z\"").policy.expires_at_ms, Some(1_893_456_000_000));
    assert_eq!(key("expires_at = 2030-01-01T02:00:00.5+02:00").policy.expires_at_ms, Some(1_893_456_000_500));
    assert_eq!(key("expires_at = 2016-12-31T23:59:60Z").policy.expires_at_ms, Some(1_483_228_799_000));
    const NO_OFFSET: &str = "has no offset from UTC; end it with a time and \"Z\", as in \"2030-01-01T00:00:00Z\"";
    for bad in ["\"2030-01-01\"", "2030-01-01T00:00:00"] {
        assert_eq!(fault(&format!("expires_at = {bad}")), format!("4:14: keys[0].expires_at: {NO_OFFSET}"));
    }
    for bad in ["\"tomorrow\"", "\"2030-02-30T00:00:00Z\"", "1893456000", "00:00:00"] {
        assert_eq!(
            fault(&format!("expires_at = {bad}")),
            format!("4:14: keys[0].expires_at: {bad} is not a date such as \"2030-01-01T00:00:00Z\"")
        );
    }
}

#[test]
fn former_secrets_have_an_end() {
    let other = HASH.replace("9f86", "0000");
    let other = other.trim_end();
    let key = key(&format!("previous = [{{ {other}, until = 1970-01-01T00:00:01Z }}]"));
    assert_eq!(key.previous.len(), 1);
    assert_eq!((key.previous[0].0[..2].to_vec(), key.previous[0].1), (vec![0, 0], 1000));
    assert_eq!(
        fault(&format!("previous = [{{ {other} }}]")),
        "4:13: keys[0].previous[0].until: is missing: a date such as \"2030-01-01T00:00:00Z\" is required"
    );
}

#[test]
fn the_rest_is_checked_too() {
    assert_eq!(fault("rpm = 5"), "4:1: keys[0].rpm: unknown name; did you mean rpm_limit?");
    assert_eq!(
        fault("models_allowed = \"gpt-4o\""),
        "4:18: keys[0].models_allowed: \"gpt-4o\" is not a list of model names or patterns with \"*\""
    );
    assert_eq!(
        fault("endpoints_allowed = [\"chat\", \"telepathy\"]"),
        "4:30: keys[0].endpoints_allowed[1]: \"telepathy\" is not an endpoint such as \"chat\" or \"/v1/embeddings\""
    );
    assert_eq!(
        fault("allowed_ips = [\"everywhere\"]"),
        "4:16: keys[0].allowed_ips[0]: \"everywhere\" is not an IP address or a prefix such as \"10.0.0.0/8\""
    );
    assert_eq!(fault("id = \"5\""), "4:6: keys[0].id: \"5\" is not a UUID");
    let pairs: Vec<String> = (0..17).map(|n| format!("k{n} = \"v\"")).collect();
    assert_eq!(
        fault(&format!("metadata = {{ {} }}", pairs.join(", "))),
        "4:12: keys[0].metadata: holds more than 16 pairs"
    );
    assert_eq!(fault("metadata = { a = 1 }"), "4:18: keys[0].metadata.a: 1 is not text of 1 to 512 characters");
    let long = "n".repeat(101);
    let text = format!("[[keys]]\nname = \"{long}\"\n{HASH}");
    assert!(faults(&text)[0].ends_with("... is not text of 1 to 100 characters"), "{:?}", faults(&text));
    assert!(read_text(&format!("[[keys]]\nname = \"{}\"\n{HASH}", "ü".repeat(100))).is_ok());
}

#[test]
fn an_empty_file_takes_no_key_away() {
    assert_eq!(faults(""), ["1:1: keys: is missing: [[keys]] entries are required, or keys = [] for none"]);
    assert_eq!(read_text("keys = []").unwrap(), []);
}

/// A file of several parts, of which each key is written by `entry`.
fn large(entry: impl Fn(usize) -> String) -> String {
    (0..6_000).map(|n| format!("[[keys]]\nname = \"k{n}\"\nkey_hash = \"sha256:{n:064x}\"\n{}", entry(n))).collect()
}

fn parts(text: &str) -> Option<Vec<FileKey>> {
    read_in_parts(text, Path::new("keys.toml"), &env)
}

#[test]
fn a_large_file_is_read_in_parts_as_it_is_whole() {
    let text = large(|n| match n % 4 {
        0 => "# a word\n\n[keys.metadata]\nnote = \"\"\"\n [[keys]]\"\"\"\n".to_owned(),
        1 => format!("[[keys.previous]]\nkey_hash = \"sha256:{:064x}\"\nuntil = 2030-01-01T00:00:00Z\n", n + 10_000),
        2 => "models_allowed = [\n  \"gpt-4o*\",\n]\nrpm_limit = 5\n".to_owned(),
        _ => String::new(),
    });
    let whole = read_whole(&text, Path::new("keys.toml"), &env).unwrap();
    assert_eq!(whole.len(), 6_000);
    assert!(parts(&text) == Some(whole), "with the lines on which they stand");
    assert_eq!(parts(&text.replace('\n', "\r\n")).map(|keys| keys.len()), Some(6_000));
    assert!(parts("keys = []").is_none(), "a small one is read whole");
}

#[test]
fn what_is_to_be_said_of_a_large_file_is_said_of_the_whole() {
    let twice = |id: &str, n| if n % 5_999 == 0 { format!("id = \"{id}\"\n") } else { String::new() };
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(
        faults(&large(|n| twice(id, n))),
        [format!("18002:6: keys[5999].id: the id {id} is that of keys[0] (line 4) already")]
    );
    // What looks like an entry stands in a text, wherever the parts would end.
    let text = large(|_| "metadata = { a = \"\"\"\n[[keys]]\n\"\"\" }\n".to_owned());
    assert!(parts(&text).is_none());
    let unknown = large(|n| if n == 5_999 { "rmp_limit = 5\n".to_owned() } else { String::new() });
    assert_eq!(faults(&unknown).len(), 1);
    let warned = large(|n| if n == 5_999 { "key = \"env:LONG\"\n".to_owned() } else { String::new() });
    assert!(parts(&warned).is_none() && read_text(&warned).is_err());
}
