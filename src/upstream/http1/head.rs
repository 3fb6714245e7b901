//! The heads of HTTP/1: a request's as it is written, an answer's as it is read.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, response};
use http_body::Body;

use crate::upstream::http1::Malformed;
use crate::upstream::http1::body::Rest;
use crate::upstream::request::Whole;

/// The longest head of an answer, bytes.
pub const MOST_BYTES: usize = 64 * 1024;
/// Headers that are added to most answers on their way to the client: a map that has no room for them is made anew.
const ADDED_HEADERS: usize = 8;
/// The most headers of an answer.
const MOST_HEADERS: usize = 128;

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Status and headers.
    pub parts: response::Parts,
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
        let mut parts = Response::new(()).into_parts().0;
        parts.status = status.ok_or(Malformed("the answer's status is none"))?;
        parts.version = if read.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        parts.headers = headers(bytes, length, read.headers)?;
        let rest = rest(&parts, method)?;
        let keeps_alive = keeps_alive(&parts) && rest != Rest::UntilClose;
        Ok(Some(Self { parts, rest, keeps_alive, length }))
    }
}

/// The headers, whose values all stand in one copy of the head.
fn headers(bytes: &[u8], length: usize, read: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    const BAD: Malformed = Malformed("the answer has a header that is none");
    let copy = Bytes::copy_from_slice(bytes.get(..length).ok_or(BAD)?);
    let mut headers = HeaderMap::with_capacity(read.len() + ADDED_HEADERS);
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
fn rest(parts: &response::Parts, method: &Method) -> Result<Rest, Malformed> {
    let status = parts.status;
    let has_none = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if has_none || *method == Method::HEAD {
        return Ok(Rest::Over);
    }
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        return match is_chunked && parts.version == Version::HTTP_11 {
            true => Ok(Rest::chunks()),
            false => Err(Malformed("the answer comes in a transfer coding that is not chunked alone")),
        };
    }
    let mut told = None;
    for value in &parts.headers.get_all(CONTENT_LENGTH) {
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

fn keeps_alive(parts: &response::Parts) -> bool {
    let values = parts.headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut options = values.flat_map(|value| value.split(',')).map(str::trim);
    match parts.version {
        Version::HTTP_10 => options.any(|option| option.eq_ignore_ascii_case("keep-alive")),
        _ => !options.any(|option| option.eq_ignore_ascii_case("close")),
    }
}

/// The head of `request`, and how long its body is; with room for so many bytes behind it.
pub fn write(request: &Request<Whole>, behind: usize) -> Vec<u8> {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let method = request.method().as_str();
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    let mut head = Vec::with_capacity(method.len() + target.len() + lines + 64 + behind);
    for piece in [method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"] {
        head.extend_from_slice(piece);
    }
    for (name, value) in headers {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(piece);
        }
    }
    let length = request.body().size_hint().exact().unwrap_or(0);
    let wants_length = length > 0 || matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if wants_length {
        head.extend_from_slice(b"content-length: ");
        head.extend_from_slice(HeaderValue::from(length).as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
