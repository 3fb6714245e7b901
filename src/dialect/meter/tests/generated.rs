//! What is generated is charged for whoever leaves before its backend reports, under whatever name it stands.

use super::*;

const TEXT: &str = "words that were generated, and that nobody has reported so far; ";

fn brought(dialect: DialectName, endpoint: Endpoint, event: &str) -> u64 {
    let mut meter = Meter::new(dialect, endpoint, Framing::EventStream, Coding::Identity, false);
    push(&mut meter, &[format!("data: {event}\n\n")]);
    meter.output_bytes()
}

#[test]
fn text_under_names_that_nobody_knows_is_no_gift() {
    let text = TEXT.len() as u64;
    let chat = |delta: &str| {
        let event = format!(
            r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":"stop"}}],"obfuscation":"{TEXT}"}}"#
        );
        brought(DialectName::OpenAi, Endpoint::ChatCompletions, &event.replace('T', TEXT))
    };
    for delta in [
        r#"{"role":"assistant","content":"T"}"#,
        r#"{"content":null,"audio":{"id":"audio_1","transcript":"T"}}"#,
        r#"{"content":[{"type":"text","text":"T"}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"call_1","type":"custom","custom":{"name":"f","input":"T"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"T"}}]}"#,
        r#"{"reasoning":"T","reasoning_details":[{"type":"reasoning.text","text":"T"}]}"#,
        r#"{"content":"x","thinking" : "T"}"#,
    ] {
        assert_eq!(chat(delta), text, "{delta}");
    }
    assert_eq!(chat(r#"{"content":""},"x":{"content":"T"}"#), 0, "beside what is generated");
    assert_eq!(chat(r#"{"content":"T"}},{"index":1,"delta":{"content":"T"}"#), 2 * text, "two choices");
    let claude = |event: &str| brought(DialectName::Anthropic, Endpoint::Messages, &event.replace('T', TEXT));
    for event in [
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"T"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta","content":"T"}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"T"}}"#,
    ] {
        assert_eq!(claude(event), text, "{event}");
    }
    for event in [
        r#"{"type":"message_start","message":{"id":"m","content":[],"x":"T"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":"T"}}"#,
        r#"{"type":"content_block_start","content_block":{"type":"web_search_tool_result","content":[{"title":"T"}]}}"#,
    ] {
        assert_eq!(claude(event), 0, "{event}");
    }
    let gemini = |parts: &str| {
        let event =
            format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}},"finishMessage":"T"}}]}}"#);
        brought(DialectName::Gemini, Endpoint::StreamGenerateContent, &event.replace('T', TEXT))
    };
    for part in [r#"{"text":"T","thought":true}"#, r#"{"executableCode":{"language":"PYTHON","code":"T"}}"#] {
        assert_eq!(gemini(part), text, "{part}");
    }
    // A tool's arguments are generated whole, however a caller has them named.
    for args in [
        r#"{"a":"T"}"#,
        r#"{"name":"T","type":"x_tool_result"}"#,
        r#"{"data":["T_",1,2,3],"id":{"role":"T"}}"#,
        r#"{"T":{"T":[]}}"#,
    ] {
        let length = args.replace('T', TEXT).len() as u64;
        assert_eq!(gemini(&format!(r#"{{"functionCall":{{"name":"f","args":{args}}}}}"#)), length, "{args}");
        let block = format!(
            r#"{{"type":"content_block_start","content_block":{{"type":"server_tool_use","id":"s","name":"n","input":{args}}}}}"#
        );
        assert_eq!(claude(&block), length, "{args}");
    }
    for found in [
        r#"{"citation":{"cited_text":"T","url":"T"}}"#,
        r#"{"annotations":[{"url_citation":{"title":"T"}}]}"#,
        r#"{"context":{"citations":[{"content":"T"}]},"role":"x"}"#,
    ] {
        assert_eq!(chat(found), 0, "{found}");
    }
    let speech = |event: &str| brought(DialectName::OpenAi, Endpoint::Responses, &event.replace('T', TEXT));
    assert_eq!(speech(r#"{"type":"response.custom_tool_call_input.delta","item_id":"i","delta":"T"}"#), text);
    assert_eq!(speech(r#"{"type":"response.output_text.done","text":"T"}"#), 0, "it came in deltas");
}

#[test]
fn sound_and_pictures_cost_what_they_cost_and_not_what_their_letters_would() {
    let base64 = "QUJD".repeat(1_600);
    for (dialect, endpoint, event) in [
        (DialectName::OpenAi, Endpoint::ChatCompletions, r#"{"choices":[{"delta":{"audio":{"data":"B"}}}]}"#),
        (
            DialectName::OpenAi,
            Endpoint::ChatCompletions,
            r#"{"choices":[{"delta":{"images":[{"image_url":{"url":"data:image/png;base64,B"}}]}}]}"#,
        ),
        (DialectName::OpenAi, Endpoint::Responses, r#"{"type":"response.audio.delta","delta":"B"}"#),
        (
            DialectName::Gemini,
            Endpoint::StreamGenerateContent,
            r#"{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"B"}}]}}]}"#,
        ),
    ] {
        let tokens = brought(dialect, endpoint, &event.replace('B', &base64)).div_ceil(BYTES_PER_TOKEN);
        assert!((12..=14).contains(&tokens), "{event}: {tokens}");
        if endpoint == Endpoint::Responses {
            continue; // which has no events so long
        }
        let long = brought(dialect, endpoint, &event.replace('B', &base64.repeat(100))).div_ceil(BYTES_PER_TOKEN);
        assert!((1_250..=1_300).contains(&long), "{event}: {long}");
    }
}

#[test]
fn a_later_report_takes_nothing_back() {
    let charged = |reports: &[&str]| {
        let mut meter = chat(false);
        push(&mut meter, &[format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{TEXT}\"}}}}]}}\n\n")]);
        for report in reports {
            push(&mut meter, &[format!("data: {{\"choices\":[],\"usage\":{report}}}\n\n")]);
        }
        let usage = meter.usage_or_estimate(7);
        (usage.input, usage.output, usage.estimated)
    };
    let real = r#"{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}"#;
    assert_eq!(charged(&[real]), (1000, 500, false));
    for later in [
        r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1}"#,
        r#"{"prompt_tokens":-1,"completion_tokens":1e30}"#,
        r#"{"prompt_tokens":"x","completion_tokens":"y"}"#,
        r#"{"prompt_tokens":1000,"total_tokens":1000}"#,
    ] {
        assert_eq!(charged(&[real, later]), (1000, 500, true), "{later}");
    }
    // Numbers that moved between members are still the same.
    for (first, later, expected) in [
        (
            r#"{"prompt_tokens":1000,"completion_tokens":100}"#,
            r#"{"prompt_tokens":600,"completion_tokens":500}"#,
            (600, 500, false),
        ),
        (
            r#"{"total_tokens":1500}"#,
            r#"{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}"#,
            (1000, 500, false),
        ),
    ] {
        assert_eq!(charged(&[first, later]), expected);
    }
    let seen = (TEXT.len() as u64).div_ceil(BYTES_PER_TOKEN);
    assert_eq!(
        charged(&[r#"{"prompt_tokens":30,"total_tokens":30}"#]),
        (30, seen, true),
        "the output was not told yet"
    );
    assert_eq!(charged(&[r#"{"total_tokens":1500}"#]), (1500, 0, true), "all of it is in the total");
    let mut meter = chat(false);
    let text = format!(r#"{{"choices":[{{"delta":{{"content":"{TEXT}"}}}}],"usage":{{"total_tokens":30}}}}"#);
    push(
        &mut meter,
        &[format!("data: {text}\n\n"), format!("data: {}\n\n", text.replace(r#","usage":{"total_tokens":30}"#, ""))],
    );
    let usage = meter.usage_or_estimate(7);
    assert_eq!((usage.input, usage.output), (30, seen), "but what came behind it is not");
    let grown = r#"{"prompt_tokens":1000,"completion_tokens":600,"total_tokens":1600}"#;
    assert_eq!(charged(&[real, grown]), (1000, 600, false), "it tells more each time");
    // That a text of some length cost nothing is not believed either.
    assert_eq!(charged(&[r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#]), (7, seen, true));
}

#[test]
fn what_is_reported_of_one_answer_is_not_for_all_of_them() {
    let event = |choice: &str, usage: u64| {
        let usage = format!(r#"{{"prompt_tokens":10,"completion_tokens":{usage},"total_tokens":{}}}"#, 10 + usage);
        format!("data: {{\"choices\": [{choice}],\"usage\":{usage}}}\n\n")
    };
    let one = |index| format!(r#"{{"index":{index},"delta":{{"content":"{TEXT}"}}}}"#);
    for (is_of_several, cut) in
        [(true, (7, 4 * TEXT.len() as u64 / BYTES_PER_TOKEN + 1, true)), (false, (10, 20, false))]
    {
        let meter = chat(false);
        let mut meter = if is_of_several { meter.of_several() } else { meter };
        push(&mut meter, &[event(&one(0), 20), event(&one(1), 20), event(&one(2), 20), event(&one(3), 20)]);
        let usage = meter.usage_or_estimate(7);
        assert_eq!((usage.input, usage.output, usage.estimated), cut);
        push(&mut meter, &[event("", 80)]);
        let usage = meter.usage_or_estimate(7);
        assert_eq!((usage.input, usage.output, usage.estimated), (10, 80, false), "the last one is of all");
    }
}

#[test]
fn what_a_realtime_report_says_is_believed_as_far_as_that_can_be() {
    let charged = |report: &str| {
        super::super::usage_of(report.as_bytes(), 9, 1_000).map(|usage| (usage.input, usage.output, usage.estimated))
    };
    assert_eq!(charged(r#"{"input_tokens":5,"output_tokens":700}"#), Some((5, 700, false)));
    for report in [
        r#"{"input_tokens":1e30,"output_tokens":1e30}"#,
        r#"{"output_tokens":-5,"input_tokens":-5}"#,
        r#"{"input_tokens":9,"output_tokens":"y"}"#,
        r#"{"input_tokens":9,"output_tokens":null}"#,
        r#"{"input_tokens":9}"#,
    ] {
        assert_eq!(charged(report), Some((9, 1_000, true)), "{report}");
    }
    assert_eq!(charged(r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#), None);
    assert_eq!(charged(r#"{"total_tokens":1009}"#), Some((1009, 0, true)));
}
