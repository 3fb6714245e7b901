//! What a request is for.

use std::fmt;

use http::Uri;
use memchr::memchr;

/// Which bytes a target may have: those of a URI (RFC 3986 2) but for the fragment's mark.
const BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
        byte += 1;
    }
    table
};

/// The longest path with its query, bytes: what a URI has at most.
const MOST_BYTES: usize = u16::MAX as usize - 1;

/// Whether `byte` may stand in a target.
pub fn is_target(byte: u8) -> bool {
    BYTES[usize::from(byte)]
}

/// The target of a request. Most are a path and perhaps a query, whose text is all there is to know of them.
#[derive(Clone)]
pub struct Target(Form);

#[derive(Clone)]
enum Form {
    Path {
        text: Box<str>,
        /// Where the path ends.
        end: usize,
    },
    /// Any other.
    Uri(Uri),
}

impl Target {
    /// Reads what stands in a request's first line. `None` for what is no URI.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let is_path = bytes.first() == Some(&b'/') && bytes.len() <= MOST_BYTES;
        // Without a way out amid the text, which is fine but for a few.
        if !is_path || !bytes.iter().fold(true, |fine, byte| fine & is_target(*byte)) {
            return Uri::try_from(bytes).ok().map(Self::from);
        }
        let text = std::str::from_utf8(bytes).ok()?.into();
        Some(Self(Form::Path { text, end: memchr(b'?', bytes).unwrap_or(bytes.len()) }))
    }

    /// The path.
    pub fn path(&self) -> &str {
        match &self.0 {
            Form::Path { text, end } => text.get(..*end).unwrap_or_default(),
            Form::Uri(uri) => uri.path(),
        }
    }

    /// The query, without its mark.
    pub fn query(&self) -> Option<&str> {
        match &self.0 {
            Form::Path { text, end } => text.get(end + 1..),
            Form::Uri(uri) => uri.query(),
        }
    }

    /// Both of them as they were sent.
    pub fn path_and_query(&self) -> &str {
        match &self.0 {
            Form::Path { text, .. } => text,
            Form::Uri(uri) => uri.path_and_query().map(|both| both.as_str()).unwrap_or_default(),
        }
    }

    /// Whose path it is, where that is said.
    pub fn authority(&self) -> Option<&str> {
        match &self.0 {
            Form::Path { .. } => None,
            Form::Uri(uri) => uri.authority().map(|authority| authority.as_str()),
        }
    }

    /// By which protocol, where that is said.
    pub fn scheme(&self) -> Option<&str> {
        match &self.0 {
            Form::Path { .. } => None,
            Form::Uri(uri) => uri.scheme_str(),
        }
    }
}

impl From<Uri> for Target {
    fn from(uri: Uri) -> Self {
        Self(Form::Uri(uri))
    }
}

/// The path only: in a query there may be a secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.path()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_read_as_a_uri(bytes: &[u8]) -> Result<(), TestCaseError> {
        match (Target::read(bytes), Uri::try_from(bytes)) {
            (None, Err(_)) => {}
            (Some(target), Ok(uri)) => {
                prop_assert_eq!((target.path(), target.query()), (uri.path(), uri.query()));
                prop_assert_eq!(target.path_and_query(), uri.path_and_query().map_or("", |both| both.as_str()));
                prop_assert_eq!(target.authority(), uri.authority().map(|authority| authority.as_str()));
                prop_assert_eq!(target.scheme(), uri.scheme_str());
            }
            (target, uri) => prop_assert!(false, "{target:?} and {uri:?} of {}", bytes.escape_ascii()),
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_target_is_what_the_library_reads(text in "/?[a-z/?#%:@.*0-9\\[\\]\"{}<>^`|\\\\ é]{0,12}") {
            is_read_as_a_uri(text.as_bytes())?;
        }

        #[test]
        fn a_path_is_what_the_library_reads(bytes in prop::collection::vec(any::<u8>(), 0..4), rest in "[!-~]{0,20}") {
            is_read_as_a_uri(&[b"/", rest.as_bytes(), &bytes, rest.as_bytes()].concat())?;
        }
    }

    #[test]
    fn every_byte_that_may_stand_in_a_target_is_one_of_a_uri() {
        for byte in 0..=u8::MAX {
            for before in ["/a", "/a?b"] {
                is_read_as_a_uri(&[before.as_bytes(), &[byte], b"c"].concat()).expect("alike");
            }
            assert!(!is_target(byte) || Uri::try_from(&[b'/', byte][..]).is_ok(), "{byte}");
        }
        let long = |length: usize| [&b"/"[..], &vec![b'a'; length]].concat();
        is_read_as_a_uri(&long(MOST_BYTES - 1)).expect("alike");
        is_read_as_a_uri(&long(MOST_BYTES)).expect("alike");
    }

    #[test]
    fn a_query_is_not_printed() {
        let target = Target::read(b"/v1/models?key=secret").expect("a target");
        assert_eq!(format!("{target:?}"), r#"Target("/v1/models")"#);
    }
}
