//! Events and bodies that are longer than what is held of them.

use super::*;

#[test]
fn an_event_too_long_to_hold_is_passed_on_and_still_read() {
    let long = "x".repeat(LONGEST_EVENT);
    let event = format!(
        "data: {{\"choices\":[],\"pad\":\"{long}\",\"delta\":{{\"content\":\"abc\"}},\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":6}}}}\n\n"
    );
    for size in [7, 1000, 65_536, event.len()] {
        let mut meter = chat(true);
        let chunks: Vec<&[u8]> = event.as_bytes().chunks(size).collect();
        assert_eq!(run(&mut meter, &chunks), event.as_bytes());
        assert_eq!(meter.reported(), Some(Usage { input: 5, output: 6, ..Usage::default() }));
        // Nobody looks which member what is so long stands in: letters that are no sound and no picture are text, wherever the event was cut.
        assert_eq!(meter.output_bytes(), event.len() as u64);
    }
    let mut meter = chat(true);
    let passed = push(&mut meter, &[format!("data: {long}"), long.clone()]);
    assert_eq!(passed.len(), 6 + 2 * long.len(), "a long event waits for nothing");
}

#[test]
fn a_large_body_is_read_without_being_held() {
    let mut meter = body(Endpoint::Embeddings);
    push(&mut meter, &["{\"data\":[{\"embedding\":["]);
    let floats = "-0.0069292834,".repeat(10_000);
    for _ in 0..20 {
        push(&mut meter, &[&floats]);
    }
    run(&mut meter, &["0]}],\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}"]);
    assert_eq!(meter.reported(), Some(Usage { input: 8, ..Usage::default() }));
    assert!(meter.is_complete());
}

#[test]
fn an_answer_is_not_over_before_the_usage_in_its_last_event_is_read_however_long_that_is() {
    let usage = r#""usage":{"input_tokens":5000,"output_tokens":7000}"#;
    let counts = r#""usageMetadata":{"promptTokenCount":5000,"candidatesTokenCount":7000}"#;
    for length in [0, LONGEST_EVENT - 200, LONGEST_EVENT, 3 * LONGEST_EVENT] {
        let text = "x".repeat(length);
        let response =
            |kind| format!(r#"data: {{"type":"response.{kind}","response":{{"instructions":"{text}",{usage}}}}}"#);
        let transcript = format!(r#"data: {{"type":"transcript.text.done","text":"{text}",{usage}}}"#);
        let candidate = format!(r#"{{"candidates":[{{"finishReason":"STOP","x":"{text}"}}],{counts}}}"#);
        let (events, openai, gemini) = (Framing::EventStream, DialectName::OpenAi, DialectName::Gemini);
        for (dialect, endpoint, framing, stream) in [
            (openai, Endpoint::Responses, events, response("completed")),
            (openai, Endpoint::Responses, events, response("incomplete")),
            (openai, Endpoint::Responses, events, response("failed")),
            (openai, Endpoint::AudioTranscriptions, events, transcript),
            (gemini, Endpoint::StreamGenerateContent, events, format!("data: {candidate}")),
            (gemini, Endpoint::StreamGenerateContent, Framing::Json, format!("[{candidate}]")),
        ] {
            let mut meter = Meter::new(dialect, endpoint, framing, Coding::Identity, false);
            for piece in [stream.as_bytes(), b"\n\n"].concat().chunks(1_000) {
                push(&mut meter, &[piece]);
                let found = meter.reported().map(|usage| (usage.input, usage.output));
                assert!(!meter.is_complete() || found == Some((5000, 7000)), "{length} {stream:.60}: {found:?}");
            }
            assert!(meter.is_complete(), "{length} {stream:.60}");
        }
    }
}

#[test]
fn what_is_long_is_charged_as_text_or_as_sound_and_not_where_a_tool_has_found_it() {
    let tokens = |dialect, endpoint, event: String| {
        let mut meter = Meter::new(dialect, endpoint, Framing::EventStream, Coding::Identity, false);
        push(&mut meter, &event.as_bytes().chunks(1_448).collect::<Vec<_>>());
        meter.output_bytes().div_ceil(BYTES_PER_TOKEN)
    };
    let words = "words that were generated ".repeat(4_000);
    let (openai, gemini, claude) = (DialectName::OpenAi, DialectName::Gemini, DialectName::Anthropic);
    let call = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"args\":{{\"text\":\"{words}\"}}}}}}]}}}}]}}\n\n"
    );
    let custom = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"custom\":{{\"input\":\"{words}\"}}}}]}}}}]}}\n\n"
    );
    let whole = words.len() as u64 / BYTES_PER_TOKEN;
    for found in
        [tokens(gemini, Endpoint::StreamGenerateContent, call), tokens(openai, Endpoint::ChatCompletions, custom)]
    {
        assert!((whole..whole + 60).contains(&found), "{found} for {whole}");
    }
    let result = format!(
        "data: {{\"type\":\"content_block_start\",\"content_block\":{{\"type\":\"mcp_tool_result\",\"content\":[{{\"type\":\"text\",\"text\":\"{words}\"}}]}}}}\n\n"
    );
    assert_eq!(tokens(claude, Endpoint::Messages, result), 0);
}

#[test]
fn a_known_word_does_not_hide_what_else_a_document_brings() {
    let words = "words that were generated ".repeat(1_000);
    let output = |dialect, endpoint, text: &str| {
        let mut meter = Meter::new(dialect, endpoint, Framing::Json, Coding::Identity, false);
        push(&mut meter, &text.as_bytes().chunks(1_448).collect::<Vec<_>>());
        meter.usage_or_estimate(1).output
    };
    let (openai, gemini) = (DialectName::OpenAi, DialectName::Gemini);
    let least = (words.len() as u64 - 4_096) / BYTES_PER_TOKEN;
    let array = format!(
        r#"[{{"candidates":[{{"content":{{"parts":[{{"text":"a"}}]}}}}]}},{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{{"a":"{words}"}}}}}}]}}}}]}}"#
    );
    assert!(output(gemini, Endpoint::StreamGenerateContent, &array) > least);
    let custom =
        format!(r#"{{"choices":[{{"message":{{"content":"a","tool_calls":[{{"custom":{{"input":"{words}"}}}}]}}}}]}}"#);
    assert!(output(openai, Endpoint::ChatCompletions, &custom) > least);
    let reported = custom.replace("]}}]}", r#"]}}],"usage":{"prompt_tokens":1,"completion_tokens":7}}"#);
    assert_eq!(output(openai, Endpoint::ChatCompletions, &reported), 7);
    let text = format!(r#"{{"id":"c","object":"chat.completion","choices":[{{"message":{{"content":"{words}"}}}}]}}"#);
    assert_eq!(output(openai, Endpoint::ChatCompletions, &text), (words.len() as u64).div_ceil(BYTES_PER_TOKEN));
}
