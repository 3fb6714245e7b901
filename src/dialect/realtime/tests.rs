//! Events by exact text.

use proptest::prelude::*;

use super::*;
use crate::policy::BodyFlaw;

fn read(text: &str) -> Result<Event, BodyFlaw> {
    Event::read(text.as_bytes())
}

#[test]
fn a_clients_event_says_what_it_asks_for() {
    let event = read(r#"{"type":"response.create","event_id":"e1","response":{"max_output_tokens":50}}"#).unwrap();
    assert_eq!((event.asked, event.id.as_deref(), event.output), (Asked::Response, Some("e1"), Some(50)));
    let endless = read(r#"{"response":{"max_output_tokens":"inf"},"type":"response.create"}"#).unwrap();
    assert_eq!((endless.asked, endless.output), (Asked::Response, None));
    assert!(endless.is_endless && !event.is_endless);
    let twice = read(r#"{"type":"a","response":{"max_output_tokens":9,"max_response_output_tokens":5}}"#).unwrap();
    assert_eq!(twice.output, Some(9));
    for (text, is_apart) in [
        (r#"{"type":"response.create","response":{"conversation":"auto","input":null,"prompt":null}}"#, false),
        (r#"{"type":"response.create","response":{"conversation":"none"}}"#, true),
        (r#"{"type":"response.create","response":{"input":[]}}"#, true),
    ] {
        assert_eq!(read(text).unwrap().is_apart, is_apart, "{text}");
    }
    let slashed = read(r#"{"type":"a","session":{"model":"a\/b"}}"#).unwrap();
    assert_eq!(slashed.own_model.as_ref().map(|m| m.as_str()), Some("a/b"));
    let sound = read(r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#).unwrap();
    assert_eq!((sound.asked, sound.said.sound), (Asked::Other, 6));
    let terms = r#"{"type":"session.update","session":{"model":"m","audio":{"input":{"transcription":{"model":"w"}},"output":{"model":1}},"input_audio_transcription":{"model":"v"},"tools":[{"model":"x"}]}}"#;
    let event = read(terms).unwrap();
    assert_eq!((event.asked, event.own_model.as_ref().map(|m| m.as_str())), (Asked::Session, Some("m")));
    assert_eq!(event.other_models.iter().map(|m| m.as_str()).collect::<Vec<_>>(), ["w", "v"]);
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    use BodyFlaw::{BadMember, DuplicateMember, MemberNotAllowed, MisspelledMember, ModelDisagrees};
    for (text, flaw) in [
        (r#"{"type":"a","type":"response.create"}"#, DuplicateMember { member: "type" }),
        (r#"{"type":"a","Type":"response.create"}"#, MisspelledMember { member: "type" }),
        (r#"{"type":"a","\u0074ype":"response.create"}"#, MisspelledMember { member: "type" }),
        (r#"{"type":"a","session":{"model":"a","Model":"b"}}"#, MisspelledMember { member: "model" }),
        (r#"{"type":"a","session":{"model":"a","model":"b"}}"#, DuplicateMember { member: "model" }),
        (r#"{"type":"a","session":{"model":"a"},"response":{"model":"b"}}"#, ModelDisagrees),
        (r#"{"type":"a","session":{"models":["b"]}}"#, MemberNotAllowed { member: "models" }),
        (r#"{"type":"a","session":{"prompt":{"id":"pmpt_1"}}}"#, MemberNotAllowed { member: "prompt" }),
        (r#"{"type":"a","session":{"base_url":"http://x"}}"#, MemberNotAllowed { member: "base_url" }),
    ] {
        assert_eq!(read(text), Err(flaw), "{text}");
    }
    for text in [
        r#"{"type":"response\u002ecreate"}"#,
        r#"{"type":1}"#,
        "{}",
        r#"{"type":"a","session":[]}"#,
        r#"{"type":"a","session":{"model":["a"]}}"#,
        r#"{"type":"a","response":{"max_output_tokens":1.5}}"#,
    ] {
        assert!(matches!(read(text), Err(BadMember { .. })), "{text}: {:?}", read(text));
    }
    for text in ["", "[]", "{\"type\":\"a\"}{}", "\u{feff}{\"type\":\"a\"}", "{'type':'a'}"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn a_name_is_spliced_in_and_nothing_else_changes() {
    let text = r#" { "type":"session.update","model":"fast", "session":{"model" : "fast","x":"fast"} } "#;
    let payload = Bytes::copy_from_slice(text.as_bytes());
    let event = Event::read(&payload).unwrap();
    let out = event.render(&payload, Some("gpt-realtime"), Some("kw_1"));
    assert_eq!(
        out,
        r#" { "event_id":"kw_1","type":"session.update","model":"gpt-realtime", "session":{"model" : "gpt-realtime","x":"fast"} } "#
    );
    assert_eq!(event.render(&payload, None, None), payload);
    let named = Bytes::from_static(br#"{"type":"response.create","event_id":"mine"}"#);
    assert_eq!(Event::read(&named).unwrap().render(&named, Some("m"), Some("kw_2")), named);
}

#[test]
fn a_backends_event_says_what_was_used() {
    let done = r#"{"type":"response.done","response":{"id":"r1","status":"completed","output":[{"usage":{"total_tokens":9}}],"usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,"input_token_details":{"text_tokens":119,"audio_tokens":13,"cached_tokens":64},"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;
    let Told::Done { response, usage: Some(report), has_failed: false } = told(done.as_bytes()) else {
        panic!("{:?}", told(done.as_bytes()))
    };
    assert_eq!(&*response, "r1");
    let read = usage(&report, 5, Heard::default()).unwrap();
    assert_eq!((read.input, read.cached_input, read.output, read.estimated), (132, 64, 121, false));
    for (text, expected) in [
        (r#"{"type":"response.created","response":{"id":"r"}}"#, Told::Begun { response: "r".into() }),
        (
            r#"{"type":"response.output_audio.delta","response_id":"r","delta":"AAAA"}"#,
            Told::Piece { response: "r".into(), text: 0, sound: 4 },
        ),
        (
            r#"{"type":"response.output_audio_transcript.delta","response_id":"r","delta":"Hi"}"#,
            Told::Piece { response: "r".into(), text: 2, sound: 0 },
        ),
        (
            r#"{"type":"response.done","response":{"id":"r","status":"failed","usage":null}}"#,
            Told::Done { response: "r".into(), usage: None, has_failed: true },
        ),
        (
            r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"seconds":2}}"#,
            Told::Transcribed { usage: Some((*br#"{"seconds":2}"#).into()), text: 0 },
        ),
        (
            r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"Hello"}"#,
            Told::Transcribed { usage: None, text: 5 },
        ),
        (
            r#"{"type":"session.updated","session":{"audio":{"input":{"transcription":{"model":"w"}}}}}"#,
            Told::Session { scribe: Some("w".into()), output: None, is_update: true },
        ),
        (
            r#"{"type":"session.created","session":{"audio":{"input":{"transcription":null}},"input_audio_transcription":{"model":"v"}}}"#,
            Told::Session { scribe: Some("v".into()), output: None, is_update: false },
        ),
        (r#"{"type":"session.updated","session":{"audio":1}}"#, Told::Other),
        (
            r#"{"type":"session.updated","session":{"max_output_tokens":"inf"}}"#,
            Told::Session { scribe: None, output: Some(Bound::None), is_update: true },
        ),
        (
            r#"{"type":"session.updated","session":{"max_response_output_tokens":7}}"#,
            Told::Session { scribe: None, output: Some(Bound::Tokens(7)), is_update: true },
        ),
        (r#"{"type":"error","error":{"code":"x","event_id":"e1"}}"#, Told::Refused { event: "e1".into() }),
        (r#"{"type":"error","error":{"code":"x","event_id":null}}"#, Told::Other),
        (r#"{"type":"rate_limits.updated"}"#, Told::Other),
        ("not json", Told::Other),
    ] {
        assert_eq!(told(text.as_bytes()), expected, "{text}");
    }
    assert_eq!(usage(br#"{"type":"duration","seconds":2.5}"#, 0, Heard::default()).unwrap().audio_ms, 2_500);
    assert_eq!(usage(b"null", 0, Heard::default()), None);
}

proptest! {
    #[test]
    fn no_message_is_too_strange(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Event::read(&payload), told(&payload), usage(&payload, 1, Heard::default()));
    }

    #[test]
    fn what_was_rendered_reads_the_same(id in prop::option::of("[a-z0-9_]{1,9}"), rename in prop::option::of("[a-z]{1,9}")) {
        let payload = Bytes::from_static(br#"{"type":"response.create","response":{"model":"m","max_output_tokens":7}}"#);
        let event = Event::read(&payload).unwrap();
        let again = Event::read(&event.render(&payload, rename.as_deref(), id.as_deref())).unwrap();
        prop_assert_eq!((again.asked, again.output), (event.asked, event.output));
        prop_assert_eq!(again.own_model.as_ref().map(|m| m.as_str()), Some(rename.as_deref().unwrap_or("m")));
        prop_assert_eq!(again.id.as_deref(), id.as_deref());
    }
}
