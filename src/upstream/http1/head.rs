//! The heads of HTTP/1: a request's as it is written, an answer's as it is read.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use memchr::memchr;

use crate::headers::{AnswerHead, Headers, Reading, Value};
use crate::upstream::http1::Malformed;
use crate::upstream::http1::body::Rest;
use crate::upstream::request::{Outgoing, join};

/// The longest head of an answer, bytes.
pub const MOST_BYTES: usize = 64 * 1024;
/// The lines of an answer, with those that are added on their way to the client. Together no more than the allocator gives out most quickly (1 KiB).
const READING: Reading = Reading { most: 128, takes_lf: true, usual: (24, 640), added: 384 };

/// Bytes of a request's head that its headers do not account for, at most: what stands around the first line's parts, and the line of framing.
const OWN_LINES: usize = 64;

const NO_HEAD: Malformed = Malformed("the head of the answer is none of HTTP/1");

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
        let mut at = 0;
        let status = loop {
            match next_line(bytes, &mut at) {
                // Empty lines before an answer are passed over (RFC 9112 2.2).
                Ok(b"") => {}
                Ok(line) => break Status::read(line).ok_or(NO_HEAD)?,
                Err(start) => return unfinished(bytes, Status::may_begin(start)),
            }
        };
        let Some(headers) = Headers::read(bytes, &mut at, READING).map_err(|_| NO_HEAD)? else {
            return unfinished(bytes, may_begin_line(bytes.get(at..).unwrap_or_default()));
        };
        let Status { code, is_1_1 } = status;
        let status = StatusCode::from_u16(code).map_err(|_| Malformed("the answer's status is none"))?;
        let answer = AnswerHead { status, headers };
        let rest = rest(&answer, is_1_1, method)?;
        let keeps_alive = keeps_alive(&answer.headers, is_1_1) && rest != Rest::UntilClose;
        Ok(Some(Self { answer, rest, keeps_alive, length: at }))
    }
}

/// The line from `at` on, without its end (which may be a bare LF: RFC 9112 2.2), and `at` behind that. The start of a line that has no end is
/// an error.
fn next_line<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], &'a [u8]> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let end = memchr(b'\n', rest).ok_or(rest)?;
    *at += end + 1;
    let line = rest.get(..end).unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

/// What becomes of bytes that end amid a head.
fn unfinished(bytes: &[u8], is_sound: bool) -> Result<Option<Head>, Malformed> {
    match is_sound {
        true if bytes.len() < MOST_BYTES => Ok(None),
        true => Err(Malformed("the head of the answer is too long")),
        false => Err(NO_HEAD),
    }
}

/// The first line of an answer.
struct Status {
    code: u16,
    is_1_1: bool,
}

impl Status {
    /// With a reason, without one, or without the blank before it.
    fn read(line: &[u8]) -> Option<Self> {
        let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', code @ ..] = line else {
            return None;
        };
        let (code, reason) = code.split_at_checked(3)?;
        let is_sound = match reason {
            [] => true,
            [b' ', text @ ..] => Value::from_bytes(text).is_some(),
            _ => false,
        };
        let is_number = code.iter().all(u8::is_ascii_digit);
        let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')));
        (is_sound && is_number).then_some(Self { code, is_1_1: *minor == b'1' })
    }

    /// Whether a line that begins like this may yet be one: whether the rest of a good one makes it that.
    fn may_begin(start: &[u8]) -> bool {
        const GOOD: &[u8] = b"HTTP/1.1 200";
        let missing = GOOD.get(start.len()..).unwrap_or_default();
        match start.strip_suffix(b"\r") {
            Some(line) => line.is_empty() || Self::read(line).is_some(),
            None => Self::read(&[start, missing].concat()).is_some(),
        }
    }
}

/// The same for a header.
fn may_begin_line(start: &[u8]) -> bool {
    let rest = match start {
        [.., b'\r'] => &b"\n\r\n"[..],
        _ if start.is_empty() || start.contains(&b':') => b"\r\n\r\n",
        _ => b":\r\n\r\n",
    };
    Headers::read(&[start, rest].concat(), &mut 0, READING).is_ok()
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
    let values = headers.get_all(CONNECTION).iter().map(Value::as_bytes).filter(|value| value.is_ascii());
    let mut options = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    match is_1_1 {
        true => !options.any(|option| option.eq_ignore_ascii_case(b"close")),
        false => options.any(|option| option.eq_ignore_ascii_case(b"keep-alive")),
    }
}

/// The head of `request`: first where it goes (RFC 9110 7.2), last how long its body is; with room for so many bytes behind it.
pub fn write(request: &Outgoing, to: Destination<'_>, behind: usize) -> Vec<u8> {
    let method = request.method.as_str();
    let [prefix, path] = join(to.prefix, &request.path_and_query);
    let own = method.len() + prefix.len() + path.len() + to.host.len();
    let mut head = Vec::with_capacity(own + request.headers.wire_length() + OWN_LINES + behind);
    for piece in [method, " ", prefix, path, " HTTP/1.1\r\nhost: "] {
        head.extend_from_slice(piece.as_bytes());
    }
    head.extend_from_slice(to.host.as_bytes());
    head.extend_from_slice(b"\r\n");
    request.headers.write_to(&mut head);
    let length = request.body.len();
    let wants_length = length > 0 || matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    if wants_length {
        for piece in ["content-length: ", itoa::Buffer::new().format(length), "\r\n"] {
            head.extend_from_slice(piece.as_bytes());
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
