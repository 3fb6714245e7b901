//! Forms (audio, images): the part of RFC 7578 that every parser reads alike. Anything on which they are known to differ is
//! refused: preambles, folded headers, escapes and encodings in names, a boundary inside content, one field sent twice.

mod part;
#[cfg(test)]
mod tests;

use std::ops::Range;

use memchr::memmem;

use crate::dialect::describe::{FormMember, form_member};
use crate::policy::BodyFlaw;
use crate::units::ModelName;

use part::Part;

/// The longest boundary (RFC 2046 5.1.1).
const BOUNDARY_MAX_BYTES: usize = 70;

/// The separator of a form's parts: 1 to 70 of RFC 2046's `bchars`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(Box<[u8]>);

/// What a form says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// The model and the range of its value.
    pub model: Option<(ModelName, Range<usize>)>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// How many answers (images) are asked for, 1 to 128.
    pub n: Option<u64>,
    /// Bytes of all parts that are no files.
    pub text_bytes: u64,
    /// How many parts are files.
    pub files: u64,
    /// Bytes of those.
    pub file_bytes: u64,
}

fn flaw(expected: &'static str) -> BodyFlaw {
    BodyFlaw::Multipart { expected }
}

impl Boundary {
    /// Reads what follows `multipart/form-data;` in a `Content-Type`: the boundary and nothing else. Unquoted it must be a
    /// token; quoted it may hold all of `bchars`, but no escapes.
    ///
    /// # Errors
    /// [`BodyFlaw::Multipart`].
    pub fn from_parameters(parameters: &[u8]) -> Result<Self, BodyFlaw> {
        const EXPECTED: BodyFlaw = BodyFlaw::Multipart { expected: "one boundary parameter and no other" };
        let parameter = parameters.trim_ascii();
        let equals = memchr::memchr(b'=', parameter).ok_or(EXPECTED)?;
        let (name, value) =
            (parameter.get(..equals).unwrap_or_default(), parameter.get(equals + 1..).unwrap_or_default());
        if !name.eq_ignore_ascii_case(b"boundary") {
            return Err(EXPECTED);
        }
        let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let is_sound = match quoted {
            Some(inner) => inner.iter().all(|byte| is_bchar(*byte)) && inner.last() != Some(&b' '),
            None => value.iter().all(|byte| is_bchar(*byte) && part::is_token(*byte)),
        };
        let boundary = quoted.unwrap_or(value);
        if boundary.is_empty() || boundary.len() > BOUNDARY_MAX_BYTES || !is_sound {
            return Err(flaw("a boundary of 1 to 70 characters of RFC 2046"));
        }
        Ok(Self(boundary.into()))
    }
}

fn is_bchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte)
}

/// Reads a whole form.
///
/// # Errors
/// [`BodyFlaw::Multipart`] for its shape, and what a JSON body gets for its members: duplicate, misspelled, refused, bad.
pub fn read(body: &[u8], boundary: &Boundary) -> Result<Form, BodyFlaw> {
    let mut form = Form::default();
    let mut seen = Vec::new();
    for range in parts(body, boundary)? {
        let part = Part::read(body, range)?;
        note(&mut form, &part, body, &mut seen)?;
    }
    Ok(form)
}

/// The ranges of the parts, headers included: between two delimiter lines each. The boundary may stand nowhere else, so no
/// reader can find another part.
fn parts(body: &[u8], boundary: &Boundary) -> Result<Vec<Range<usize>>, BodyFlaw> {
    let dashed = [b"--", boundary.0.as_ref()].concat();
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    for at in memmem::find_iter(body, &dashed) {
        let behind = at + dashed.len();
        let rest = body.get(behind..).unwrap_or_default();
        if let Some(start) = open {
            let end = at.checked_sub(2).filter(|end| *end >= start && body.get(*end..at) == Some(b"\r\n"));
            parts.push(start..end.ok_or(flaw("the boundary only at the start of a line"))?);
        } else if at != 0 {
            return Err(flaw("the boundary at the very start"));
        }
        if rest.starts_with(b"\r\n") {
            open = Some(behind + 2);
        } else if matches!(rest, b"--" | b"--\r\n") && open.is_some() {
            return Ok(parts);
        } else {
            return Err(flaw("a line end behind the boundary, or two hyphens and the end of the body"));
        }
    }
    Err(flaw("a closing boundary"))
}

/// Takes what the rules need from one part.
fn note(form: &mut Form, part: &Part<'_>, body: &[u8], seen: &mut Vec<&'static str>) -> Result<(), BodyFlaw> {
    let value = body.get(part.content.clone()).unwrap_or_default();
    if part.is_file {
        form.files += 1;
        form.file_bytes += value.len() as u64;
    } else {
        form.text_bytes += value.len() as u64;
    }
    let Some((name, member)) = form_member(part.name)? else { return Ok(()) };
    if member == FormMember::Refused {
        return Err(BodyFlaw::MemberNotAllowed { member: name });
    }
    if seen.contains(&name) {
        return Err(BodyFlaw::DuplicateMember { member: name });
    }
    seen.push(name);
    part.check_watched()?;
    let bad = |expected| BodyFlaw::BadMember { member: name, expected };
    match member {
        FormMember::Model => {
            let text = std::str::from_utf8(value).ok().and_then(ModelName::new);
            let model = text.ok_or(bad("1 to 256 of A-Z a-z 0-9 . _ : / @ + -, without \"..\""))?;
            form.model = Some((model, part.content.clone()));
        }
        FormMember::Stream => {
            form.stream = match value {
                b"true" => true,
                b"false" => false,
                _ => return Err(bad("true or false")),
            };
        }
        FormMember::N => {
            let is_plain = value.len() <= 3 && value.first() != Some(&b'0') && value.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(value).ok().filter(|_| is_plain).and_then(|text| text.parse().ok());
            form.n = Some(number.filter(|n| (1..=128).contains(n)).ok_or(bad("an integer from 1 to 128"))?);
        }
        FormMember::Once | FormMember::Refused => {}
    }
    Ok(())
}
