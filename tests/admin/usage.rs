//! What was used, told as JSON, CSV and figures; and why a request would be refused.

use keyward::limits::QuotaCount;
use keyward::policy::{DialectName, Endpoint, Usage};
use keyward::store::{Entry, JournalSlice, Outcome, UsageBatch, Write};
use keyward::units::KeyId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::house::{House, START_MS, WRITER};

fn entry(key: KeyId, model: &str, outcome: Outcome, units: u64) -> Entry {
    Entry {
        request_id: "r".into(),
        at_unix_ms: START_MS + 1_000,
        key,
        previous_secret: None,
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        model: model.into(),
        outcome,
        reason: if outcome == Outcome::Refused { "rpm_limit".into() } else { "".into() },
        status: 200,
        usage: Usage { input: 10, output: 5, ..Usage::default() },
        units,
        since_day: QuotaCount::NEVER,
        touched_day: 20_454,
        first_byte_us: 1_500,
        duration_us: 3_000,
        requests: 1,
    }
}

async fn used(house: &House) -> (Value, KeyId) {
    let made = house.made(json!({ "name": "=cmd", "team_id": "blue" })).await;
    let id = KeyId(made["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"));
    let entries = [
        entry(id, "gpt-4o", Outcome::Answered, 30),
        entry(id, "gpt-4o-mini", Outcome::Answered, 10),
        entry(id, "gpt-4o", Outcome::Fault, 0),
        entry(id, "gpt-4o", Outcome::Refused, 0),
    ];
    let entries = (1..).zip(entries).collect();
    let slice = JournalSlice { journal: Uuid::from_u128(1), entries, is_last: false };
    house.store.write(Write::Usage(UsageBatch { slices: vec![slice] })).expect("written");
    house.later(60);
    (made, id)
}

#[tokio::test]
async fn usage_is_summed_up_as_asked() {
    let house = House::start().await;
    let (_, id) = used(&house).await;
    let by_model = house.call("GET", "usage?group_by=model", None).await.json();
    assert_eq!(by_model["group_by"], "model");
    let row = by_model["items"].as_array().expect("rows").iter().find(|row| row["group"] == "gpt-4o").expect("its row");
    assert_eq!(
        (&row["requests"], &row["refusals"], &row["errors"], &row["units"]),
        (&json!(3), &json!({ "rpm_limit": 1 }), &json!(1), &json!(30))
    );
    assert!(row["first_byte_p50_ms"].as_f64().is_some_and(|ms| (1.0..3.0).contains(&ms)), "{row}");
    let total = house.call("GET", &format!("keys/{id}/usage?group_by=total"), None).await.json();
    assert_eq!((&total["items"][0]["units"], &total["items"][0]["requests"]), (&json!(40), &json!(4)));
    // Summed by hours: the answer says which of them it counts.
    let within = "usage?group_by=total&from=2025-12-31T23:20:00.5Z&to=2026-01-01T00:00:01Z";
    let hours = house.call("GET", within, None).await.json();
    assert_eq!((&hours["from"], &hours["to"]), (&json!("2025-12-31T23:00:00Z"), &json!("2026-01-01T01:00:00Z")));
    let whole = "usage?group_by=total&from=2025-12-31T23:00:00Z&to=2026-01-01T00:00:00Z";
    let hours = house.call("GET", whole, None).await.json();
    assert_eq!((&hours["from"], &hours["to"]), (&json!("2025-12-31T23:00:00Z"), &json!("2026-01-01T00:00:00Z")));
    let none = house.call("GET", "usage?group_by=total&from=2030-01-01&to=2029-01-01", None).await.json();
    assert_eq!(none["items"], json!([]));
    assert!(
        house.backstage.flushes.load(std::sync::atomic::Ordering::SeqCst) >= 2,
        "what was settled is brought in first"
    );

    house.call("DELETE", &format!("keys/{id}"), None).await;
    let gone = house.call("GET", &format!("keys/{id}/usage?group_by=total"), None).await;
    assert_eq!((gone.status, &gone.json()["items"][0]["units"]), (200, &json!(40)), "its usage stays");
    let never = house.call("GET", &format!("keys/{}/usage", Uuid::from_u128(9)), None).await;
    assert_eq!(never.status, 404);
}

#[tokio::test]
async fn a_spreadsheet_gets_csv_without_formulas() {
    let house = House::start().await;
    let (_, id) = used(&house).await;
    let login = format!("authorization: Bearer {WRITER}");
    let csv = house.raw("GET", "usage?group_by=key", &[&login, "accept: text/csv"], "").await;
    assert!(csv.header("content-type").is_some_and(|kind| kind.starts_with("text/csv")));
    let text = csv.text();
    let lines: Vec<_> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("group,name,requests,refused,errors"));
    assert!(lines[1].starts_with(&format!("{id},\"'=cmd\",4,1,1,")), "{text}");
}

#[tokio::test]
async fn figures_for_people_have_aiones_names() {
    let house = House::start().await;
    let (made, _) = used(&house).await;
    let figures = house.call("GET", "usage/dashboard?top=1", None).await.json();
    assert_eq!(figures["totals"]["units"], 40);
    assert_eq!(figures["daily_trend"][0]["date"], "2026-01-01");
    let model = &figures["model_distribution"][0];
    assert_eq!((&model["model"], &model["share"]), (&json!("gpt-4o"), &json!(0.75)));
    assert_eq!((&figures["team_cost"][0]["team_id"], &figures["team_cost"][0]["share"]), (&json!("blue"), &json!(1.0)));
    assert_eq!((&figures["top_keys"][0]["key_id"], &figures["top_keys"][0]["name"]), (&made["id"], &json!("=cmd")));
}

#[tokio::test]
async fn an_explanation_names_every_check_and_takes_nothing() {
    let house = House::start().await;
    let made = house
        .made(json!({
            "name": "k", "team_id": "blue", "models_allowed": ["gpt-4o*"], "endpoints_allowed": ["chat"], "allowed_ips": ["10.0.0.0/8"],
            "rpm_limit": 1, "tpm_limit": 1000, "max_parallel": 1, "quota_limit": 600,
        }))
        .await;
    let path = format!("keys/{}/explain", made["id"].as_str().expect("an id"));
    let ask = async |body: Value| house.call("POST", &path, Some(body)).await.json();
    let good = json!({ "model": "gpt-4o", "client_ip": "10.1.1.1", "prompt_tokens": 100, "max_output": 100 });
    for _ in 0..3 {
        let found = ask(good.clone()).await;
        assert_eq!((&found["admitted"], &found["refused_by"]), (&json!(true), &Value::Null), "{found}");
        let names: Vec<_> =
            found["checks"].as_array().expect("checks").iter().map(|check| check["check"].clone()).collect();
        assert_eq!(
            names,
            ["status", "address", "endpoint", "model", "upstream", "quota", "parallel", "tokens", "requests"]
        );
        let quota = &found["checks"][5];
        assert_eq!(
            (&quota["limit"], &quota["used"], &quota["remaining"], &quota["asked"]),
            (&json!(600), &json!(0), &json!(600), &json!(200))
        );
        assert_eq!(found["checks"][8]["remaining"], 1);
    }
    for (change, by, reason) in [
        (json!({ "client_ip": "11.0.0.1" }), "address", "ip_not_allowed"),
        (json!({ "endpoint": "/v1/embeddings" }), "endpoint", "endpoint_not_allowed"),
        (json!({ "model": "o3" }), "model", "model_not_allowed"),
        (json!({ "model": "gpt-4o", "prompt_tokens": 1001 }), "quota", "insufficient_quota"),
    ] {
        let found = ask(change.clone()).await;
        assert_eq!((&found["admitted"], &found["refused_by"]), (&json!(false), &json!(by)), "{change}: {found}");
        let check = found["checks"].as_array().expect("checks").iter().find(|check| check["check"] == by).expect("it");
        assert_eq!(check["reason"], reason);
    }
    let clamped = ask(json!({ "model": "gpt-4o", "prompt_tokens": 100, "max_output": 800 })).await;
    assert_eq!((&clamped["admitted"], &clamped["checks"][5]["verdict"]), (&json!(true), &json!("clamp")));
    assert_eq!(clamped["checks"][7]["asked"], 600, "what the quota covers is what tokens are taken for: {clamped}");
    assert_eq!(ask(json!({})).await["admitted"], true);
    let names = |found: &Value| found["checks"][4]["message"].as_str().is_some_and(|message| message.contains("main"));
    assert!(names(&ask(good.clone()).await));
    let bound = house.call_as(crate::house::BLUE, "POST", &path, Some(good.clone())).await.json();
    assert!(bound["admitted"] == true && !names(&bound), "upstreams concern nobody who is bound: {bound}");
    house.call("PUT", &path.replace("/explain", "/disable"), None).await;
    assert_eq!(ask(good).await["refused_by"], "status");
}
