//! The headers of a message as the data plane has them: a list, in the order in which they came or were put. A message has a dozen; to look
//! through so few costs less than to hash one name, and the bound on how many there may be (`proxy::wire::head::MAX_HEADERS`) keeps
//! it so when a client would rather have it otherwise.

use std::fmt;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

/// Header lines. A name may stand in several; it is compared without regard to case, as RFC 9110 5.1 has it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

/// What a request says before its body.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The protocol's version.
    pub version: Version,
    /// The headers.
    pub headers: Headers,
}

/// What an answer says before its body.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Headers,
}

/// The values of one name, in their order.
#[derive(Debug, Clone, Copy)]
pub struct All<'a, N> {
    headers: &'a Headers,
    name: N,
}

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// None yet, with room for `lines`.
    pub fn with_capacity(lines: usize) -> Self {
        Self(Vec::with_capacity(lines))
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value of `name`.
    pub fn get(&self, name: impl PartialEq<HeaderName>) -> Option<&HeaderValue> {
        self.0.iter().find(|line| name == line.0).map(|line| &line.1)
    }

    /// All values of `name`.
    pub fn get_all<N: PartialEq<HeaderName>>(&self, name: N) -> All<'_, N> {
        All { headers: self, name }
    }

    /// Whether there is a line of `name`.
    pub fn contains_key(&self, name: impl PartialEq<HeaderName>) -> bool {
        self.get(name).is_some()
    }

    /// Puts a line in the place of all that `name` has.
    pub fn insert(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        let name = name.into();
        self.remove(&name);
        self.0.push((name, value));
    }

    /// Puts a line behind all others.
    pub fn append(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        self.0.push((name.into(), value));
    }

    /// Takes out all lines of `name`.
    pub fn remove(&mut self, name: impl PartialEq<HeaderName>) {
        // Most are not there, and what is not moved need not be looked at twice.
        if self.0.iter().any(|line| name == line.0) {
            self.0.retain(|line| name != line.0);
        }
    }

    /// Keeps the lines whose name is `wanted`.
    pub fn retain(&mut self, mut wanted: impl FnMut(&HeaderName) -> bool) {
        self.0.retain(|line| wanted(&line.0));
    }

    /// The lines.
    pub fn iter(&self) -> Lines<'_> {
        self.0.iter().map(pair)
    }

    /// The names of the lines.
    pub fn keys(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|line| &line.0)
    }
}

fn pair(line: &(HeaderName, HeaderValue)) -> (&HeaderName, &HeaderValue) {
    (&line.0, &line.1)
}

/// An iterator over lines.
pub type Lines<'a> = std::iter::Map<
    std::slice::Iter<'a, (HeaderName, HeaderValue)>,
    fn(&'a (HeaderName, HeaderValue)) -> (&'a HeaderName, &'a HeaderValue),
>;

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = Lines<'a>;

    fn into_iter(self) -> Lines<'a> {
        self.iter()
    }
}

impl<'a, N: PartialEq<HeaderName>> All<'a, N> {
    /// The values, one after the other.
    pub fn iter(self) -> impl Iterator<Item = &'a HeaderValue> {
        self.headers.0.iter().filter(move |line| self.name == line.0).map(|line| &line.1)
    }
}

#[cfg(test)]
impl<N: PartialEq<HeaderName>> std::ops::Index<N> for Headers {
    type Output = HeaderValue;

    fn index(&self, name: N) -> &HeaderValue {
        self.get(name).expect("no line of that name")
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: I) -> Self {
        Self(lines.into_iter().collect())
    }
}

impl Extend<(HeaderName, HeaderValue)> for Headers {
    fn extend<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, lines: I) {
        self.0.extend(lines);
    }
}

impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        let mut headers = Self::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // A name that is left out is that of the line before.
            last = name.or(last);
            headers.0.extend(last.clone().map(|name| (name, value)));
        }
        headers
    }
}

impl From<Headers> for HeaderMap {
    fn from(headers: Headers) -> Self {
        let mut map = Self::with_capacity(headers.len());
        for (name, value) in headers.0 {
            map.append(name, value);
        }
        map
    }
}

/// Names only: among the values are secrets.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, VIA};
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["via", "accept", "x-a", "x-b"];

    #[derive(Debug, Clone)]
    enum Step {
        Insert(usize, u8),
        Append(usize, u8),
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_usize, any::<u8>()).prop_map(|(name, value)| Step::Insert(name, value)),
            (0..4_usize, any::<u8>()).prop_map(|(name, value)| Step::Append(name, value)),
            (0..4_usize).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn a_list_is_what_a_map_is(steps in prop::collection::vec(step(), 0..20)) {
            let (mut list, mut map) = (Headers::new(), HeaderMap::new());
            for step in steps {
                match step {
                    Step::Insert(name, value) => {
                        list.insert(HeaderName::from_static(NAMES[name]), HeaderValue::from(u16::from(value)));
                        map.insert(NAMES[name], HeaderValue::from(u16::from(value)));
                    }
                    Step::Append(name, value) => {
                        list.append(HeaderName::from_static(NAMES[name]), HeaderValue::from(u16::from(value)));
                        map.append(NAMES[name], HeaderValue::from(u16::from(value)));
                    }
                    Step::Remove(name) => {
                        list.remove(NAMES[name]);
                        map.remove(NAMES[name]);
                    }
                }
            }
            prop_assert_eq!(list.len(), map.len());
            for name in NAMES {
                prop_assert_eq!(list.get(name), map.get(name));
                prop_assert_eq!(list.contains_key(name), map.contains_key(name));
                prop_assert!(list.get_all(name).iter().eq(map.get_all(name).iter()));
            }
            let again = Headers::from(map.clone());
            prop_assert_eq!(HeaderMap::from(list), map.clone());
            prop_assert_eq!(HeaderMap::from(again), map);
        }
    }

    #[test]
    fn lines_keep_their_order_and_no_value_is_printed() {
        let headers: Headers = [(VIA, "1"), (ACCEPT, "secret"), (VIA, "2")]
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["via", "accept", "via"]);
        assert_eq!(headers.get_all(VIA).iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(format!("{headers:?}"), r#"["via", "accept", "via"]"#);
        assert!(headers.contains_key("Accept"), "a name is compared without regard to case");
    }
}
