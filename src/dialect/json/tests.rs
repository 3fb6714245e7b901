//! The scanner against serde_json: the same texts accepted, the same texts refused.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

/// Walks a body without watching anything.
fn scan(body: &[u8]) -> Result<(), BodyFlaw> {
    let mut cursor = Cursor::open(body)?;
    let mut first = true;
    while cursor.next_member(&mut first)?.is_some() {
        cursor.skip()?;
    }
    cursor.finish()
}

/// How deep brackets nest outside strings, in a text that is JSON.
fn depth(text: &str) -> u32 {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_u32, 0, false, false);
    for character in text.chars() {
        match (in_string, character) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (_, '"') => in_string = !in_string,
            (false, '{' | '[') => depth += 1,
            (false, '}' | ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// What serde_json says of the same text. It reads skipped strings without looking at their encoding or at lone surrogates,
/// so the encoding is checked for it.
fn serde_takes(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let is_object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
    is_object && serde_json::from_str::<IgnoredAny>(text).is_ok() && depth(text) <= MAX_DEPTH
}

/// Whether a lone surrogate may stand in a member name: the one thing in which the scanner is stricter.
fn has_surrogate(body: &[u8]) -> bool {
    body.windows(4).any(|four| four[..2] == *b"\\u" && four[2].eq_ignore_ascii_case(&b'd') && four[3] > b'7')
}

fn json() -> impl Strategy<Value = String> {
    let string = prop_oneof![
        "[ -~]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\\PC{0,60}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        "(\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|[a-z]){0,20}".prop_map(|text| format!("\"{text}\"")),
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?",
    ];
    let space = || "[ \t\r\n]{0,2}";
    let leaf = prop_oneof![string.clone(), number, Just("true".into()), Just("false".into()), Just("null".into())];
    let value = leaf.prop_recursive(5, 60, 6, move |inner| {
        let member = (string.clone(), space(), inner.clone())
            .prop_map(|(name, space, value)| format!("{name}{space}:{space}{value}"));
        let list = |items: Vec<String>, space: String| items.join(&format!("{space},{space}"));
        prop_oneof![
            (proptest::collection::vec(member, 0..6), space())
                .prop_map(move |(m, s)| format!("{{{s}{}{s}}}", list(m, s.clone()))),
            (proptest::collection::vec(inner, 0..6), space())
                .prop_map(move |(v, s)| format!("[{s}{}{s}]", list(v, s.clone()))),
        ]
    });
    (value, space()).prop_map(|(value, space)| format!("{space}{{{space}\"x\"{space}:{value}{space}}}{space}"))
}

/// A byte that often decides: structure, escapes, digits, controls, broken UTF-8.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(br#"{}[]",:\/u0-+.eEtfnN1d8 '"#.to_vec()), any::<u8>(), 0_u8..0x21]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn sound_json_is_accepted_as_serde_json_does(text in json()) {
        prop_assert!(serde_takes(text.as_bytes()));
        if !has_surrogate(text.as_bytes()) {
            prop_assert_eq!(scan(text.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn mutated_json_is_accepted_exactly_when_serde_json_accepts_it(
        text in json(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), telling_byte(), 0_u8..4), 1..4),
    ) {
        let mut body = text.into_bytes();
        for (at, byte, kind) in changes {
            let index = at.index(body.len().max(1));
            match kind {
                0 if index < body.len() => { body.remove(index); }
                1 if index < body.len() => body[index] = byte,
                2 => body.truncate(index),
                _ => body.insert(index, byte),
            }
        }
        if !has_surrogate(&body) {
            prop_assert_eq!(scan(&body).is_ok(), serde_takes(&body), "{}", String::from_utf8_lossy(&body));
        } else if scan(&body).is_ok() {
            prop_assert!(serde_takes(&body));
        }
    }

    #[test]
    fn noise_never_panics(body in proptest::collection::vec(telling_byte(), 0..200)) {
        let body = [b"{".as_slice(), &body].concat();
        if !has_surrogate(&body) {
            prop_assert_eq!(scan(&body).is_ok(), serde_takes(&body));
        }
    }
}

/// Media of one container, as a tree has it.
#[derive(Default)]
struct Level {
    says_media: bool,
    says_text: bool,
    undecided: u64,
}

/// Counts the media of a value that is passed over, by the rules and by nothing else. `name` is that of the nearest member.
fn media_of(value: &Value, name: &mut String, level: &mut Level) -> u64 {
    let mut inside = Level::default();
    let mut sum = match value {
        Value::String(text) => {
            match media::sort(name.as_bytes(), text.as_bytes()) {
                media::Sort::Media => return 1,
                media::Sort::AsSaid => level.undecided += 1,
                media::Sort::Text => match media::says_media(name.as_bytes(), text.as_bytes()) {
                    Some(true) => level.says_media = true,
                    Some(false) => level.says_text = true,
                    None => {}
                },
            }
            return 0;
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| media_of(item, name, &mut inside)).sum::<u64>()
        }
        Value::Object(members) if !members.is_empty() => {
            let member = |(member, value): (&String, &Value)| {
                name.clone_from(member);
                media_of(value, name, &mut inside)
            };
            members.iter().map(member).sum::<u64>()
        }
        _ => return 0,
    };
    if inside.says_media && !inside.says_text {
        sum += inside.undecided;
    }
    name.clear();
    sum
}

fn with_media() -> impl Strategy<Value = Value> {
    let long = "AAAA".repeat(80);
    let url = format!("data:image/png;base64,{long}");
    let texts = [long.as_str(), &url, "base64", "text", "image/png", "text/plain", "wav", "AAAA", "", "words"];
    let text = prop::sample::select(texts.map(str::to_owned).to_vec()).prop_map(Value::from);
    let name = prop::sample::select(
        ["type", "Type", "media_type", "mimeType", "format", "data", "url", "image", "x", "text"]
            .map(str::to_owned)
            .to_vec(),
    );
    let leaf = prop_oneof![6 => text, 1 => Just(Value::Null), 1 => Just(Value::from(7))];
    leaf.prop_recursive(5, 50, 6, move |inner| {
        prop_oneof![
            prop::collection::vec((name.clone(), inner.clone()), 0..6)
                .prop_map(|members| members.into_iter().collect()),
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn media_is_counted_as_a_tree_has_it(value in with_media(), name in prop::sample::select(vec!["data", "image", "type", "x"])) {
        let body = format!("{{\"{name}\":{value}}}");
        let mut cursor = Cursor::open(body.as_bytes()).unwrap();
        prop_assert!(cursor.next_member(&mut true).unwrap().is_some());
        cursor.skip().unwrap();
        let expected = media_of(&value, &mut name.to_owned(), &mut Level::default());
        prop_assert_eq!(cursor.media_items(), expected, "{}", body);
    }
}

#[test]
fn what_serde_json_reads_into_values_is_read_too() {
    for text in
        [r#"{}"#, r#" { } "#, r#"{"a":[],"b":{},"c":[[],{}],"d":"\u0000\ud83d\ude00","":-0.0e-0}"#, "\t{\r\n}\n"]
    {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        assert_eq!(scan(text.as_bytes()), Ok(()), "{text}");
    }
}

#[test]
fn a_hundred_and_twenty_eight_levels_and_no_more() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(scan(nested(128).as_bytes()), Ok(()));
    assert_eq!(scan(nested(129).as_bytes()), Err(BodyFlaw::TooDeep));
    assert_eq!(scan(nested(100_000).as_bytes()), Err(BodyFlaw::TooDeep));
    let objects = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    assert_eq!(scan(objects(128).as_bytes()), Ok(()));
    assert_eq!(scan(objects(129).as_bytes()), Err(BodyFlaw::TooDeep));
    let unclosed = "{\"a\":".repeat(1_000_000);
    assert_eq!(scan(unclosed.as_bytes()), Err(BodyFlaw::TooDeep));
}

#[test]
fn lone_surrogates_are_refused_in_names_at_every_depth_and_passed_over_in_text() {
    assert_eq!(scan(br#"{"a":"\ud83d"}"#), Ok(()), "truncated emoji in a prompt are the backend's business");
    for body in [r#"{"\ud83d":1}"#, r#"{"a":[{"x\udc00":1}]}"#, r#"{"a":{"b":1,"\ud83d\n":1}}"#] {
        assert!(matches!(scan(body.as_bytes()), Err(BodyFlaw::Syntax { .. })), "{body}");
    }
    assert_eq!(scan(r#"{"\ud83d\ude00":1}"#.as_bytes()), Ok(()));
}

#[test]
fn media_is_counted_where_it_stands_and_not_behind_it() {
    let long = "AAAA".repeat(100);
    let body = format!(
        r#"{{"a":[{{"b64_json":"{long}"}},"{long}",{{"text":"{long}"}}],"image":["data:image/x;base64,AA",{{}},"{long}"],"b":"{long}"}}"#
    );
    let mut cursor = Cursor::open(body.as_bytes()).unwrap();
    let mut first = true;
    while cursor.next_member(&mut first).unwrap().is_some() {
        cursor.skip().unwrap();
    }
    assert_eq!((cursor.media_items(), cursor.media_bytes()), (3, 400 + 22 + 400));
}

#[test]
fn base64_under_a_general_name_is_media_only_where_its_object_says_so() {
    let long = "AAAA".repeat(100);
    for (members, items) in [
        (r#""type":"base64","media_type":"image/png","data":"LONG""#, 1),
        (r#""data":"LONG","media_type":"image\/png","type":"base64""#, 1),
        (r#""mimeType":"image/png","data":"LONG""#, 1),
        (r#""data":"LONG","format":"wav""#, 1),
        (r#""type":"text","media_type":"text/plain","data":"LONG""#, 0),
        (r#""data":"LONG","media_type":"text/plain""#, 0),
        (r#""data":"LONG","type":"base64","t\u0079pe":"text""#, 0),
        (r#""type":"base64","data":"LONG","Type":"text""#, 0),
        (r#""data":"LONG""#, 0),
        (r#""data":"LONG","x":{"type":"base64"}"#, 0),
        (r#""x":{"data":"LONG"},"type":"base64","data":"LONG""#, 1),
        (r#""type":"base64","data":["LONG"]"#, 0),
    ] {
        let body = format!(r#"{{"a":[{{{}}}]}}"#, members.replace("LONG", &long));
        let mut cursor = Cursor::open(body.as_bytes()).unwrap();
        let mut first = true;
        while cursor.next_member(&mut first).unwrap().is_some() {
            cursor.skip().unwrap();
        }
        let bytes = items * long.len() as u64;
        assert_eq!((cursor.media_items(), cursor.media_bytes()), (items, bytes), "{members}");
    }
}
