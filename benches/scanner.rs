//! What describing a body costs: the scan, the facts and the estimate.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keyward::dialect::describe::{BodyInput, Edits, describe};
use keyward::dialect::estimate::Estimator;
use keyward::policy::{DialectName, Endpoint};

/// 1.2 KB, as an SDK sends a short conversation.
fn chat() -> Bytes {
    let turn = |role: &str, text: &str| format!(r#"{{"role":"{role}","content":"{text}"}}"#);
    let text = "The quick brown fox jumps over the lazy dog and runs away.\\n".repeat(4);
    let turns = [turn("system", "You are brief."), turn("user", &text), turn("assistant", &text), turn("user", &text)];
    let options = r#""temperature":0.7,"top_p":1,"max_tokens":256,"stream":true,"user":"u-1""#;
    let body = format!(r#"{{"messages":[{}],"model":"gpt-4o-mini",{options}}}"#, turns.join(","));
    let padding = "x".repeat(1_200_usize.saturating_sub(body.len() + 16));
    Bytes::from(body.replacen('{', &format!(r#"{{"metadata":"{padding}","#), 1))
}

/// 127 KB, as a coding agent sends it: tools, code with escapes, the model first and `stream` last.
fn agent() -> Bytes {
    let code = "    if let Some(value) = map.get(\\\"key\\\") {\\n        return value.clone();\\n    }\\n";
    let tool = r#"{"name":"Edit","description":"Replaces text in a file.","input_schema":{"type":"object","properties":{"path":{"type":"string"},"old":{"type":"string"}},"required":["path"]}}"#;
    let tools = vec![tool; 60].join(",");
    let messages = format!(r#"{{"role":"user","content":[{{"type":"text","text":"{}"}}]}}"#, code.repeat(1_350));
    Bytes::from(format!(
        r#"{{"model":"claude-sonnet-4-5","messages":[{messages}],"tools":[{tools}],"max_tokens":32000,"stream":true}}"#
    ))
}

/// 1 MB, nearly all of it one image.
fn image() -> Bytes {
    let data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ".repeat(1_000_000 / 44);
    Bytes::from(format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
    ))
}

fn bodies(criterion: &mut Criterion) {
    let estimator = Estimator::new(512);
    let mut group = criterion.benchmark_group("describe");
    for (name, endpoint, body) in [
        ("chat 1.2 KB", Endpoint::ChatCompletions, chat()),
        ("agent 127 KB", Endpoint::Messages, agent()),
        ("image 1 MB", Endpoint::ChatCompletions, image()),
    ] {
        let dialect = if endpoint == Endpoint::Messages { DialectName::Anthropic } else { DialectName::OpenAi };
        let input = BodyInput {
            dialect,
            endpoint,
            path_model: None,
            path_stream: false,
            model_free: false,
            content_type: Some(b"application/json"),
            body: &body,
        };
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bench| bench.iter(|| describe(black_box(&input), &estimator)));
    }
    group.finish();
}

fn splicing(criterion: &mut Criterion) {
    let body = chat();
    let input = BodyInput {
        dialect: DialectName::OpenAi,
        endpoint: Endpoint::ChatCompletions,
        path_model: None,
        path_stream: false,
        model_free: false,
        content_type: Some(b"application/json"),
        body: &body,
    };
    let Ok(described) = describe(&input, &Estimator::new(512)) else { return };
    let edits = Edits { model: Some("gpt-4o-mini-2024-07-18"), output: Some(64), include_usage: true };
    criterion.bench_function("render three edits", |bench| {
        bench.iter(|| described.splices.render(&body, black_box(&edits)))
    });
}

criterion_group!(benches, bodies, splicing);
criterion_main!(benches);
