//! One part of a form: its headers, read strictly, and where its content is.

use std::ops::Range;

use memchr::memmem;

use crate::policy::BodyFlaw;

/// Bytes of one part's headers, at most.
const HEADERS_MAX_BYTES: usize = 4_096;

/// Headers of one part, at most.
const HEADERS_MAX: usize = 16;

/// A part: what its `Content-Disposition` says, and what decides whether all readers see the same value in it.
pub(super) struct Part<'a> {
    /// The field's name.
    pub(super) name: &'a [u8],
    /// Whether it is a file: it has a file name, or a type that is not text.
    pub(super) is_file: bool,
    /// The range of its content in the body.
    pub(super) content: Range<usize>,
    has_file_name: bool,
    is_plain_text: bool,
    is_unencoded: bool,
}

#[derive(Default)]
struct Headers<'a> {
    disposition: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
}

fn flaw(expected: &'static str) -> BodyFlaw {
    BodyFlaw::Multipart { expected }
}

/// RFC 9110's token characters.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl<'a> Part<'a> {
    /// Reads the part that `range` of `body` is.
    ///
    /// # Errors
    /// [`BodyFlaw::Multipart`].
    pub(super) fn read(body: &'a [u8], range: Range<usize>) -> Result<Self, BodyFlaw> {
        let bytes = body.get(range.clone()).unwrap_or_default();
        let window = bytes.get(..HEADERS_MAX_BYTES).unwrap_or(bytes);
        let length =
            memmem::find(window, b"\r\n\r\n").ok_or(flaw("at most 4096 bytes of headers and an empty line"))?;
        let headers = Headers::read(bytes.get(..length).unwrap_or_default())?;
        let disposition = headers.disposition.ok_or(flaw("a content-disposition in each part"))?;
        let (name, has_file_name) = parse_disposition(disposition)?;
        if name.eq_ignore_ascii_case(b"_charset_") {
            return Err(flaw("no default character set"));
        }
        let kind = headers.kind.unwrap_or(b"text/plain");
        if kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/")) {
            return Err(flaw("no form within a form"));
        }
        let is_text = kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"));
        let encoding = headers.encoding.unwrap_or(b"binary");
        Ok(Self {
            name,
            is_file: has_file_name || !is_text,
            content: range.start + length + 4..range.end,
            has_file_name,
            is_plain_text: is_plain_text(kind),
            is_unencoded: [b"binary".as_slice(), b"7bit", b"8bit"]
                .iter()
                .any(|known| encoding.eq_ignore_ascii_case(known)),
        })
    }

    /// Whether every reader sees the same value in a watched field.
    ///
    /// # Errors
    /// [`BodyFlaw::Multipart`] for a file name, an encoding or a character set.
    pub(super) fn check_watched(&self) -> Result<(), BodyFlaw> {
        match (self.has_file_name, self.is_plain_text, self.is_unencoded) {
            (false, true, true) => Ok(()),
            (true, _, _) => Err(flaw("no file name on a watched field")),
            (_, false, _) => Err(flaw("plain UTF-8 text in a watched field")),
            (_, _, false) => Err(flaw("no content-transfer-encoding on a watched field")),
        }
    }
}

impl<'a> Headers<'a> {
    fn read(block: &'a [u8]) -> Result<Self, BodyFlaw> {
        let mut headers = Self::default();
        let mut rest = Some(block);
        for _ in 0..HEADERS_MAX {
            let Some(from) = rest else { return Ok(headers) };
            let (line, behind) = match memmem::find(from, b"\r\n") {
                Some(at) => (from.get(..at).unwrap_or_default(), from.get(at + 2..)),
                None => (from, None),
            };
            headers.line(line)?;
            rest = behind;
        }
        if rest.is_none() { Ok(headers) } else { Err(flaw("at most 16 headers in a part")) }
    }

    fn line(&mut self, line: &'a [u8]) -> Result<(), BodyFlaw> {
        const EXPECTED: BodyFlaw =
            BodyFlaw::Multipart { expected: "part headers as RFC 5322 writes them, without folding" };
        let colon = memchr::memchr(b':', line).ok_or(EXPECTED)?;
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        let is_clean =
            std::str::from_utf8(value).is_ok() && !value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || !is_clean {
            return Err(EXPECTED);
        }
        let slot = if name.eq_ignore_ascii_case(b"content-disposition") {
            &mut self.disposition
        } else if name.eq_ignore_ascii_case(b"content-type") {
            &mut self.kind
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            &mut self.encoding
        } else {
            return Ok(());
        };
        if slot.replace(value.trim_ascii()).is_some() { Err(flaw("each part header once")) } else { Ok(()) }
    }
}

fn is_plain_text(kind: &[u8]) -> bool {
    let mut pieces = kind.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pieces.next().is_some_and(|essence| essence.eq_ignore_ascii_case(b"text/plain"))
        && pieces.all(|parameter| {
            [b"charset=utf-8".as_slice(), b"charset=\"utf-8\"", b"charset=us-ascii"]
                .iter()
                .any(|known| parameter.eq_ignore_ascii_case(known))
        })
}

/// `form-data; name="x"` and perhaps `; filename="y"` or `; filename*=...`: the name, and whether there is a file name.
fn parse_disposition(value: &[u8]) -> Result<(&[u8], bool), BodyFlaw> {
    let (kind, mut rest) = value.split_at(memchr::memchr(b';', value).unwrap_or(value.len()));
    if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return Err(flaw("form-data in each part"));
    }
    let (mut name, mut file_name, mut extended) = (None, None, None);
    while let Some(behind) = rest.strip_prefix(b";") {
        let parameter = parameter(behind.trim_ascii_start())?;
        let slot = match parameter.key.to_ascii_lowercase().as_slice() {
            b"name" => &mut name,
            b"filename" => &mut file_name,
            b"filename*" => &mut extended,
            _ => return Err(flaw("no parameter but name and filename")),
        };
        if slot.replace(parameter.value).is_some() {
            return Err(flaw("each parameter once"));
        }
        rest = parameter.rest.trim_ascii_start();
    }
    if !rest.is_empty() {
        return Err(flaw("a semicolon between parameters"));
    }
    // A reader who splits at semicolons and trims what he gets would find another name, perhaps that of a field which stands there already.
    let is_plain =
        |name: &&[u8]| !name.is_empty() && !name.iter().any(|b| b"%;".contains(b)) && name.trim_ascii() == *name;
    let name = name.filter(is_plain);
    Ok((name.ok_or(flaw("a plain name in each part"))?, file_name.is_some() || extended.is_some()))
}

/// A parameter of a header, and what follows it.
struct Parameter<'a> {
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

/// The `key=value` that `text` begins with. Quoted values hold no backslash, and nothing that a reader who splits at semicolons
/// would take for another parameter.
fn parameter(text: &[u8]) -> Result<Parameter<'_>, BodyFlaw> {
    let equals = memchr::memchr(b'=', text).ok_or(flaw("a value for each parameter"))?;
    let (key, behind) = (text.get(..equals).unwrap_or_default(), text.get(equals + 1..).unwrap_or_default());
    if let Some(inner) = behind.strip_prefix(b"\"") {
        let close = memchr::memchr(b'"', inner).ok_or(flaw("a closing quotation mark"))?;
        let value = inner.get(..close).unwrap_or_default();
        if value.contains(&b'\\') || (value.contains(&b';') && value.contains(&b'=')) {
            return Err(flaw("quoted names without escapes"));
        }
        return Ok(Parameter { key, value, rest: inner.get(close + 1..).unwrap_or_default() });
    }
    let end = behind.iter().position(|byte| !is_token(*byte)).unwrap_or(behind.len());
    if end == 0 {
        return Err(flaw("a value for each parameter"));
    }
    let (value, rest) = behind.split_at(end);
    Ok(Parameter { key, value, rest })
}
