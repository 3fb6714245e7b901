//! Any form: two careless readers of forms find the model that was found, and an edit of it touches nothing else.

use bytes::Bytes;
use keyward::dialect::describe::{BodyInput, Edits, describe};
use keyward::dialect::estimate::Estimator;
use keyward::policy::{DialectName, Endpoint};
use keyward::units::ModelName;

const ENDPOINTS: [Endpoint; 4] =
    [Endpoint::AudioTranscriptions, Endpoint::AudioTranslations, Endpoint::ImageEdits, Endpoint::ImageVariations];

/// The first byte chooses the call, the first line is the content type, the rest is the body.
pub fn check(input: &[u8]) {
    let [endpoint, rest @ ..] = input else { return };
    let Some(line_end) = rest.iter().position(|byte| *byte == b'\n') else { return };
    let (content_type, body) = (&rest[..line_end], Bytes::copy_from_slice(&rest[line_end + 1..]));
    let endpoint = ENDPOINTS[usize::from(*endpoint) % ENDPOINTS.len()];
    let estimator = Estimator::new(512);
    let read = |body: &Bytes| {
        let call = BodyInput {
            dialect: DialectName::OpenAi,
            endpoint,
            path_model: None,
            path_stream: false,
            model_free: false,
            content_type: Some(content_type),
            body,
        };
        describe(&call, &estimator)
    };
    let Ok(described) = read(&body) else { return };
    let Some(boundary) = boundary(content_type) else {
        assert!(
            serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok(),
            "accepted, but neither a form nor JSON"
        );
        return;
    };
    let model = described.facts.model.as_ref().map(ModelName::as_str).expect("a form names its model");
    let fields = by_search(&body, &boundary);
    assert_eq!(fields, by_lines(&body, &boundary), "two readers see two forms");
    assert_eq!(models(&fields), [model.as_bytes()]);

    let edits = Edits { model: Some("another"), output: Some(7), include_usage: true };
    let edited = described.splices.render(&body, &edits);
    let again = read(&edited).expect("an edited form is as sound as before");
    assert_eq!(again.facts.model.as_ref().map(ModelName::as_str), Some("another"));
    assert_eq!(
        (again.facts.stream, again.facts.estimate.choices),
        (described.facts.stream, described.facts.estimate.choices)
    );
    let others = |fields: Vec<Field>| fields.into_iter().filter(|field| !is_model(field)).collect::<Vec<_>>();
    assert_eq!(others(by_search(&edited, &boundary)), others(fields), "an edit reached another field");
    assert_eq!(described.splices.render(&body, &Edits::default()), body);
}

/// A field's name and content.
type Field = (Vec<u8>, Vec<u8>);

fn is_model(field: &Field) -> bool {
    field.0.eq_ignore_ascii_case(b"model")
}

fn models(fields: &[Field]) -> Vec<&[u8]> {
    fields.iter().filter(|field| is_model(field)).map(|field| field.1.as_slice()).collect()
}

/// Whatever stands behind the first `boundary=`, of a content type that is a form's.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let lower = content_type.to_ascii_lowercase();
    if !lower.trim_ascii_start().starts_with(b"multipart/") {
        return None;
    }
    let at = lower.windows(9).position(|window| window == b"boundary=")? + 9;
    let value = content_type[at..].trim_ascii();
    Some(value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value).to_vec())
}

/// Splits at every occurrence of the delimiter, wherever it stands, as small scripts do.
fn by_search(body: &[u8], boundary: &[u8]) -> Vec<Field> {
    let delimiter = [b"--", boundary].concat();
    let mut fields = Vec::new();
    let mut rest = body;
    let mut is_first = true;
    loop {
        let end = rest.windows(delimiter.len()).position(|window| window == delimiter);
        let part = &rest[..end.unwrap_or(rest.len())];
        if !is_first && !part.starts_with(b"--") {
            let part = part.strip_prefix(b"\r\n").unwrap_or(part);
            fields.extend(field(part.strip_suffix(b"\r\n").unwrap_or(part)));
        }
        is_first = false;
        let Some(end) = end else { return fields };
        rest = &rest[end + delimiter.len()..];
    }
}

/// Goes line by line, takes a bare LF for a line end, and blanks behind a delimiter for nothing.
fn by_lines(body: &[u8], boundary: &[u8]) -> Vec<Field> {
    let delimiter = [b"--", boundary].concat();
    let mut fields = Vec::new();
    let mut part: Option<Vec<u8>> = None;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let bare = line.trim_ascii_end();
        if bare == delimiter.trim_ascii_end() || bare.strip_suffix(b"--") == Some(&delimiter) {
            if let Some(part) = part.take() {
                fields.extend(field(part.strip_suffix(b"\r\n").unwrap_or(&part)));
            }
            if bare.ends_with(b"--") && bare.len() == delimiter.len() + 2 {
                return fields;
            }
            part = Some(Vec::new());
        } else if let Some(part) = &mut part {
            part.extend_from_slice(line);
        }
    }
    fields
}

/// The name in a part's `content-disposition`, found by splitting at semicolons, and what follows its empty line.
fn field(part: &[u8]) -> Option<Field> {
    let head = part.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&part[..head]).into_owned();
    let disposition = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let name = disposition.split(';').find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        key.trim().eq_ignore_ascii_case("name").then(|| value.trim().trim_matches('"').as_bytes().to_vec())
    })?;
    Some((name, part[head + 4..].to_vec()))
}
