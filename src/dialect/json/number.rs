//! JSON numbers: where one ends, and the few that are read.

use crate::policy::BodyFlaw;

/// Behind the number that begins at `start`: an optional minus, no leading zero, digits on both sides of a point.
///
/// # Errors
/// [`BodyFlaw::Syntax`].
pub(super) fn end(body: &[u8], start: usize) -> Result<usize, BodyFlaw> {
    let mut at = start + usize::from(body.get(start) == Some(&b'-'));
    at = if body.get(at) == Some(&b'0') { at + 1 } else { digits(body, at)? };
    if body.get(at) == Some(&b'.') {
        at = digits(body, at + 1)?;
    }
    if matches!(body.get(at), Some(b'e' | b'E')) {
        at += 1;
        at = digits(body, at + usize::from(matches!(body.get(at), Some(b'+' | b'-'))))?;
    }
    Ok(at)
}

#[inline]
fn digits(body: &[u8], start: usize) -> Result<usize, BodyFlaw> {
    let rest = body.get(start..).unwrap_or_default();
    let at = start + rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    if at == start { Err(BodyFlaw::Syntax { offset: at, expected: "a digit" }) } else { Ok(at) }
}

/// The value of a sound number that is written with at most 15 digits and nothing else.
pub(super) fn plain(token: &[u8]) -> Option<u64> {
    (token.len() <= 15).then_some(())?;
    token.iter().try_fold(0_u64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}
