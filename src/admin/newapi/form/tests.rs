//! From a body to a key, and back to the token that is shown of it.

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::super::token::{Token, check_enabling};
use super::*;
use crate::keys::Source;
use crate::policy::{KeyPolicy, KeyStatus};
use crate::store::Mask;
use crate::units::KeyId;

const NOW_MS: i64 = 1_766_102_400_500;

fn view(fields: KeyFields, used: u64) -> KeyView {
    let policy = KeyPolicy {
        quota: fields.quota,
        expires_at_ms: fields.expires_at_ms,
        is_disabled: fields.is_disabled,
        ..KeyPolicy::unlimited(KeyId(Uuid::nil()), "", "")
    };
    KeyView {
        id: policy.id,
        number: 1234,
        prefix: "sk-kw-3FqZbM".into(),
        mask: Mask { head: "sk-kw-3FqZbM".into(), tail: "12345678".into() },
        status: KeyStatus::of(&policy, used, NOW_MS),
        fields,
        quota_used: used,
        quota: None,
        rotate_grace_until_ms: None,
        old_secrets: Vec::new(),
        created_at_ms: NOW_MS,
        updated_at_ms: NOW_MS,
        last_used_at_ms: None,
        source: Source::Api,
        version: 1,
    }
}

fn made(body: Value) -> Result<KeyFields, Refused> {
    let mut fields = KeyFields::named("");
    Form::read(body.to_string().as_bytes())?.apply(&mut fields, None)?;
    Ok(fields)
}

fn changed(key: &KeyView, body: Value) -> Result<KeyView, Refused> {
    let mut fields = key.fields.clone();
    Form::read(body.to_string().as_bytes())?.apply(&mut fields, Some(key))?;
    Ok(view(fields, key.quota_used))
}

fn shown(key: &KeyView) -> Value {
    serde_json::to_value(Token::of(key)).expect("JSON")
}

#[test]
fn the_printed_token_is_made_and_shown_as_printed() {
    let fields = made(json!({
        "name": "production", "expired_time": -1, "remain_quota": 100_000, "unlimited_quota": false,
        "model_limits_enabled": false, "model_limits": "", "allow_ips": null, "group": "", "cross_group_retry": false,
    }));
    let text = serde_json::to_string(&Token::of(&view(fields.expect("a token"), 0))).expect("JSON");
    let printed = r#"{"id":1234,"user_id":1,"key":"sk-k**********5678","status":1,"name":"production","created_time":1766102400,"accessed_time":1766102400,"expired_time":-1,"remain_quota":100000,"unlimited_quota":false,"model_limits_enabled":false,"model_limits":"","allow_ips":null,"used_quota":0,"group":"","cross_group_retry":false}"#;
    assert_eq!(text, printed);
}

#[test]
fn what_is_left_and_what_is_used_is_the_quota() {
    let key = view(made(json!({"name": "a", "remain_quota": 10})).expect("a token"), 4);
    assert_eq!((shown(&key)["remain_quota"].clone(), shown(&key)["used_quota"].clone()), (json!(6), json!(4)));
    let key = changed(&key, json!({"name": "a", "remain_quota": 100, "expired_time": -1})).expect("changed");
    assert_eq!(key.fields.quota, Some(QuotaRule { limit: 104, reset: QuotaReset::None }));
    let unlimited = json!({"name": "a", "remain_quota": -7, "unlimited_quota": true, "expired_time": -1});
    let key = changed(&key, unlimited).expect("changed");
    assert_eq!((key.fields.quota, shown(&key)["remain_quota"].clone()), (None, json!(-7)));
    assert_eq!(shown(&key)["unlimited_quota"], true);
    let zeroed = changed(&key, json!({"name": "a", "expired_time": -1})).expect("changed");
    assert_eq!((zeroed.fields.quota.map(|rule| rule.limit), zeroed.status), (Some(4), KeyStatus::Exhausted));
}

#[test]
fn nothing_used_and_nothing_left_is_exhausted_at_once() {
    let key = view(made(json!({"name": "a"})).expect("a token"), 0);
    assert_eq!((key.fields.quota.map(|rule| rule.limit), key.status), (Some(0), KeyStatus::Exhausted));
    assert_eq!((shown(&key)["remain_quota"].clone(), shown(&key)["status"].clone()), (json!(0), json!(4)));
    assert_eq!(check_enabling(&key, NOW_MS), Err(Refused::Exhausted));
}

#[test]
fn a_quota_that_starts_anew_keeps_doing_so_and_an_overdrawn_one_may_be_sent_back() {
    let rule = QuotaRule { limit: 10, reset: QuotaReset::Monthly };
    let key = view(KeyFields { quota: Some(rule), ..KeyFields::named("a") }, 12);
    assert_eq!(shown(&key)["remain_quota"], -2);
    let same = changed(&key, shown(&key)).expect("as it was shown");
    assert_eq!(same.fields, key.fields);
    let other = changed(&key, json!({"name": "a", "remain_quota": 5, "expired_time": -1})).expect("changed");
    assert_eq!(other.fields.quota, Some(QuotaRule { limit: 17, reset: QuotaReset::Monthly }));
    assert_eq!(changed(&key, json!({"name": "a", "remain_quota": -1})).err(), Some(Refused::QuotaNegative));
    let much = json!({"name": "a", "remain_quota": i64::MAX, "expired_time": -1});
    assert_eq!(changed(&key, much.clone()).err(), Some(Refused::QuotaExceeds(i64::MAX - 12)));
    assert!(made(much).is_ok());
}

#[test]
fn the_end_is_in_seconds_and_zero_is_never_or_long_ago() {
    let end = |body: Value| made(body).map(|fields| fields.expires_at_ms);
    for never in
        [json!({"name": "a"}), json!({"name": "a", "expired_time": 0}), json!({"name": "a", "expired_time": -1})]
    {
        assert_eq!(end(never), Ok(None));
    }
    assert_eq!(end(json!({"name": "a", "expired_time": 1_800_000_000})), Ok(Some(1_800_000_000_000)));
    for bad in [-2, 1_800_000_000_000_i64, i64::MAX, i64::MIN] {
        assert!(matches!(end(json!({"name": "a", "expired_time": bad})), Err(Refused::Invalid(_))), "{bad}");
    }
    let key = view(KeyFields { expires_at_ms: Some(1_800_000_000_123), ..KeyFields::named("a") }, 0);
    assert_eq!(changed(&key, shown(&key)).expect("same").fields.expires_at_ms, Some(1_800_000_000_123));
    let zeroed = changed(&key, json!({"name": "a", "unlimited_quota": true})).expect("changed");
    assert_eq!((zeroed.fields.expires_at_ms, zeroed.status), (Some(0), KeyStatus::Expired));
    assert_eq!(check_enabling(&zeroed, NOW_MS), Err(Refused::Expired));
    assert_eq!(check_enabling(&key, NOW_MS), Ok(()));
}

#[test]
fn a_list_of_models_sleeps_while_it_is_switched_off() {
    let off = made(json!({"name": "a", "model_limits": "gpt-4o, o3", "unlimited_quota": true})).expect("a token");
    assert!(off.models.is_unlimited());
    let off = view(off, 0);
    assert_eq!(shown(&off)["model_limits"], "gpt-4o, o3");
    let mut body = shown(&off);
    body["model_limits_enabled"] = json!(true);
    let on = changed(&off, body).expect("changed");
    assert_eq!(on.fields.models.patterns().collect::<Vec<_>>(), ["gpt-4o", "o3"]);
    assert_eq!(
        (shown(&on)["model_limits"].clone(), on.fields.newapi.dormant_models.clone()),
        (json!("gpt-4o,o3"), None)
    );
    for list in ["", " , ", "gpt 4o"] {
        let body = json!({"name": "a", "model_limits_enabled": true, "model_limits": list});
        assert!(matches!(made(body), Err(Refused::Invalid(why)) if why.starts_with("model_limits")), "{list}");
    }
}

#[test]
fn addresses_are_forgiven_their_commas_and_a_bad_one_is_refused() {
    let lists = |text: Value| made(json!({"name": "a", "allow_ips": text})).map(|fields| fields.allowed_ips.entries());
    assert_eq!(
        lists(json!("10.0.0.0/8\n 192.0.2.1,\r\n2001:db8::/32, ,")),
        Ok(vec!["10.0.0.0/8".into(), "192.0.2.1".into(), "2001:db8::/32".into()])
    );
    assert_eq!((lists(json!(null)), lists(json!(""))), (Ok(Vec::new()), Ok(Vec::new())));
    assert!(matches!(lists(json!("10.0.0.1\nhome")), Err(Refused::Invalid(why)) if why.contains("home")));
}

#[test]
fn lists_are_no_longer_than_those_of_the_native_api() {
    let list = |count: usize, entry: &str, between: &str| vec![entry; count].join(between);
    for (name, entry, between) in [("model_limits", "gpt-4o", ","), ("allow_ips", "10.0.0.1", "\n")] {
        let of = |count| {
            made(
                json!({"name": "a", "model_limits_enabled": name == "model_limits", name: list(count, entry, between)}),
            )
        };
        assert!(of(MOST_ENTRIES).is_ok(), "{name}");
        assert!(matches!(of(MOST_ENTRIES + 1), Err(Refused::Invalid(why)) if why.starts_with(name)), "{name}");
    }
}

#[test]
fn names_have_50_bytes_unless_they_are_sent_back() {
    let of = |name: &str| made(json!({"name": name})).err();
    assert_eq!((of(&"a".repeat(50)), of(&"名".repeat(16))), (None, None));
    assert_eq!((of(&"a".repeat(51)), of(&"名".repeat(17))), (Some(Refused::NameTooLong), Some(Refused::NameTooLong)));
    assert_eq!(of(""), Some(Refused::NameEmpty));
    assert!(matches!(of("a\nb"), Some(Refused::Invalid(_))));
    let key = view(KeyFields::named(&"a".repeat(100)), 0);
    assert_eq!(changed(&key, shown(&key)).map(|key| key.fields), Ok(key.fields.clone()));
}

#[test]
fn a_member_of_another_type_is_named_and_an_unknown_one_is_passed_over() {
    for (body, name) in [
        (json!({"remain_quota": "5"}), "remain_quota"),
        (json!({"remain_quota": 1.5}), "remain_quota"),
        (json!({"name": 5}), "name"),
        (json!({"unlimited_quota": 1}), "unlimited_quota"),
        (json!({"allow_ips": ["10.0.0.1"]}), "allow_ips"),
        (json!({"id": true}), "id"),
    ] {
        assert!(matches!(made(body), Err(Refused::Invalid(why)) if why.starts_with(name)), "{name}");
    }
    assert!(made(json!({"name": "a", "user_id": 7, "key": "mine", "billing_type": {}})).is_ok());
    for body in ["", "[]", "null", "{", "\u{feff}{}"] {
        assert!(Form::read(body.as_bytes()).is_err() && read_ids(body.as_bytes()).is_err(), "{body}");
    }
    assert_eq!(read_ids(br#"{"ids":[3,1,3]}"#), Ok(vec![3, 1, 3]));
    for body in [r#"{"ids":[]}"#, r#"{"ids":["1"]}"#, r#"{"ids":1}"#, "{}"] {
        assert!(read_ids(body.as_bytes()).is_err(), "{body}");
    }
    let status = |status: i64| Form { status, ..Form::default() }.is_enabled();
    assert_eq!((status(1), status(2)), (Ok(true), Ok(false)));
    assert!([0, 3, 4, -1].into_iter().all(|other| status(other).is_err()));
}

fn any_member() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~\\n]{0,60}".prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn a_token_that_is_sent_back_as_shown_stays_as_it_is(
        limit in prop::option::of(0..=KeyFields::MOST_QUOTA), used in 0..=KeyFields::MOST_QUOTA,
        end in prop::option::of(0..=LATEST_MS), models in prop::collection::vec("[a-z0-9*.:/-]{1,12}", 0..3),
        name in "[^\\pC]{1,60}", group in "[a-z]{0,8}",
    ) {
        let globs = models.iter().filter_map(|model| Glob::new(model)).collect();
        let mut fields = KeyFields {
            quota: limit.map(|limit| QuotaRule { limit, reset: QuotaReset::Daily }),
            expires_at_ms: end,
            models: ModelRules::new(globs),
            ..KeyFields::named(&name)
        };
        fields.newapi.group = group.into();
        let key = view(fields, used);
        let after = changed(&key, shown(&key)).map(|key| key.fields);
        prop_assert_eq!(after, Ok(key.fields.clone()));
    }

    #[test]
    fn no_body_makes_it_panic(values in prop::collection::vec(any_member(), 11), used in any::<u64>()) {
        let names = ["id", "status", "name", "expired_time", "remain_quota", "unlimited_quota", "model_limits_enabled",
            "model_limits", "allow_ips", "group", "cross_group_retry"];
        let body = Value::Object(names.into_iter().map(str::to_owned).zip(values).collect());
        let _ = made(body.clone());
        let _ = changed(&view(KeyFields::named("a"), used), body);
    }
}
