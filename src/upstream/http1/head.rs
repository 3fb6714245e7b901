//! The heads of HTTP/1: a request's as it is written, an answer's as it is read.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};

use crate::headers::{AnswerHead, Headers};
use crate::upstream::http1::Malformed;
use crate::upstream::http1::body::Rest;
use crate::upstream::request::{Outgoing, join};

/// The longest head of an answer, bytes.
pub const MOST_BYTES: usize = 64 * 1024;
/// Headers that are added to most answers on their way to the client: a map that has no room for them is made anew.
const ADDED_HEADERS: usize = 8;
/// The most headers of an answer.
const MOST_HEADERS: usize = 128;

/// Bytes of a request's head that its headers do not account for, at most: what stands around the first line's parts, and the line of framing.
const OWN_LINES: usize = 64;

/// Where on the other side a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// What stands before the API's own path.
    pub prefix: &'a str,
    /// The `Host`.
    pub host: &'a HeaderValue,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Status and headers.
    pub answer: AnswerHead,
    /// Its body.
    pub rest: Rest,
    /// Whether the connection may be used again.
    pub keeps_alive: bool,
    /// Bytes of the head.
    pub length: usize,
}

impl Head {
    /// Reads what `bytes` begin with, an answer to a request of `method`. `None` when that is not whole yet.
    ///
    /// # Errors
    /// What two readers could read in two ways, and what is no head.
    pub fn read(bytes: &[u8], method: &Method) -> Result<Option<Self>, Malformed> {
        let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut read = httparse::Response::new(&mut []);
        let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut read, bytes, &mut room);
        let length = match outcome {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < MOST_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(Malformed("the head of the answer is too long")),
            Err(_) => return Err(Malformed("the head of the answer is none of HTTP/1")),
        };
        let status = read.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Malformed("the answer's status is none"))?;
        let is_1_1 = read.version != Some(0);
        let answer = AnswerHead { status, headers: headers(bytes, length, read.headers)? };
        let rest = rest(&answer, is_1_1, method)?;
        let keeps_alive = keeps_alive(&answer.headers, is_1_1) && rest != Rest::UntilClose;
        Ok(Some(Self { answer, rest, keeps_alive, length }))
    }
}

/// The headers, whose values all stand in one copy of the head.
fn headers(bytes: &[u8], length: usize, read: &[httparse::Header<'_>]) -> Result<Headers, Malformed> {
    const BAD: Malformed = Malformed("the answer has a header that is none");
    let copy = Bytes::copy_from_slice(bytes.get(..length).ok_or(BAD)?);
    let mut headers = Headers::with_capacity(read.len() + ADDED_HEADERS);
    for header in read {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| BAD)?;
        // All of them are slices of `bytes`; an empty one may be of nowhere.
        let start = (header.value.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize);
        let value = match start.filter(|_| !header.value.is_empty()) {
            Some(start) if start + header.value.len() <= length => copy.slice(start..start + header.value.len()),
            _ => Bytes::copy_from_slice(header.value),
        };
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| BAD)?);
    }
    Ok(headers)
}

/// RFC 9112 6.3, but for what it leaves to guessing.
fn rest(answer: &AnswerHead, is_1_1: bool, method: &Method) -> Result<Rest, Malformed> {
    let status = answer.status;
    let has_none = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if has_none || *method == Method::HEAD {
        return Ok(Rest::Over);
    }
    let mut codings = answer.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        return match is_chunked && is_1_1 {
            true => Ok(Rest::chunks()),
            false => Err(Malformed("the answer comes in a transfer coding that is not chunked alone")),
        };
    }
    let mut told = None;
    for value in answer.headers.get_all(CONTENT_LENGTH).iter() {
        for one in value.as_bytes().split(|byte| *byte == b',') {
            let digits = one.trim_ascii();
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
            let number: u64 = number.ok_or(Malformed("the answer's length is no number"))?;
            if told.is_some_and(|told| told != number) {
                return Err(Malformed("the answer has two lengths"));
            }
            told = Some(number);
        }
    }
    Ok(told.map_or(Rest::UntilClose, Rest::length))
}

fn keeps_alive(headers: &Headers, is_1_1: bool) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut options = values.flat_map(|value| value.split(',')).map(str::trim);
    match is_1_1 {
        true => !options.any(|option| option.eq_ignore_ascii_case("close")),
        false => options.any(|option| option.eq_ignore_ascii_case("keep-alive")),
    }
}

/// The head of `request`: first where it goes (RFC 9110 7.2), last how long its body is; with room for so many bytes behind it.
pub fn write(request: &Outgoing, to: Destination<'_>, behind: usize) -> Vec<u8> {
    let method = request.method.as_str();
    let [prefix, path] = join(to.prefix, &request.path_and_query);
    let lines = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    let own = method.len() + prefix.len() + path.len() + to.host.len();
    let mut head = Vec::with_capacity(own + lines + OWN_LINES + behind);
    for piece in [method, " ", prefix, path, " HTTP/1.1\r\nhost: "] {
        head.extend_from_slice(piece.as_bytes());
    }
    head.extend_from_slice(to.host.as_bytes());
    for (name, value) in &request.headers {
        for piece in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
            head.extend_from_slice(piece);
        }
    }
    let length = request.body.len();
    let wants_length = length > 0 || matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    if wants_length {
        head.extend_from_slice(b"\r\ncontent-length: ");
        head.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    }
    head.extend_from_slice(b"\r\n\r\n");
    head
}
