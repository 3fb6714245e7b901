//! What the meter promises.

mod generated;
mod golden;
mod long;
mod properties;

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;
use golden::{ALL, CHAT_STREAM, Golden};

fn chat(strip: bool) -> Meter {
    Meter::new(DialectName::OpenAi, Endpoint::ChatCompletions, Framing::EventStream, Coding::Identity, strip)
}

fn body(endpoint: Endpoint) -> Meter {
    Meter::new(DialectName::OpenAi, endpoint, Framing::Json, Coding::Identity, false)
}

fn meter(golden: &Golden, coding: Coding) -> Meter {
    Meter::new(golden.dialect, golden.endpoint, golden.framing, coding, false)
}

/// Pushes the pieces, and what the meter handed on.
fn push<P: AsRef<[u8]>>(meter: &mut Meter, pieces: &[P]) -> Vec<u8> {
    let mut passed = Vec::new();
    for piece in pieces {
        meter.push(Bytes::copy_from_slice(piece.as_ref()), &mut |part| passed.extend_from_slice(&part));
    }
    passed
}

fn run<P: AsRef<[u8]>>(meter: &mut Meter, pieces: &[P]) -> Vec<u8> {
    let mut passed = push(meter, pieces);
    meter.finish(&mut |part| passed.extend_from_slice(&part));
    passed
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for cut in cuts.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[from..cut]);
        from = cut;
    }
    pieces
}

fn usage_of(json: &str) -> Option<Usage> {
    let mut meter = body(Endpoint::ChatCompletions);
    run(&mut meter, &[json]);
    meter.reported()
}

fn stored_brotli(plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    for (index, block) in plain.chunks(1000).enumerate() {
        // ISLAST 0, MNIBBLES 4, MLEN - 1, ISUNCOMPRESSED 1; before the first, WBITS 16.
        let header = ((block.len() as u32 - 1) << 3) | (1 << 19);
        let header = if index == 0 { header << 1 } else { header };
        coded.extend_from_slice(&header.to_le_bytes()[..3]);
        coded.extend_from_slice(block);
    }
    coded.push(3);
    coded
}

fn coded(coding: Coding, plain: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Identity => plain.to_vec(),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Brotli => stored_brotli(plain),
    }
}

#[test]
fn real_answers_are_read_as_their_apis_mean_them() {
    for golden in ALL {
        let mut meter = meter(golden, Coding::Identity);
        let passed = run(&mut meter, &[golden.body]);
        assert_eq!(passed, golden.body.as_bytes(), "{}", golden.name);
        assert_eq!(meter.reported(), golden.usage, "{}", golden.name);
        assert_eq!(meter.output_bytes(), golden.text, "{}", golden.name);
        assert_eq!(meter.is_complete(), golden.is_complete, "{}", golden.name);
    }
}

#[test]
fn an_answer_that_reports_all_is_charged_as_reported_and_not_estimated() {
    for golden in ALL {
        let mut meter = meter(golden, Coding::Identity);
        run(&mut meter, &[golden.body]);
        match golden.usage {
            Some(usage) if !usage.estimated && usage.audio_ms == 0 => {
                assert_eq!(meter.usage_or_estimate(7), usage, "{}", golden.name);
            }
            _ => assert!(meter.usage_or_estimate(7).estimated, "{}", golden.name),
        }
    }
}

#[test]
fn the_first_event_is_out_before_the_second_is_in() {
    for strip in [false, true] {
        let mut meter = chat(strip);
        let first = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        assert_eq!(push(&mut meter, &[first]), first);
        // An event is complete with the CR of its empty line.
        let second = b"data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\r\n\r";
        assert_eq!(push(&mut meter, &[second]), second);
        assert_eq!(push(&mut meter, &[b"\n"]), b"\n");
        assert_eq!(meter.output_bytes(), 2);
    }
}

#[test]
fn what_is_passed_untouched_is_the_same_buffer() {
    let chunk = Bytes::copy_from_slice(CHAT_STREAM.as_bytes());
    let mut passed = Vec::new();
    chat(false).push(chunk.clone(), &mut |part| passed.push((part.as_ptr(), part.len())));
    assert_eq!(passed, [(chunk.as_ptr(), chunk.len())]);
}

#[test]
fn the_usage_event_is_taken_out_and_nothing_else() {
    let mut meter = chat(true);
    let passed = String::from_utf8(run(&mut meter, &[CHAT_STREAM])).unwrap();
    let events: Vec<&str> = CHAT_STREAM.split_inclusive("\n\n").collect();
    assert!(events[4].contains("\"choices\":[],"));
    assert_eq!(passed, [&events[..4], &events[5..]].concat().concat());
    assert_eq!(meter.reported().map(|usage| usage.input), Some(1019));
    assert!(meter.is_complete());
}

#[test]
fn only_an_event_with_usage_and_no_choices_is_taken_out() {
    for kept in [
        r#"{"choices":[],"usage":null}"#,
        r#"{"choices":[],"usage":7}"#,
        r#"{"choices":[],"prompt_filter_results":[{"usage":{}}]}"#,
        r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        r#"{"choices":[],"choices":[1],"usage":{"prompt_tokens":1}}"#,
        r#"{"choices":[null],"usage":{"prompt_tokens":1}}"#,
        r#"{"choices":{},"usage":{"prompt_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":1}}"#,
        r#"{"inner":{"choices":[],"usage":{"prompt_tokens":1}}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}}{"choices":[{}]}"#,
        r#"[{"choices":[],"usage":{"prompt_tokens":1}}]"#,
    ] {
        let stream = format!("data: {kept}\n\n");
        assert_eq!(run(&mut chat(true), &[&stream]), stream.as_bytes(), "{kept}");
    }
    for taken in [
        "data:{\"usage\":{},\"choices\":[ ]}\n\n",
        "\u{feff}data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
        ": note\nid: 7\ndata: {\"choices\":[],\r\ndata: \"usage\":{}}\r\n\r\n",
        "data: {\"choices\":[],\"usage\"\ndata: :{}}\n\n",
        // Not ended by an empty line, as it may be the last thing sent.
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n",
    ] {
        assert_eq!(run(&mut chat(true), &[taken]), b"", "{taken}");
    }
}

#[test]
fn nothing_is_taken_out_where_nothing_was_put_in_or_nothing_can_be() {
    let event = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n";
    let zipped = coded(Coding::Gzip, event.as_bytes());
    let anthropic =
        Meter::new(DialectName::Anthropic, Endpoint::Messages, Framing::EventStream, Coding::Identity, true);
    let gzip = Meter::new(DialectName::OpenAi, Endpoint::ChatCompletions, Framing::EventStream, Coding::Gzip, true);
    for (mut meter, bytes) in [(chat(false), event.as_bytes()), (anthropic, event.as_bytes()), (gzip, &zipped)] {
        assert_eq!(run(&mut meter, &[bytes]), bytes);
    }
}

#[test]
fn usage_counts_only_where_the_api_has_it() {
    for look_alike in [
        r#"{"choices":[{"message":{"content":"{\"usage\":{\"prompt_tokens\":1}}"}}]}"#,
        r#"{"choices":[{"message":{"content":"\\"},"usage":{"prompt_tokens":1}}]}"#,
        r#"{"metadata":{"usage":{"prompt_tokens":1}}}"#,
        r#"{"response":[{"usage":{"prompt_tokens":1}}]}"#,
        r#"{"us\u0061ge":{"prompt_tokens":1}}"#,
        r#"{"Usage":{"prompt_tokens":1}}"#,
        r#"{"usage":"{\"prompt_tokens\":1}"}"#,
        r#"{"usage":[{"prompt_tokens":1}]}"#,
        r#"{"usageMetadata":{"promptTokenCount":1}}"#,
        r#"{"usage":{}}"#,
        r#"{"usage":null}"#,
        r#"["usage",{"prompt_tokens":1}]"#,
    ] {
        assert_eq!(usage_of(look_alike), None, "{look_alike}");
        let mut stream = chat(false);
        run(&mut stream, &[format!("event: usage\n: \"usage\":{{}}\ndata: {look_alike}\n\n")]);
        assert_eq!(stream.reported(), None, "{look_alike}");
    }
}

#[test]
fn the_last_report_wins() {
    let twice =
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1},"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    assert_eq!(usage_of(twice), Some(Usage { input: 3, output: 2, ..Usage::default() }));
    let then_null = r#"{"usage":{"prompt_tokens":3,"completion_tokens":2},"usage":null}"#;
    assert_eq!(usage_of(then_null), Some(Usage { input: 3, output: 2, ..Usage::default() }));
}

#[test]
fn what_is_missing_is_derived_from_the_total() {
    let used = |input, output, estimated| Some(Usage { input, output, estimated, ..Usage::default() });
    assert_eq!(usage_of(r#"{"usage":{"prompt_tokens":10,"total_tokens":17}}"#), used(10, 7, false));
    assert_eq!(usage_of(r#"{"usage":{"completion_tokens":7,"total_tokens":17}}"#), used(10, 7, false));
    // A total above its parts is reasoning that was left out of the output.
    let left_out = r#"{"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":40}}"#;
    assert_eq!(usage_of(left_out), used(10, 30, true));
    let too_small = r#"{"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":3}}"#;
    assert_eq!(usage_of(too_small), used(10, 7, true));
    let apart =
        r#"{"usage":{"prompt_tokens":10,"completion_tokens":7,"completion_tokens_details":{"reasoning_tokens":9}}}"#;
    assert_eq!(usage_of(apart), Some(Usage { reasoning: 9, ..used(10, 16, true).unwrap() }));
}

#[test]
fn a_number_that_cannot_be_is_clamped_flagged_and_not_charged() {
    let read = |number: &str| {
        let mut meter = body(Endpoint::ChatCompletions);
        let json = format!(
            "{{\"choices\":[{{\"message\":{{\"content\":\"123456\"}}}}],\"usage\":{{\"prompt_tokens\":{number},\"completion_tokens\":{number}}}}}"
        );
        run(&mut meter, &[json]);
        (meter.reported().unwrap(), meter.usage_or_estimate(50))
    };
    let used = |input, output, estimated| Usage { input, output, estimated, ..Usage::default() };
    for absurd in ["1099511627777", "18446744073709551615", "99999999999999999999999", "1e300", "\"1e300\""] {
        assert_eq!(read(absurd), (used(CEILING, CEILING, true), used(50, 2, true)), "{absurd}");
    }
    for senseless in ["-1", "-9223372036854775809", "-0.5", "\"many\"", "true", "[1]", "{}"] {
        assert_eq!(read(senseless), (used(0, 0, true), used(50, 2, true)), "{senseless}");
    }
    assert_eq!(read("12.0"), (used(12, 12, false), used(12, 12, false)));
    assert_eq!(read("1.2e1"), (used(12, 12, false), used(12, 12, false)));
    for odd in ["11.5", "\"12\""] {
        assert_eq!(read(odd), (used(12, 12, true), used(12, 12, true)), "{odd}");
    }
    // Not even a number: nothing was reported.
    assert_eq!(usage_of(r#"{"usage":{"prompt_tokens":1e999}}"#), None);
}

#[test]
fn parts_never_exceed_what_they_are_parts_of() {
    let usage =
        usage_of(r#"{"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":80}}}"#);
    assert_eq!(usage, Some(Usage { input: 80, cached_input: 80, output: 1, estimated: true, ..Usage::default() }));
    let absurd =
        r#"{"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":1e18}}}"#;
    assert_eq!(usage_of(absurd), Some(Usage { input: 5, output: 1, estimated: true, ..Usage::default() }));
}

#[test]
fn an_answer_without_usage_is_estimated_from_its_text() {
    let mut meter = chat(false);
    push(&mut meter, &["data: {\"choices\":[{\"delta\":{\"content\":\"1234567\"}}]}\n\ndata: {\"cho"]);
    assert_eq!(meter.reported(), None);
    assert_eq!(meter.usage_or_estimate(40), Usage { input: 40, output: 3, estimated: true, ..Usage::default() });

    // Text stands where it is generated; where none can be told from the rest, the body's length does.
    let mut body = body(Endpoint::ChatCompletions);
    push(&mut body, &["{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"1234567"]);
    assert_eq!(body.usage_or_estimate(40).output, 3);
    let mut unlike = super::tests::body(Endpoint::Completions);
    push(&mut unlike, &["{\"result\":\"hello\"}"]);
    assert_eq!(unlike.output_bytes(), 18);

    let mut vectors = super::tests::body(Endpoint::Embeddings);
    run(&mut vectors, &["{\"data\":[{\"embedding\":[0.5,0.5,0.5]}]}"]);
    assert_eq!(vectors.usage_or_estimate(40), Usage { input: 40, estimated: true, ..Usage::default() });
}

#[test]
fn a_stream_cut_behind_its_first_report_is_charged_for_the_text_that_came() {
    let all = ALL.iter().find(|golden| golden.name == "messages").unwrap();
    let cut = all.body.find("event: message_delta").unwrap();
    let mut meter = meter(all, Coding::Identity);
    push(&mut meter, &[&all.body[..cut]]);
    assert!(!meter.is_complete());
    let usage = meter.usage_or_estimate(1);
    assert_eq!((usage.input, usage.cached_input, usage.output, usage.estimated), (2125, 2000, 15, true));

    let first = all.body.find("event: content_block_start").unwrap();
    let mut meter = super::tests::meter(all, Coding::Identity);
    push(&mut meter, &[&all.body[..first]]);
    let usage = meter.usage_or_estimate(1);
    assert_eq!((usage.input, usage.output, usage.estimated), (2125, 1, true), "never less than reported");
}

#[test]
fn text_behind_the_last_report_is_charged_beside_it() {
    let mut meter = chat(false);
    push(
        &mut meter,
        &[
            "data: {\"choices\":[{\"delta\":{\"content\":\"abcdef\"}}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"ghijkl\"}}]}\n\n",
        ],
    );
    let usage = meter.usage_or_estimate(1);
    assert_eq!((usage.input, usage.output, usage.estimated), (9, 4, true));
}

#[test]
fn a_report_in_parts_is_put_together_and_a_zero_takes_nothing_back() {
    let mut meter =
        Meter::new(DialectName::Anthropic, Endpoint::Messages, Framing::EventStream, Coding::Identity, false);
    push(
        &mut meter,
        &[
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":30,\"cache_read_input_tokens\":4,\"output_tokens\":9}}\n\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":0,\"output_tokens\":12}}\n\n",
        ],
    );
    assert_eq!(meter.usage_or_estimate(1), Usage { input: 34, cached_input: 4, output: 12, ..Usage::default() });
    // A later number that cannot be does not void what was known.
    push(&mut meter, &["data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":-5,\"output_tokens\":-1}}\n\n"]);
    assert_eq!(
        meter.usage_or_estimate(1),
        Usage { input: 34, cached_input: 4, output: 12, estimated: true, ..Usage::default() }
    );
}

#[test]
fn a_compressed_answer_is_read_like_a_plain_one_and_passed_as_it_came() {
    for golden in ALL.iter().filter(|golden| golden.framing != Framing::Opaque) {
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
            let bytes = coded(coding, golden.body.as_bytes());
            for size in [1, 13, bytes.len()] {
                let mut meter = meter(golden, coding);
                let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
                assert_eq!(run(&mut meter, &chunks), bytes);
                assert_eq!(meter.reported(), golden.usage, "{} {coding:?} {size}", golden.name);
                assert_eq!(meter.output_bytes(), golden.text, "{} {coding:?} {size}", golden.name);
                assert_eq!(meter.is_complete(), golden.is_complete, "{} {coding:?} {size}", golden.name);
            }
        }
    }
}

#[test]
fn deflate_is_read_without_its_frame_and_brotli_as_encoders_write_it() {
    let json = br#"{"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}"#;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json).unwrap();
    let bare = encoder.finish().unwrap();
    // {"pad":"a x 3000","usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}
    let brotli = [
        27, 7, 12, 200, 28, 7, 206, 185, 60, 126, 4, 201, 227, 86, 99, 16, 232, 198, 82, 95, 104, 26, 139, 28, 164, 31,
        180, 61, 117, 88, 250, 10, 38, 199, 41, 167, 129, 122, 144, 64, 75, 34, 10, 241, 4, 118, 216, 128, 211, 196,
        158, 44, 157, 254, 113, 3, 0, 193, 90, 32, 76, 12, 133, 35, 28, 83, 216, 63, 42, 186, 14, 53, 76, 55, 13, 232,
        7, 69, 251, 3,
    ];
    for (coding, bytes) in [(Coding::Deflate, bare.as_slice()), (Coding::Brotli, &brotli)] {
        let mut meter = Meter::new(DialectName::OpenAi, Endpoint::ChatCompletions, Framing::Json, coding, false);
        assert_eq!(run(&mut meter, &bytes.chunks(5).collect::<Vec<_>>()), bytes);
        assert_eq!(meter.reported().map(|usage| usage.total()), Some(29), "{coding:?}");
    }
}

#[test]
fn a_compressed_event_is_read_as_soon_as_it_is_flushed() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut meter =
        Meter::new(DialectName::OpenAi, Endpoint::ChatCompletions, Framing::EventStream, Coding::Gzip, false);
    for sent in 1..4 {
        encoder.write_all(b"data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}\n\n").unwrap();
        encoder.flush().unwrap();
        let flushed = std::mem::take(encoder.get_mut());
        push(&mut meter, &[flushed]);
        assert_eq!(meter.output_bytes(), 2 * sent);
    }
}

#[test]
fn a_corrupt_or_exploding_answer_is_passed_on_unread() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..40 {
        bomb.write_all(&[b' '; 65_536]).unwrap();
    }
    // Of a bomb that unfolds to 300 MB: each further 30 bytes are 16 MB.
    let brotli_bomb = [
        203, 255, 255, 63, 248, 37, 64, 226, 177, 64, 32, 247, 254, 143, 255, 255, 127, 240, 75, 0, 196, 97, 17, 128,
        238, 253, 31, 255, 255, 255, 224, 151, 0, 136, 195, 2, 0, 221, 251, 63, 254, 255, 255, 193, 47, 1, 16, 135, 5,
        0, 186,
    ];
    let mut corrupt = coded(Coding::Gzip, CHAT_STREAM.as_bytes());
    corrupt[40..80].fill(0xff);
    for (coding, bytes) in [
        (Coding::Gzip, bomb.finish().unwrap()),
        (Coding::Brotli, brotli_bomb.to_vec()),
        (Coding::Gzip, corrupt),
        (Coding::Gzip, CHAT_STREAM.as_bytes().to_vec()),
        (Coding::Deflate, CHAT_STREAM.as_bytes().to_vec()),
        (Coding::Brotli, CHAT_STREAM.as_bytes().to_vec()),
    ] {
        let mut meter = Meter::new(DialectName::OpenAi, Endpoint::ChatCompletions, Framing::EventStream, coding, false);
        assert_eq!(run(&mut meter, &bytes.chunks(20).collect::<Vec<_>>()), bytes);
        assert_eq!(meter.reported(), None);
        let usage = meter.usage_or_estimate(3);
        assert!(usage.estimated && usage.output > 0, "{coding:?}: what is not read is charged by its length");
        assert!(meter.is_complete());
    }
}

#[test]
fn headers_say_how_an_answer_is_read() {
    assert_eq!(Coding::of("GZIP "), Some(Coding::Gzip));
    assert_eq!(Coding::of(""), Some(Coding::Identity));
    assert_eq!(Coding::of("gzip, br"), None);
    assert_eq!(Coding::of("zstd"), None);
    assert_eq!(Framing::of("text/event-stream; charset=utf-8"), Framing::EventStream);
    assert_eq!(Framing::of("Application/JSON"), Framing::Json);
    for json in ["text/json", "application/problem+JSON; charset=utf-8", "", " ; x"] {
        assert_eq!(Framing::of(json), Framing::Json, "{json:?}");
    }
    for opaque in ["audio/mpeg", "text/plain", "application/x-ndjson", "json"] {
        assert_eq!(Framing::of(opaque), Framing::Opaque);
    }
    let mut blind = Meter::blind(DialectName::OpenAi, Endpoint::ChatCompletions);
    run(&mut blind, &[b"123456789"]);
    assert_eq!(blind.usage_or_estimate(2), Usage { input: 2, output: 3, estimated: true, ..Usage::default() });
}
