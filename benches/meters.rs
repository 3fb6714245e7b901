//! What reading along costs: an event of a stream, with and without taking out the usage event, and a small JSON answer.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keyward::dialect::meter::{Coding, Framing, Meter};
use keyward::policy::{DialectName, Endpoint};

const CHAT_EVENT: &str = "data: {\"id\":\"chatcmpl-B9MBs8\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" Hello\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";
const USAGE_EVENT: &str = "data: {\"id\":\"chatcmpl-B9MBs8\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[],\"usage\":{\"prompt_tokens\":1019,\"completion_tokens\":10,\"total_tokens\":1029,\"prompt_tokens_details\":{\"cached_tokens\":896},\"completion_tokens_details\":{\"reasoning_tokens\":4}}}\n\n";
const GEMINI_EVENT: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Hello\"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 10,\"totalTokenCount\": 10,\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 10}]},\"modelVersion\": \"gemini-2.5-flash\"}\n\n";
const ANTHROPIC_EVENT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" Hello\"}}\n\n";

fn chat_body() -> Bytes {
    let text = "All men by nature desire to know. ".repeat(8);
    let body = format!(
        "{{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion\",\"created\":1741569952,\"model\":\"gpt-4.1-2025-04-14\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\",\"refusal\":null,\"annotations\":[]}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_details\":{{\"cached_tokens\":0}}}},\"service_tier\":\"default\"}}"
    );
    Bytes::from(body)
}

fn meter(dialect: DialectName, endpoint: Endpoint, framing: Framing, strip: bool) -> Meter {
    Meter::new(dialect, endpoint, framing, Coding::Identity, strip)
}

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("event");
    group.throughput(Throughput::Elements(1));
    let chat = (DialectName::OpenAi, Endpoint::ChatCompletions);
    for (name, (dialect, endpoint), event, strip) in [
        ("chat", chat, CHAT_EVENT, false),
        ("chat, stripping", chat, CHAT_EVENT, true),
        ("chat usage", chat, USAGE_EVENT, false),
        ("chat usage, stripped", chat, USAGE_EVENT, true),
        ("anthropic", (DialectName::Anthropic, Endpoint::Messages), ANTHROPIC_EVENT, false),
        ("gemini", (DialectName::Gemini, Endpoint::StreamGenerateContent), GEMINI_EVENT, false),
    ] {
        let chunk = Bytes::from_static(event.as_bytes());
        let mut meter = meter(dialect, endpoint, Framing::EventStream, strip);
        group.bench_function(name, |b| {
            b.iter(|| meter.push(black_box(&chunk).clone(), &mut |part| _ = black_box(part)));
        });
    }
    let (head, tail) = CHAT_EVENT.split_at(100);
    let (head, tail) = (Bytes::from_static(head.as_bytes()), Bytes::from_static(tail.as_bytes()));
    for (name, strip) in [("chat, cut", false), ("chat, cut, stripping", true)] {
        let mut meter = meter(DialectName::OpenAi, Endpoint::ChatCompletions, Framing::EventStream, strip);
        group.bench_function(name, |b| {
            b.iter(|| {
                meter.push(black_box(&head).clone(), &mut |part| _ = black_box(part));
                meter.push(black_box(&tail).clone(), &mut |part| _ = black_box(part));
            });
        });
    }
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("body");
    let chat = chat_body();
    let floats = Bytes::from(format!(
        "{{\"data\":[{{\"embedding\":[{}0]}}],\"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}",
        "-0.0069292834,".repeat(3072)
    ));
    for (name, endpoint, body) in
        [("chat, 0.7 KB", Endpoint::ChatCompletions, chat), ("embedding, 3072 floats", Endpoint::Embeddings, floats)]
    {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut meter = meter(DialectName::OpenAi, endpoint, Framing::Json, false);
                meter.push(black_box(&body).clone(), &mut |part| _ = black_box(part));
                meter.finish(&mut |_| ());
                meter.usage_or_estimate(10)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, events, bodies);
criterion_main!(benches);
