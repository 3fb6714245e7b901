//! Model names with `*`, matched byte for byte: `models_allowed`, `[prices]`, an upstream's `models`.

use std::fmt;

/// A name or a pattern in which each `*` stands for any run of bytes, the empty one too. Case-sensitive.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// The longest pattern, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// `None` when `pattern` is empty, too long, or holds a byte no model name has.
    pub fn new(pattern: &str) -> Option<Self> {
        let in_range = !pattern.is_empty() && pattern.len() <= Self::MAX_BYTES;
        let plain = pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-*".contains(&b));
        (in_range && plain).then(|| Self(pattern.into()))
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a plain name.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether `name` matches. Linear in the name for one star, at worst name x pattern.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut resume: Option<(usize, usize)> = None;
        while n < name.len() {
            if p < pattern.len() && pattern[p] == b'*' {
                resume = Some((p + 1, n));
                p += 1;
            } else if p < pattern.len() && pattern[p] == name[n] {
                p += 1;
                n += 1;
            } else if let Some((after_star, from)) = resume {
                p = after_star;
                n = from + 1;
                resume = Some((after_star, from + 1));
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|b| *b == b'*')
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// `models_allowed`, compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelRules(Box<[Glob]>);

impl ModelRules {
    /// Any of these; an empty list allows every model.
    pub fn new(globs: Vec<Glob>) -> Self {
        Self(globs.into_boxed_slice())
    }

    /// Whether the list is empty, so that any model, and calls that name none, are allowed.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name`, as the client wrote it, is allowed.
    pub fn allows(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|glob| glob.matches(name))
    }

    /// The patterns as written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Glob::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::new(pattern).is_some_and(|glob| glob.matches(name))
    }

    #[test]
    fn a_star_stands_for_any_run() {
        assert!(matches("gpt-4o*", "gpt-4o") && matches("gpt-4o*", "gpt-4o-mini"));
        assert!(!matches("gpt-4o*", "GPT-4o") && !matches("gpt-4o", "gpt-4o-mini"));
        assert!(matches("*", "x") && matches("*mini*", "gpt-4o-mini") && matches("a*b*c", "a1b2bc"));
        assert!(!matches("a*b*c", "a1b2"));
        assert!(Glob::new("").is_none() && Glob::new("a b").is_none());
    }

    /// The textbook definition, exponential but plain.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => slow(&pattern[1..], name) || (!name.is_empty() && slow(pattern, &name[1..])),
            (Some(p), Some(n)) if p == n => slow(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{1,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
