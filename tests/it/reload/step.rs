//! One step or none.

use keyward::keys::change::{KeyChange, KeyRecord, Source};
use keyward::policy::KeyPolicy;
use keyward::units::KeyId;
use uuid::Uuid;

use super::*;

const ONE: &str = "reload-secret-one";
const TWO: &str = "reload-secret-two";
const THREE: &str = "reload-secret-three";
const FOUR: &str = "reload-secret-four";

async fn holders(filed: &Filed) -> [Option<String>; 4] {
    let mut all = [const { None }; 4];
    for (at, secret) in [ONE, TWO, THREE, FOUR].into_iter().enumerate() {
        all[at] = filed.holder(secret).await;
    }
    all
}

fn names(names: [&str; 4]) -> [Option<String>; 4] {
    names.map(|name| (!name.is_empty()).then(|| name.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_may_change_hands_in_any_way_in_one_reload() {
    let backend = Backend::json("{}");
    let filed = Filed::start(&backend, &keys(&[("a", ONE), ("b", TWO), ("c", THREE)]));
    assert_eq!(holders(&filed).await, names(["a", "b", "c", ""]));
    for (what, file, expected) in [
        ("a swap", keys(&[("a", TWO), ("b", ONE), ("c", THREE)]), ["b", "a", "c", ""]),
        ("a ring", keys(&[("a", ONE), ("b", THREE), ("c", TWO)]), ["a", "c", "b", ""]),
        ("another name for a secret", keys(&[("a", ONE), ("renamed", THREE), ("c", TWO)]), ["a", "c", "renamed", ""]),
        ("a new secret here, the old one there", keys(&[("a", FOUR), ("d", ONE), ("c", TWO)]), ["d", "c", "", "a"]),
        ("two keys go and a third takes both places", keys(&[("c", ONE), ("e", FOUR)]), ["c", "", "", "e"]),
        ("everybody goes", keys(&[]), ["", "", "", ""]),
        ("everybody is back", keys(&[("a", ONE), ("b", TWO), ("c", THREE)]), ["a", "b", "c", ""]),
    ] {
        assert_eq!(filed.reload_with(&file), Ok(()), "{what}");
        assert_eq!(holders(&filed).await, names(expected), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_file_changes_nothing_of_what_it_would_have_changed() {
    let backend = Backend::json("{}");
    let filed = Filed::start(&backend, &keys(&[("a", ONE), ("b", TWO), ("c", THREE)]));
    // A key of the admin API has the fourth secret, which no file can know.
    let policy = KeyPolicy::unlimited(KeyId(Uuid::from_u128(4)), "of-the-api", "p");
    let current = filed.proxy.plane.digester.digest(FOUR.as_bytes());
    let record = KeyRecord { policy, current, previous: Vec::new(), source: Source::Api };
    filed.proxy.plane.keys.apply(KeyChange::Put(Box::new(record))).expect("a free secret");
    let before = holders(&filed).await;
    // All of it could be done but for the last key.
    let file = keys(&[("a", TWO), ("b", ONE), ("new", "reload-secret-new"), ("thief", FOUR)]);
    let refused = filed.reload_with(&file).expect_err("the secret is taken");
    assert!(refused.len() == 1 && refused[0].contains("keys.toml"), "{refused:?}");
    assert_eq!(filed.reloader.faults(), Some(refused));
    assert_eq!(holders(&filed).await, before);
    assert_eq!(filed.holder("reload-secret-new").await, None);
    assert_eq!(filed.proxy.plane.keys.len(), 4);
    // The next file is compared with what is in force, not with the one that was refused.
    assert_eq!(filed.reload_with(&keys(&[("a", TWO), ("b", ONE)])), Ok(()));
    assert_eq!(holders(&filed).await, names(["b", "a", "", "of-the-api"]));
    assert_eq!(filed.reloader.faults(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_both_files_is_told_by_file_line_and_path() {
    let backend = Backend::json("{}");
    let filed = Filed::start(&backend, &keys(&[("a", ONE)]));
    fs::write(
        filed.path("keyward.toml"),
        format!("keys_file = \"keys.toml\"\nbogus = 1\n{}\n[limits]\nquota_status = 418\n", filed.config),
    )
    .expect("written");
    let bad_keys = "[[keys]]\nname = \"a\"\nkey = \"reload-secret-two\"\nrpm_limit = 0\n[[keys]]\nname = \"b\"\n";
    let faults = filed.reload_with(bad_keys).expect_err("both files are bad");
    let line_of = |text: &str| {
        let config = fs::read_to_string(filed.path("keyward.toml")).expect("read");
        config.lines().position(|line| line.starts_with(text)).expect("a line") + 1
    };
    let expected = [
        format!("keyward.toml:{}:1: bogus: ", line_of("bogus")),
        format!("keyward.toml:{}:16: limits.quota_status: ", line_of("quota_status")),
        "keys.toml:4:13: keys[0].rpm_limit: ".to_owned(),
        "keys.toml:5:1: keys[1].key_hash: ".to_owned(),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(&expected), "{fault} is not {expected}");
    }
    assert_eq!(filed.reloader.faults(), Some(faults));
    assert_eq!((filed.holder(ONE).await.as_deref(), filed.holder(TWO).await), (Some("a"), None));
    // Where the configuration does not say any more which file it is, the one known is read.
    fs::write(filed.path("keyward.toml"), "= =").expect("written");
    let faults = filed.reload().expect_err("still bad");
    let of_keys = faults.iter().filter(|fault| fault.contains("keys.toml:")).count();
    assert!(of_keys == 2 && faults[0].contains("keyward.toml:1:1: not TOML"), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_that_matter_are_known_after_each_reload() {
    let backend = Backend::json("{}");
    let filed = Filed::start(&backend, &keys(&[("a", ONE)]));
    let files = |names: &[&str]| names.iter().map(|name| filed.path(name)).collect::<Vec<_>>();
    assert_eq!(filed.reloader.files(), files(&["keyward.toml", "keys.toml"]));
    let name = |file: &str| {
        let config = filed.config.clone();
        fs::write(filed.path("keyward.toml"), format!("keys_file = \"{file}\"\n{config}")).expect("written");
    };
    name("other.toml");
    let faults = filed.reload().expect_err("the other file is not there");
    assert!(faults.len() == 1 && faults[0].contains("other.toml: cannot be read"), "{faults:?}");
    assert_eq!(filed.reloader.files(), files(&["keyward.toml", "keys.toml", "other.toml"]), "either may put it right");
    fs::write(filed.path("other.toml"), keys(&[("a", TWO)])).expect("written");
    assert_eq!(filed.reload(), Ok(()));
    assert_eq!(filed.reloader.files(), files(&["keyward.toml", "other.toml"]));
    assert_eq!((filed.holder(ONE).await, filed.holder(TWO).await.as_deref()), (None, Some("a")));
    fs::write(filed.path("keyward.toml"), &filed.config).expect("written");
    assert_eq!(filed.reload(), Ok(()));
    assert_eq!((filed.reloader.files(), filed.holder(TWO).await), (files(&["keyward.toml"]), None));
}
