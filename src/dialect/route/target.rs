//! The bytes of a request target: what no path and no query may hold, and what of a query is not forwarded.

use std::borrow::Cow;

use crate::policy::{BodyFlaw, HeadFlaw, Refusal};
use crate::units::ModelName;

/// Query parameters that hold a credential for some backend. None of them is forwarded: the upstream's own is put in, and a
/// second one beside it would make the backend choose. Gemini's is `key`; Google's front end also takes the two tokens, Azure's
/// the rest.
const CREDENTIAL_PARAMETERS: [&str; 6] =
    ["key", "access_token", "oauth_token", "api_key", "api-key", "subscription-key"];

/// Parameters by which Google's APIs, all of them, leave out of an answer what was not asked for (its usage, say), wrap it into a script or
/// read a request as another one, or as somebody else's (<https://cloud.google.com/apis/docs/system-parameters>). Any may begin with a `$`.
const SYSTEM_PARAMETERS: [&str; 6] = ["fields", "callback", "httpmethod", "httpheaders", "userproject", "quotauser"];
/// Another content type of the request.
const CONTENT_TYPE: &str = "$ct";
/// The encodings of an answer that can be metered, or that are files.
const ENCODINGS: [&str; 3] = ["json", "sse", "media"];

/// Refuses every path that some backend could read as another one (SECURITY 1).
pub(super) fn check_path(path: &str) -> Result<(), Refusal> {
    const FLAW: Refusal = Refusal::Head(HeadFlaw::Path);
    let mut rest = path.as_bytes();
    if rest.first() != Some(&b'/') {
        return Err(FLAW);
    }
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'/' => match after {
                [b'/', ..] | [b'.'] | [b'.', b'.'] | [b'.', b'/', ..] | [b'.', b'.', b'/', ..] => return Err(FLAW),
                _ => after,
            },
            b'%' => match escaped(after) {
                // Encoded, these are what the same byte bare is refused for; `%25` hides a second round of decoding.
                Some(b'.' | b'/' | b'\\' | b';' | b'%' | 0..=0x20 | 0x7f..) | None => return Err(FLAW),
                Some(_) => after.get(2..).unwrap_or_default(),
            },
            b'\\' | b';' | 0..=0x20 | 0x7f.. => return Err(FLAW),
            _ => after,
        };
    }
    Ok(())
}

/// Refuses a query with control or non-ASCII bytes, bare or (controls) encoded, broken escapes, and `;`, which some parsers
/// take for `&`.
pub(super) fn check_query(query: &str) -> Result<(), Refusal> {
    const FLAW: Refusal = Refusal::Head(HeadFlaw::Query);
    let mut rest = query.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => match escaped(after) {
                Some(0..=0x1f | 0x7f) | None => return Err(FLAW),
                Some(_) => after.get(2..).unwrap_or_default(),
            },
            b';' | 0..=0x20 | 0x7f.. => return Err(FLAW),
            _ => after,
        };
    }
    Ok(())
}

/// Whether a parameter names a model: `model`, `models`, in any letter case or escaping, also written as an array's.
pub(super) fn names_model(query: &str) -> bool {
    parameters(query).any(|(name, _)| {
        let stem = || unescaped(name).take_while(|byte| !matches!(byte, b'[' | b' '));
        ["model", "models"].iter().any(|watched| same_letters(stem(), watched))
    })
}

/// Further parameters by which a websocket's backend could be led to another model than the one that was checked: a deployment beside
/// a model, or somebody else's call.
const MODEL_PARAMETERS: [&str; 4] = ["model", "models", "deployment", "call_id"];

/// The model that `parameter` names, in a query that names none in any other way.
///
/// # Errors
/// [`BodyFlaw::ModelMissing`]; [`HeadFlaw::Query`] for one named twice, in another spelling or in another parameter too, or that is no
/// model's name.
pub(super) fn model_of(query: &str, parameter: &str) -> Result<ModelName, Refusal> {
    let flaw = || Refusal::Head(HeadFlaw::Query);
    let mut found = None;
    for (name, value) in parameters(query) {
        let stem = || unescaped(name).take_while(|byte| !matches!(byte, b'[' | b' '));
        if !MODEL_PARAMETERS.iter().any(|watched| same_letters(stem(), watched)) {
            continue;
        }
        if name != parameter || found.is_some() {
            return Err(flaw());
        }
        // A plus is a space to some and itself to others.
        let value = unescape(value).filter(|_| !value.contains('+')).ok_or_else(flaw)?;
        let model = std::str::from_utf8(&value).ok().and_then(ModelName::new);
        found = Some(model.ok_or_else(flaw)?);
    }
    found.ok_or(Refusal::Body(BodyFlaw::ModelMissing))
}

/// The query with `model` as the value of `parameter`, its other bytes as they came.
pub fn query_with_model(query: &str, parameter: &str, model: &str) -> String {
    let written = model.replace('+', "%2B");
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if name == parameter => format!("{name}={written}"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

/// The query as it goes upstream: without parameters that hold a credential or would have the answer be what cannot be metered, its other
/// bytes as they came; `None` when nothing is left. Allocates only when something is taken out.
pub fn upstream_query(query: &str) -> Option<Cow<'_, str>> {
    if query.is_empty() {
        return None;
    }
    if !query.split('&').any(stays_here) {
        return Some(Cow::Borrowed(query));
    }
    let kept: Vec<&str> = query.split('&').filter(|part| !stays_here(part)).collect();
    let kept = kept.join("&");
    (!kept.is_empty()).then_some(Cow::Owned(kept))
}

/// Whether no upstream is to have this parameter.
fn stays_here(part: &str) -> bool {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    let is = |known: &str| {
        let mut letters = unescaped(name).peekable();
        letters.next_if_eq(&b'$');
        same_letters(letters, known)
    };
    CREDENTIAL_PARAMETERS.into_iter().any(is)
        || SYSTEM_PARAMETERS.into_iter().any(is)
        || same_letters(unescaped(name), CONTENT_TYPE)
        || is("alt")
            && !ENCODINGS.iter().any(|known| same_letters(unescaped(value).take_while(|byte| *byte != b';'), known))
}

/// The values of the parameters whose name, unescaped, is `key`, still escaped.
pub(in crate::dialect) fn keys(query: &str) -> impl Iterator<Item = &str> {
    parameters(query).filter(|(name, _)| unescaped(name).eq(*b"key")).map(|(_, value)| value)
}

/// `value` without its escapes; `None` when one is broken. A bare `+` is itself: keys may contain it.
pub(in crate::dialect) fn unescape(value: &str) -> Option<Cow<'_, [u8]>> {
    if !value.contains('%') {
        return Some(Cow::Borrowed(value.as_bytes()));
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            plain.push(escaped(after)?);
            rest = after.get(2..).unwrap_or_default();
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    Some(Cow::Owned(plain))
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// The byte that two hex digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    match digits {
        [high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// A name as form parsers read it: `+` is a space, a broken escape is itself.
fn unescaped(name: &str) -> impl Iterator<Item = u8> {
    let mut rest = name.as_bytes();
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        let escape = (byte == b'%').then(|| escaped(after)).flatten();
        rest = if escape.is_some() { after.get(2..).unwrap_or_default() } else { after };
        Some(escape.unwrap_or(if byte == b'+' { b' ' } else { byte }))
    })
}

fn same_letters(name: impl Iterator<Item = u8>, known: &str) -> bool {
    name.map(|byte| byte.to_ascii_lowercase()).eq(known.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_stays_here_leaves_the_query_and_the_rest_keeps_its_bytes() {
        let same = "alt=sse&pageSize=5&x=%C3%a9&&y";
        assert!(matches!(upstream_query(same), Some(Cow::Borrowed(kept)) if kept == same));
        for (query, kept) in [
            ("key=a", None),
            ("", None),
            ("key", None),
            ("key=a&key=b", None),
            ("alt=sse&key=a", Some("alt=sse")),
            ("key=a&alt=sse&%6bey=b&k%65%79=c&Key=d&KEY=e", Some("alt=sse")),
            ("access_token=t&api-version=2024&subscription-key=s&api%5Fkey=k", Some("api-version=2024")),
            ("keys=a&monkey=b&xkey=c", Some("keys=a&monkey=b&xkey=c")),
            ("a=1&key=%26b=2&c=3", Some("a=1&c=3")),
            ("$key=a&%24k%65y=b&$filter=x", Some("$filter=x")),
            ("fields=candidates&$fields=a&%24fields=b&fiel%64s=c&Fields=d&alt=sse", Some("alt=sse")),
            ("callback=f&$callback=g&$httpMethod=GET&$httpHeaders=a&b", Some("b")),
            ("$ct=application/x&%24Ct=y&userProject=p&$quotaUser=u&ct=z", Some("ct=z")),
            (
                "$alt=json%3Benum-encoding=int&$alt=json;enum-encoding%3Dint",
                Some("$alt=json%3Benum-encoding=int&$alt=json;enum-encoding%3Dint"),
            ),
            ("alt=proto&$alt=proto&alt=&alt&al%74=p%72oto&ALT=x", None),
            (
                "alt=json&$alt=json&alt=SSE&alt=media&fieldset=a",
                Some("alt=json&$alt=json&alt=SSE&alt=media&fieldset=a"),
            ),
        ] {
            assert_eq!(upstream_query(query).as_deref(), kept, "{query}");
        }
    }

    #[test]
    fn a_model_in_the_query_is_seen_in_every_spelling() {
        for query in
            ["model=x", "a=1&model=x", "m%6fdel=x", "MODEL=x", "model", "model[]=x", "models=x", "model%5B0%5D=x"]
        {
            assert!(names_model(query), "{query}");
        }
        for query in ["", "a=model", "modelx=1", "xmodel=1", "beta=true", "api-version=2024-10-21"] {
            assert!(!names_model(query), "{query}");
        }
    }

    #[test]
    fn a_websockets_model_is_named_once_and_in_one_way() {
        let model = |query: &str| model_of(query, "model").map(|model| model.as_str().to_owned());
        for (query, name) in [
            ("model=gpt-realtime", "gpt-realtime"),
            ("a=b&model=org%2Fm%3A1&c", "org/m:1"),
            ("model=m%2B1", "m+1"),
            ("intent=x&model=m", "m"),
        ] {
            assert_eq!(model(query).as_deref(), Ok(name), "{query}");
        }
        for query in ["", "a=b", "amodel=x", "model2=x"] {
            assert_eq!(model(query), Err(Refusal::Body(BodyFlaw::ModelMissing)), "{query}");
        }
        for query in [
            "model=a&model=a",
            "model=a&Model=b",
            "model=a&m%6fdel=b",
            "%6dodel=a",
            "model=a&models=b",
            "model[]=a",
            "model=a&deployment=b",
            "model=a&call_id=rtc_1",
            "model=a&call%5Fid=rtc_1",
            "model=",
            "model",
            "model=a b",
            "model=a+b",
            "model=a%00",
            "model=../b",
        ] {
            assert_eq!(model(query), Err(Refusal::Head(HeadFlaw::Query)), "{query}");
        }
        assert_eq!(model_of("deployment=d", "deployment").unwrap().as_str(), "d");
        assert!(model_of("deployment=d&model=m", "deployment").is_err());
        assert_eq!(query_with_model("a=1&model=x&b", "model", "y+z"), "a=1&model=y%2Bz&b");
    }

    proptest! {
        #[test]
        fn no_credential_survives_and_no_target_panics(query in "[a-zA-Z%=&+;6bey0-9\\[\\]éß]{0,40}", path: String) {
            if let Some(kept) = upstream_query(&query) {
                prop_assert_eq!(keys(&kept).count(), 0);
                prop_assert!(kept.len() <= query.len());
            }
            let _ = (names_model(&query), check_query(&query), check_path(&path), unescape(&query));
        }
    }
}
