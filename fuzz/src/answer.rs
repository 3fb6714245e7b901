//! Any bytes as an upstream's answer over HTTP/1: where they are cut changes nothing, and a plain reader that sees them whole finds the same
//! body and the same end.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use keyward::upstream::http1::Malformed;
use keyward::upstream::http1::body::Rest;
use keyward::upstream::http1::head::Head;

/// What a body came to: its content, how many bytes it took, whether it is over, or that it is none.
type Body = Result<(Vec<u8>, usize, bool), Malformed>;

/// The first byte says where the body is cut, the second what was asked; the rest is what comes.
pub fn check(input: &[u8]) {
    let [cut, asked, bytes @ ..] = input else { return };
    let method = if asked % 8 == 0 { Method::HEAD } else { Method::POST };
    chunks(bytes, *cut);
    is_a_head_to_others(bytes);
    let Ok(Some(head)) = Head::read(bytes, &method) else { return };
    for length in 0..head.length {
        assert!(matches!(Head::read(&bytes[..length], &method), Ok(None)), "whole before its end");
    }
    let alone = Head::read(&bytes[..head.length], &method).expect("as before").expect("as before");
    assert_eq!((&alone.answer.headers, &alone.rest, alone.length), (&head.answer.headers, &head.rest, head.length));
    framing(&head, &method);
    let behind = &bytes[head.length..];
    let pieces = super::pieces::of(behind, *cut);
    assert_eq!(read(head.rest.clone(), &pieces), read(head.rest, &[behind]), "where it is cut changes the body");
}

/// httparse and the library's types take the same for a head, for the start of one, and for none; of a HEAD, since no length is looked at there.
fn is_a_head_to_others(bytes: &[u8]) {
    let mut room = [httparse::EMPTY_HEADER; 128];
    let mut read = httparse::Response::new(&mut room);
    let outcome = read.parse(bytes);
    let code = read.code.and_then(|code| StatusCode::from_u16(code).ok());
    match Head::read(bytes, &Method::HEAD) {
        Ok(Some(head)) => {
            assert_eq!(outcome, Ok(httparse::Status::Complete(head.length)), "no head to others");
            assert_eq!(Some(head.answer.status), code);
            let theirs = read.headers.iter().map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()));
            let ours = head.answer.headers.iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
            assert!(ours.eq(theirs), "both read the same headers");
        }
        Ok(None) => assert_eq!(outcome, Ok(httparse::Status::Partial), "not whole"),
        Err(_) => {
            let is_whole = matches!(outcome, Ok(httparse::Status::Complete(_)));
            assert!(!is_whole || code.is_none(), "a head to others");
        }
    }
}

/// What the head says of its body, read anew from its headers.
fn framing(head: &Head, method: &Method) {
    let (headers, status) = (&head.answer.headers, head.answer.status);
    let has_none = *method == Method::HEAD
        || status.as_u16() < 200
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    match &head.rest {
        Rest::Over => {
            let is_empty = headers.get_all(CONTENT_LENGTH).iter().any(|value| value.as_bytes().contains(&b'0'));
            assert!(has_none || is_empty, "no body for no reason");
        }
        Rest::Length(length) => {
            assert!(!has_none && !headers.contains_key(TRANSFER_ENCODING));
            for value in headers.get_all(CONTENT_LENGTH).iter() {
                for one in value.to_str().expect("digits").split(',') {
                    assert_eq!(one.trim().parse(), Ok(*length), "two readers see two lengths");
                }
            }
        }
        Rest::Chunks(_) => assert!(!has_none && headers.get_all(TRANSFER_ENCODING).iter().count() == 1),
        Rest::UntilClose => {
            assert!(!has_none && !head.keeps_alive);
            assert!(!headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING));
        }
    }
}

/// The same bytes as chunks, read by both.
fn chunks(bytes: &[u8], cut: u8) {
    let whole = read(Rest::chunks(), &[bytes]);
    assert_eq!(read(Rest::chunks(), &super::pieces::of(bytes, cut)), whole, "where they are cut changes the chunks");
    if let Ok((content, taken, true)) = whole {
        assert_eq!(plain(bytes), Some((content, taken)), "two readers see two bodies");
    }
}

fn read(mut rest: Rest, pieces: &[&[u8]]) -> Body {
    let (mut content, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let mut left = *piece;
        while let Some(found) = rest.next(&mut left)? {
            content.extend_from_slice(found);
        }
        taken += piece.len() - left.len();
        if rest.is_over() {
            assert!(rest.close().is_ok());
            break;
        }
    }
    Ok((content, taken, rest.is_over()))
}

/// Chunks as httparse reads their sizes, and their end.
fn plain(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let httparse::Status::Complete((length, size)) = httparse::parse_chunk_size(&bytes[at..]).ok()? else {
            return None;
        };
        at += length;
        if size == 0 {
            break;
        }
        let end = at + usize::try_from(size).ok()?;
        content.extend_from_slice(bytes.get(at..end)?);
        at = end + bytes.get(end..)?.starts_with(b"\r\n").then_some(2)?;
    }
    loop {
        let line = at + bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let is_last = line == at;
        at = line + 2;
        if is_last {
            return Some((content, at));
        }
    }
}
