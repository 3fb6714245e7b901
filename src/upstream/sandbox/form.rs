//! The fields of a multipart form. The body was validated before it came here, so this reads what it can and no more.

use memchr::memmem;
use serde_json::{Map, Value};

/// A form's parts; nothing for any other body.
pub(super) struct Form<'a> {
    parts: Option<Vec<Part<'a>>>,
}

struct Part<'a> {
    name: &'a str,
    is_file: bool,
    bytes: &'a [u8],
}

impl<'a> Form<'a> {
    /// Reads a body that says it is `multipart/form-data`.
    pub(super) fn read(content_type: Option<&'a [u8]>, body: &'a [u8]) -> Self {
        let boundary = content_type.and_then(|value| std::str::from_utf8(value).ok()).and_then(boundary);
        Self { parts: boundary.map(|boundary| parts(boundary, body)) }
    }

    /// Whether the body is a form at all.
    pub(super) fn is_form(&self) -> bool {
        self.parts.is_some()
    }

    /// The fields that are text, as an object of strings.
    pub(super) fn fields(&self) -> Value {
        let fields = self.all().filter(|part| !part.is_file).filter_map(|part| {
            let text = std::str::from_utf8(part.bytes).ok()?;
            Some((part.name.to_owned(), Value::String(text.to_owned())))
        });
        Value::Object(fields.collect::<Map<String, Value>>())
    }

    /// The first file.
    pub(super) fn file(&self) -> Option<&'a [u8]> {
        self.all().find(|part| part.is_file).map(|part| part.bytes)
    }

    fn all(&self) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter().flatten()
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let mut pieces = content_type.split(';');
    if !pieces.next()?.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(pieces, "boundary").filter(|boundary| !boundary.is_empty())
}

fn parameter<'a>(mut pieces: impl Iterator<Item = &'a str>, wanted: &str) -> Option<&'a str> {
    pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

fn parts<'a>(boundary: &str, body: &'a [u8]) -> Vec<Part<'a>> {
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(&between);
    let Some(mut rest) = body.strip_prefix(first.as_bytes()) else { return Vec::new() };
    let mut found = Vec::new();
    while let Some(end) = finder.find(rest) {
        let (whole, after) = rest.split_at(end);
        found.extend(part(whole));
        rest = after.get(between.len()..).unwrap_or_default();
    }
    found
}

fn part(whole: &[u8]) -> Option<Part<'_>> {
    let end = memmem::find(whole, b"\r\n\r\n")?;
    let (head, bytes) = whole.split_at(end);
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let name = parameter(disposition.split(';'), "name")?;
    let is_file = parameter(disposition.split(';'), "filename").is_some();
    Some(Part { name, is_file, bytes: bytes.get(4..).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=\"xyz\"";

    #[test]
    fn fields_and_the_file_are_found() {
        let body = b"--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--xyz\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRI\r\nFF\r\n--xyz--\r\n";
        let form = Form::read(Some(TYPE), body);
        assert_eq!(form.fields(), serde_json::json!({ "model": "whisper-1" }));
        assert_eq!(form.file(), Some(&b"RI\r\nFF"[..]));
    }

    #[test]
    fn whatever_is_no_form_has_no_parts() {
        assert!(!Form::read(Some(b"application/json"), b"{}").is_form());
        assert!(!Form::read(None, b"--x\r\n").is_form());
        for body in [&b""[..], b"--xyz", b"--xyz\r\n\r\n--xyz", b"--xyz\r\nx\r\n--xyz--"] {
            let form = Form::read(Some(TYPE), body);
            assert!(form.is_form() && form.file().is_none());
            assert_eq!(form.fields(), serde_json::json!({}));
        }
    }
}
