//! A list of lines beside the map of the library, and what may stand in a line.

use http::header::{ACCEPT, VIA};
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 4] = ["via", "accept", "x-a", "x-b"];

#[derive(Debug, Clone)]
enum Step {
    Insert(usize, u8),
    Append(usize, u8),
    Remove(usize),
    Copy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize, any::<u8>()).prop_map(|(name, value)| Step::Insert(name, value)),
        3 => (0..4_usize, any::<u8>()).prop_map(|(name, value)| Step::Append(name, value)),
        2 => (0..4_usize).prop_map(Step::Remove),
        1 => Just(Step::Copy),
    ]
}

const READING: Reading = Reading { most: 100, takes_lf: false, usual: (4, 64), added: 8 };

fn read(lines: &[&[u8]]) -> Result<Headers, NoHeader> {
    let block = lines.iter().flat_map(|line| [line, END]).chain([END]).collect::<Vec<_>>().concat();
    let mut at = 0;
    let headers = Headers::read(&[&block, &b"behind"[..]].concat(), &mut at, READING)?.expect("there is an empty line");
    assert_eq!(at, block.len());
    Ok(headers)
}

fn written(headers: &Headers) -> Vec<u8> {
    let mut out = Vec::new();
    headers.write_to(&mut out);
    assert_eq!(out.len(), headers.wire_length());
    out
}

proptest! {
    #[test]
    fn a_list_is_what_a_map_is(steps in prop::collection::vec(step(), 0..20)) {
        let (mut list, mut map, mut order) = (Headers::new(), HeaderMap::new(), Vec::new());
        for step in steps {
            match step {
                Step::Insert(name, value) => {
                    list.insert_number(HeaderName::from_static(NAMES[name]), value.into());
                    map.insert(NAMES[name], HeaderValue::from(u16::from(value)));
                    order.retain(|(other, _)| *other != name);
                    order.push((name, value));
                }
                Step::Append(name, value) => {
                    list.append(HeaderName::from_static(NAMES[name]), &HeaderValue::from(u16::from(value)));
                    map.append(NAMES[name], HeaderValue::from(u16::from(value)));
                    order.push((name, value));
                }
                Step::Remove(name) => {
                    list.remove(NAMES[name]);
                    map.remove(NAMES[name]);
                    order.retain(|(other, _)| *other != name);
                }
                Step::Copy => {
                    let copy = list.clone();
                    prop_assert_eq!(&copy, &list);
                    prop_assert_eq!(copy.text.len(), copy.wire_length(), "nothing that was taken out is copied");
                    list = copy;
                }
            }
        }
        prop_assert_eq!(list.len(), map.len());
        for name in NAMES {
            prop_assert!(list.get(name).map(Value::as_bytes) == map.get(name).map(HeaderValue::as_bytes));
            prop_assert_eq!(list.contains_key(name), map.contains_key(name));
            prop_assert!(list.get_all(name).iter().eq(map.get_all(name).iter().map(Value::from)));
        }
        let lines = order.iter().map(|(name, value)| format!("{}: {value}\r\n", NAMES[*name])).collect::<String>();
        prop_assert_eq!(String::from_utf8(written(&list)).unwrap(), lines);
        let mut without = Vec::new();
        list.write_without(&mut without, "X-A");
        list.remove("x-a");
        prop_assert_eq!(without, written(&list));
        map.remove("x-a");
        let again = Headers::from(map.clone());
        prop_assert_eq!(HeaderMap::from(list), map.clone());
        prop_assert_eq!(HeaderMap::from(again), map);
    }

    /// What the library's types refuse is refused, and nothing else; what is taken stands on one line.
    #[test]
    fn a_line_is_what_the_library_takes(
        name in "[!-~]{0,6}", inside in prop::collection::vec(any::<u8>(), 0..3), value in prop::collection::vec(any::<u8>(), 0..8)
    ) {
        for bytes in [name.clone().into_bytes(), [name.as_bytes(), &inside].concat()] {
            if bytes.contains(&b':') {
                continue;
            }
            let line = [&bytes[..], b":", &value].concat();
            if line.contains(&b'\n') {
                continue;
            }
            let value = value.trim_ascii_start().trim_ascii_end();
            let theirs = HeaderName::from_bytes(&bytes).ok().zip(HeaderValue::from_bytes(value).ok());
            let ends_badly = line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
            match (read(&[&line]), theirs.filter(|_| !ends_badly)) {
                (Err(_), None) => {}
                (Ok(headers), Some((name, value))) => {
                    let expected = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat();
                    prop_assert_eq!(written(&headers), expected);
                    prop_assert!(headers.get(&name) == Some(Value::from(&value)));
                }
                (ours, theirs) => prop_assert!(false, "{ours:?} and {theirs:?} of {}", line.escape_ascii()),
            }
        }
    }

    #[test]
    fn a_value_is_what_the_library_takes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(Value::from_bytes(&bytes).is_some(), HeaderValue::from_bytes(&bytes).is_ok());
        let text = String::from_utf8_lossy(&bytes);
        prop_assert_eq!(Value::of(&text).is_some(), HeaderValue::from_str(&text).is_ok());
        if let Ok(theirs) = HeaderValue::from_bytes(&bytes) {
            prop_assert_eq!(Value::from(&theirs).to_str().ok(), theirs.to_str().ok());
        }
    }
}

#[test]
fn each_byte_is_judged_as_the_library_judges_it() {
    for byte in 0..=u8::MAX {
        let name = read(&[&[byte, b':'], &[b'X', byte, b'x', b':']]);
        assert_eq!(name.is_ok(), HeaderName::from_bytes(&[byte]).is_ok(), "{byte}");
        assert_eq!(
            Value::from_bytes(&[b'a', byte, b'b']).is_some(),
            HeaderValue::from_bytes(&[byte]).is_ok(),
            "{byte}"
        );
    }
    let long = |length: usize| [&vec![b'n'; length][..], b":"].concat();
    assert!(read(&[&long(65_535)]).is_ok_and(|headers| headers.contains_key("n".repeat(65_535))));
    assert!(HeaderName::from_bytes(&[b'n'; 65_535]).is_ok() && HeaderName::from_bytes(&[b'n'; 65_536]).is_err());
    assert!(read(&[&long(65_536)]).is_err());
}

#[test]
fn what_is_no_header_is_refused() {
    for line in
        ["host", ": b", "x-a : b", " x-a: b", "x a: b", "x: a\rb", "x: a\nb", "x: \0", "x\r: a", "x: a\r", "x: \x7f"]
    {
        assert_eq!(read(&[b"host: h", line.as_bytes(), b"x: y"]), Err(NoHeader), "{line:?}");
    }
    let long = format!("x: {}", "a".repeat(1_000));
    assert!(read(&[long.as_bytes()]).is_ok());
    assert_eq!(read(&[long.as_bytes(), b"x: \0"]), Err(NoHeader), "controls are counted beyond what a byte counts");
    assert_eq!(read(&[&[b"x: ", &[0; 256][..]].concat()]), Err(NoHeader));
    assert!(read(&[&b"x: y"[..]; 100]).is_ok_and(|headers| headers.len() == 100));
    assert_eq!(read(&[&b"x: y"[..]; 101]), Err(NoHeader));
}

#[test]
fn a_bare_lf_ends_a_line_where_it_may() {
    let lines = |takes_lf| Headers::read(b"a: b\nc:d \r\n\n", &mut 0, Reading { takes_lf, ..READING });
    assert_eq!(lines(false), Err(NoHeader));
    assert_eq!(written(&lines(true).expect("headers").expect("whole")), b"a: b\r\nc: d\r\n");
    let mut at = 0;
    assert_eq!(Headers::read(b"a: b\r\nc", &mut at, READING), Ok(None));
    assert_eq!(at, 6, "where the line begins that has no end");
    assert_eq!(Headers::read(b"a: \0\r\nc", &mut 0, READING), Err(NoHeader));
}

#[test]
fn lines_keep_their_order_and_no_value_is_printed() {
    let headers: Headers = [(VIA, "1"), (ACCEPT, "secret"), (VIA, "2")]
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["via", "accept", "via"]);
    assert_eq!(headers.get_all(VIA).iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(format!("{headers:?}"), r#"["via", "accept", "via"]"#);
    assert!(!format!("{:?}", headers.get(ACCEPT)).contains("secret"));
    assert!(headers.contains_key("Accept"), "a name is compared without regard to case");
}

#[test]
fn what_is_kept_out_of_tables_stays_so() {
    let mut secret = HeaderValue::from_static("secret");
    secret.set_sensitive(true);
    let mut headers = Headers::new();
    headers.insert(ACCEPT, &secret);
    headers.append(VIA, Value::from_static("1"));
    let mut copy = headers.clone();
    copy.insert(VIA, headers.get(ACCEPT).expect("it was put"));
    let map = HeaderMap::from(copy);
    assert!(map[ACCEPT].is_sensitive() && map[VIA].is_sensitive());
    assert!(!HeaderMap::from(headers)[VIA].is_sensitive());
}
