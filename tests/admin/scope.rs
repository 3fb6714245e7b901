//! A bound operator neither sees nor changes nor grants anything outside of its bounds, whatever is tried.

use std::collections::BTreeMap;

use keyward::admin::service::{IfMatch, KeyFields, KeyView, ListQuery, NewKey, Rotation, ServiceFault};
use keyward::admin::{Role, Scope};
use keyward::keys::{KeyRecord, Source};
use keyward::store::{AuditQuery, GroupBy, KeyFilter, KeyRef, Order, PageFrom, UsageQuery};
use keyward::units::KeyId;
use proptest::prelude::*;
use serde_json::json;

use crate::house::{ACME, BLUE, House, caller};

type Owner = (Option<&'static str>, Option<&'static str>);

fn name() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))]
}

fn owner() -> impl Strategy<Value = Owner> {
    (name(), name())
}

#[derive(Debug, Clone)]
enum Call {
    Create(Owner),
    Move(usize, Owner),
    Rename(usize),
    Disable(usize),
    Rotate(usize),
    EndGrace(usize),
    Delete(usize),
    Get(usize),
    GetByNumber(usize),
    List(Owner, bool),
    Audit(Owner),
    Usage(Owner),
    Explain(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let key = 0_usize..8;
    prop_oneof![
        owner().prop_map(Call::Create),
        (key.clone(), owner()).prop_map(|(key, owner)| Call::Move(key, owner)),
        key.clone().prop_map(Call::Rename),
        key.clone().prop_map(Call::Disable),
        key.clone().prop_map(Call::Rotate),
        key.clone().prop_map(Call::EndGrace),
        key.clone().prop_map(Call::Delete),
        key.clone().prop_map(Call::Get),
        key.clone().prop_map(Call::GetByNumber),
        (owner(), any::<bool>()).prop_map(|(owner, by_number)| Call::List(owner, by_number)),
        owner().prop_map(Call::Audit),
        owner().prop_map(Call::Usage),
        key.prop_map(Call::Explain),
    ]
}

fn fields(name: &str, (org, team): Owner) -> KeyFields {
    KeyFields { org_id: org.map(Into::into), team_id: team.map(Into::into), ..KeyFields::named(name) }
}

/// Every key, as nobody who is bound sees it.
fn everything(house: &House) -> BTreeMap<KeyId, KeyRecord> {
    let mut all = BTreeMap::new();
    house.store.load_keys(&mut |key| drop(all.insert(key.record.policy.id, key.record))).expect("readable");
    all
}

fn is_inside(scope: &Scope, record: &KeyRecord) -> bool {
    scope.sees(record.policy.org_id.as_deref(), record.policy.team_id.as_deref())
}

fn owner_of(view: &KeyView) -> (Option<&str>, Option<&str>) {
    (view.fields.org_id.as_deref(), view.fields.team_id.as_deref())
}

fn is_shown_inside(scope: &Scope, view: &KeyView) {
    let (org, team) = owner_of(view);
    assert!(scope.sees(org, team), "{scope:?} was shown {view:?}");
}

fn named(ids: &[KeyId], at: usize) -> KeyRef {
    KeyRef::Id(ids.get(at % ids.len()).copied().unwrap_or(KeyId(uuid::Uuid::max())))
}

/// Makes a call as a bound operator; what it is shown must be inside.
async fn act(house: &House, who: &keyward::admin::service::Caller, ids: &[KeyId], call: Call) {
    let service = &house.service;
    let scope = who.operator.scope.clone();
    let id = |at: usize| named(ids, at);
    let inside = |view: &KeyView| is_shown_inside(&scope, view);
    let always = IfMatch::Always;
    match call {
        Call::Create(owner) => {
            let new = NewKey { fields: fields("made", owner), secret: None };
            if let Ok(made) = service.create(who, new).await {
                inside(&made.view);
                let bound = |bound: &Option<Box<str>>, asked: Option<&str>, got: Option<&str>| match asked {
                    Some(asked) => got == Some(asked),
                    None => got == bound.as_deref(),
                };
                let (org, team) = owner_of(&made.view);
                assert!(bound(&scope.org_id, owner.0, org) && bound(&scope.team_id, owner.1, team));
                assert!(scope.org_id.is_some() || org.is_none(), "a team's operator grants no organisation");
            }
        }
        Call::Move(at, (org, team)) => {
            let edit = move |fields: &mut KeyFields, _: &KeyView| {
                (fields.org_id, fields.team_id) = (org.map(Into::into), team.map(Into::into));
                Ok::<_, ServiceFault>(())
            };
            if let Ok(view) = service.edit(who, id(at), always, "key.update", edit).await {
                inside(&view);
            }
        }
        Call::Rename(at) => {
            let edit = |fields: &mut KeyFields, _: &KeyView| {
                fields.name = format!("{}x", fields.name).chars().take(20).collect::<String>().into();
                Ok::<_, ServiceFault>(())
            };
            if let Ok(view) = service.edit(who, id(at), always, "key.update", edit).await {
                inside(&view);
            }
        }
        Call::Disable(at) => drop(service.set_disabled(who, id(at), always, true).await.map(|view| inside(&view))),
        Call::Rotate(at) => {
            let rotated = service.rotate(who, id(at), always, Rotation::default()).await;
            drop(rotated.map(|made| inside(&made.view)));
        }
        Call::EndGrace(at) => drop(service.end_grace(who, id(at), always).await.map(|view| inside(&view))),
        Call::Delete(at) => drop(service.delete(who, id(at), always).await),
        looks => look(house, who, ids, looks).await,
    }
}

/// The same for calls that only look.
async fn look(house: &House, who: &keyward::admin::service::Caller, ids: &[KeyId], call: Call) {
    let service = &house.service;
    let scope = who.operator.scope.clone();
    let id = |at: usize| named(ids, at);
    let inside = |view: &KeyView| is_shown_inside(&scope, view);
    match call {
        Call::Get(at) => drop(service.get(who, id(at)).await.map(|view| inside(&view))),
        Call::GetByNumber(at) => {
            let number = i64::try_from(at).unwrap_or(0) + 1;
            drop(service.get(who, KeyRef::Number(number)).await.map(|view| inside(&view)));
        }
        Call::List((org, team), by_number) => {
            let filter =
                KeyFilter { org_id: org.map(Into::into), team_id: team.map(Into::into), ..KeyFilter::default() };
            let order = if by_number { Order::NumberDescending } else { Order::NewestFirst };
            let query = ListQuery { filter, order, from: PageFrom::Offset(0), limit: 100 };
            let listing = service.list(who, query).await.expect("the store answers");
            listing.keys.iter().for_each(inside);
            let visible = everything(house).values().filter(|record| is_inside(&scope, record)).count();
            assert!(listing.total <= visible as u64, "the total tells of no others");
        }
        Call::Audit(owner) => look_at_the_audit(house, who, owner).await,
        Call::Usage((org, team)) => {
            let query = UsageQuery {
                from_ms: 0,
                to_ms: i64::MAX / 2,
                group_by: GroupBy::Key,
                key: None,
                team_id: team.map(Into::into),
                org_id: org.map(Into::into),
            };
            assert!(service.usage(who, query).await.expect("the store answers").is_empty(), "nothing was used");
        }
        Call::Explain(at) => {
            let probe = keyward::admin::service::Probe {
                model: None,
                endpoint: keyward::policy::Endpoint::ChatCompletions,
                address: None,
                prompt_tokens: 1,
                max_output: None,
            };
            let KeyRef::Id(key) = id(at) else { return };
            let is_visible = everything(house).get(&key).is_some_and(|record| is_inside(&scope, record));
            assert_eq!(service.explain(who, id(at), probe).await.is_ok(), is_visible);
        }
        _ => unreachable!("changes are made elsewhere"),
    }
}

/// What is told of changes must be inside too, before and after.
async fn look_at_the_audit(house: &House, who: &keyward::admin::service::Caller, (org, team): Owner) {
    let (service, scope) = (&house.service, &who.operator.scope);
    let query = AuditQuery {
        org_id: org.map(Into::into),
        team_id: team.map(Into::into),
        limit: 1_000,
        ..AuditQuery::default()
    };
    let page = service.audit(who, query).await.expect("the store answers");
    for row in page.entries {
        assert!(scope.sees(row.org_id.as_deref(), row.team_id.as_deref()), "{row:?}");
        for part in [row.before, row.after].into_iter().flatten() {
            let told: serde_json::Value = serde_json::from_str(&part).expect("JSON");
            let foreign = |name: &str, bound: &Option<Box<str>>| {
                let bound = bound.as_deref();
                bound.is_some_and(|bound| told[name].as_str().is_some_and(|told| told != bound))
            };
            assert!(!foreign("org_id", &scope.org_id) && !foreign("team_id", &scope.team_id), "{told}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_is_seen_changed_or_granted(
        bounds in (name(), name()).prop_filter("bound", |(org, team)| org.is_some() || team.is_some()),
        owners in prop::collection::vec(owner(), 1..6),
        calls in prop::collection::vec(call(), 1..16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let house = House::start().await;
            let all = caller("ops", Role::Write, Scope::default());
            let mut ids = Vec::new();
            for (at, owner) in owners.into_iter().enumerate() {
                let new = NewKey { fields: fields(&format!("key {at}"), owner), secret: None };
                ids.push(house.service.create(&all, new).await.expect("made").view.id);
            }
            let scope = Scope { org_id: bounds.0.map(Into::into), team_id: bounds.1.map(Into::into) };
            let who = caller("bound", Role::Write, scope.clone());
            for call in calls {
                let before = everything(&house);
                act(&house, &who, &ids, call.clone()).await;
                let after = everything(&house);
                for (id, record) in &before {
                    if !is_inside(&scope, record) {
                        assert_eq!(after.get(id), Some(record), "{call:?} changed what is outside");
                    }
                }
                for (id, record) in &after {
                    let was_there = before.contains_key(id);
                    assert!(is_inside(&scope, record) || (was_there && !is_inside(&scope, &before[id])), "{call:?} granted");
                    let in_force = house.keys.get(*id).map(|entry| entry.policy());
                    assert_eq!(in_force.as_deref(), Some(&record.policy), "{call:?}: store and table disagree");
                    assert_eq!(record.source, Source::Api);
                }
                ids.extend(after.keys().filter(|id| !before.contains_key(id)));
            }
        });
    }
}

#[tokio::test]
async fn foreign_and_unknown_keys_are_the_same_404() {
    let house = House::start().await;
    let key = house.made(json!({ "name": "red", "team_id": "red" })).await;
    let id = key["id"].as_str().expect("an id");
    let foreign = house.call_as(BLUE, "GET", &format!("keys/{id}"), None).await;
    let unknown = house.call_as(BLUE, "GET", &format!("keys/{}", uuid::Uuid::max()), None).await;
    assert_eq!((foreign.status, &foreign.body), (404, &unknown.body));
    assert_eq!(house.call_as(BLUE, "GET", &format!("keys/{id}/usage"), None).await.status, 404);
}

#[tokio::test]
async fn an_application_of_another_team_is_the_same_404_as_none() {
    let house = House::start().await;
    house.made(json!({ "name": "red", "team_id": "red", "org_id": "apig/p/i/red" })).await;
    house.made(json!({ "name": "blue", "team_id": "blue", "org_id": "apig/p/i/blue" })).await;
    let list = async |app: &str| {
        let path = format!("/v2/p/apigw/instances/i/apps/{app}/ai-api-keys");
        let answer = house.raw("GET", &path, &[&format!("x-auth-token: {BLUE}")], "").await;
        (answer.status, answer.text().replace(app, "APP"))
    };
    let (status, said) = list("none").await;
    assert_eq!((status, list("red").await), (404, (404, said)));
    assert_eq!(list("blue").await.0, 200);
}

#[tokio::test]
async fn what_a_bound_operator_makes_is_inside() {
    let house = House::start().await;
    let post = async |token: &str, body| house.call_as(token, "POST", "keys", Some(body)).await;
    let made = post(BLUE, json!({ "name": "k" })).await.json();
    assert_eq!((&made["team_id"], &made["org_id"]), (&json!("blue"), &json!(null)));
    for (token, body, status) in [
        (BLUE, json!({ "name": "k", "team_id": "red" }), 403),
        (BLUE, json!({ "name": "k", "org_id": "acme" }), 403),
        (BLUE, json!({ "name": "k", "team_id": "blue" }), 201),
        (ACME, json!({ "name": "k", "team_id": "any" }), 201),
        (ACME, json!({ "name": "k", "org_id": "other" }), 403),
        (ACME, json!({ "name": "k", "org_id": null }), 201),
    ] {
        assert_eq!(post(token, body.clone()).await.status, status, "{body}");
    }
    let path = format!("keys/{}", made["id"].as_str().expect("an id"));
    for body in [json!({ "team_id": "red" }), json!({ "team_id": null }), json!({ "org_id": "acme" })] {
        assert_eq!(house.call_as(BLUE, "PUT", &path, Some(body)).await.status, 403);
    }
    assert_eq!(house.call_as(BLUE, "PUT", &path, Some(json!({ "name": "renamed" }))).await.status, 200);
}

#[tokio::test]
async fn a_key_that_moves_tells_each_side_what_concerns_it() {
    let house = House::start().await;
    let key = house.made(json!({ "name": "first", "org_id": "umbrella", "team_id": "red" })).await;
    let path = format!("keys/{}", key["id"].as_str().expect("an id"));
    let moved = json!({ "org_id": "acme", "team_id": "blue", "name": "second" });
    assert_eq!(house.call("PUT", &path, Some(moved)).await.status, 200);
    for token in [BLUE, ACME] {
        let told = house.call_as(token, "GET", "audit", None).await;
        let items = told.json();
        assert_eq!(items["items"].as_array().map(Vec::len), Some(1), "{items}");
        assert_eq!(
            (&items["items"][0]["before"], &items["items"][0]["after"]["name"]),
            (&json!(null), &json!("second"))
        );
        let foreign = ["umbrella", "red", "first"].map(|word| told.text().contains(&format!("\"{word}\"")));
        assert_eq!(foreign, [false; 3], "{}", told.text());
    }
    let all = house.call("GET", "audit?action=key.update", None).await.json();
    let sides: Vec<_> = all["items"].as_array().expect("items").iter().map(|item| item["team_id"].clone()).collect();
    assert_eq!(sides, [json!("blue"), json!("red")]);
    assert_eq!(all["items"][1]["before"]["name"], "first");
}
