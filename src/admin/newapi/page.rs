//! Pages, and the patterns tokens are searched by.

use serde::Serialize;

use super::refused::Refused;
use super::token::Token;
use crate::admin::vendors::parameter;

/// Tokens of a page when the caller does not say.
const DEFAULT_SIZE: i64 = 20;

/// The most tokens of a page.
const MOST_SIZE: i64 = 100;

/// Which page is asked for: always one there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    page: i64,
    size: i64,
}

/// A page, its members in the family's order.
#[derive(Debug, Serialize)]
pub struct Page {
    page: i64,
    page_size: i64,
    total: u64,
    items: Vec<Token>,
}

impl Pages {
    /// What is no number or out of range counts as not given, as in the family.
    pub fn read(query: Option<&str>) -> Self {
        let number = |name| parameter(query, name).and_then(|text| text.parse::<i64>().ok());
        let size = ["page_size", "ps", "size"].into_iter().find_map(|name| number(name).filter(|size| *size != 0));
        Self {
            page: number("p").unwrap_or(1).max(1),
            size: size.filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE).min(MOST_SIZE),
        }
    }

    /// Tokens before it.
    pub fn offset(self) -> u64 {
        let offset = (self.page - 1).saturating_mul(self.size);
        offset.unsigned_abs()
    }

    /// Tokens on it, at most.
    pub fn size(self) -> usize {
        usize::try_from(self.size).unwrap_or_default()
    }

    /// The page with what is on it.
    pub fn filled(self, total: u64, items: Vec<Token>) -> Page {
        Page { page: self.page, page_size: self.size, total, items }
    }
}

/// Exact, unless there is a `%`: at most two of them, not side by side, and two other characters at least.
pub fn check_pattern(pattern: &str) -> Result<(), Refused> {
    let count = pattern.matches('%').count();
    if pattern.contains("%%") {
        Err(Refused::PatternRun)
    } else if count > 2 {
        Err(Refused::PatternMany)
    } else if count > 0 && pattern.chars().count() - count < 2 {
        Err(Refused::PatternShort)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_is_always_one_there_can_be() {
        for (query, page, size) in [
            ("", 1, 20),
            ("p=1&page_size=20", 1, 20),
            ("p=0&page_size=1000", 1, 100),
            ("p=-3&page_size=-1", 1, 20),
            ("p=abc&page_size=abc", 1, 20),
            ("p=2&page_size=0&ps=7", 2, 7),
            ("p=2&size=101", 2, 100),
            ("p=9223372036854775807&page_size=100", i64::MAX, 100),
        ] {
            assert_eq!(Pages::read(Some(query)), Pages { page, size }, "{query}");
        }
        assert_eq!(Pages { page: 3, size: 20 }.offset(), 40);
        assert_eq!(Pages { page: i64::MAX, size: 100 }.offset(), i64::MAX.unsigned_abs());
    }

    #[test]
    fn patterns_are_narrow_enough() {
        for pattern in ["abc", "", "a_!b", "%ab", "ab%", "%ab%", "a%b", "名字%"] {
            assert_eq!(check_pattern(pattern), Ok(()), "{pattern}");
        }
        assert_eq!(check_pattern("ab%%"), Err(Refused::PatternRun));
        assert_eq!(check_pattern("%a%b%"), Err(Refused::PatternMany));
        assert_eq!((check_pattern("%a"), check_pattern("%")), (Err(Refused::PatternShort), Err(Refused::PatternShort)));
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "(p|ps|size|page_size|[a-z%&=+-])*=?-?[0-9]{0,20}&?[ -~]{0,20}") {
            let pages = Pages::read(Some(&query));
            prop_assert!((1..=100).contains(&pages.size()) && pages.page >= 1);
            let _ = (pages.offset(), check_pattern(&query));
        }
    }
}
