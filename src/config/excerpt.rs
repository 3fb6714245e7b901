//! The line of the file a fault is drawn on. Only what cannot be a secret is kept of it: the names of settings, the marks
//! between them, and the value the fault is about when that is not a secret. Everything else becomes stars, one a character.

use std::ops::Range;

/// The longest line that is drawn, bytes; a longer one is told by its place alone.
const LONGEST_LINE: usize = 1000;

/// A line without its secrets, and the part of it a fault is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The line.
    pub line: String,
    /// Bytes of `line`.
    pub marked: Range<usize>,
}

impl Excerpt {
    /// Of `line`, marked at `marked` (bytes); that part is kept as written when `is_shown`. `None` for a line too long to draw.
    pub fn new(line: &str, marked: Range<usize>, is_shown: bool, is_known: &dyn Fn(&str) -> bool) -> Option<Self> {
        if line.len() > LONGEST_LINE {
            return None;
        }
        let shown = if is_shown { marked.clone() } else { 0..0 };
        let kept = kept_bytes(line, &shown, is_known);
        let mut out = Self { line: String::with_capacity(line.len()), marked: 0..0 };
        let mut quote = None;
        for (at, c) in line.char_indices() {
            let in_shown = shown.contains(&at);
            if c == '#' && quote.is_none() && !in_shown {
                break;
            }
            if at == marked.start {
                out.marked.start = out.line.len();
            }
            let is_mark = match (quote, c) {
                (None, '"' | '\'') => {
                    quote = Some(c);
                    true
                }
                (Some(open), _) if open == c => {
                    quote = None;
                    true
                }
                (None, _) => c.is_ascii_whitespace() || "[]{}=,.".contains(c),
                (Some(_), _) => false,
            };
            let keep = is_mark || kept.iter().any(|range| range.contains(&at));
            out.line.push(if c.is_control() {
                ' '
            } else if keep {
                c
            } else {
                '*'
            });
            if at < marked.end {
                out.marked.end = out.line.len();
            }
        }
        if marked.start >= line.len() {
            out.marked.start = out.line.len();
        }
        out.marked.end = out.marked.end.max(out.marked.start);
        out.line.truncate(out.line.trim_end().len().max(out.marked.end));
        Some(out)
    }
}

/// The shown part and every word outside quotes that is the name of a setting.
fn kept_bytes(line: &str, shown: &Range<usize>, is_known: &dyn Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut kept = vec![shown.clone()];
    let (mut quote, mut word): (Option<char>, Option<usize>) = (None, None);
    for (at, c) in line.char_indices().chain([(line.len(), '\n')]) {
        let in_word = quote.is_none() && (c.is_ascii_alphanumeric() || "_-".contains(c));
        match (word, in_word) {
            (None, true) => word = Some(at),
            (Some(start), false) => {
                word = None;
                if line.get(start..at).is_some_and(is_known) {
                    kept.push(start..at);
                }
            }
            _ => {}
        }
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(word: &str) -> bool {
        ["name", "token", "role", "listen"].contains(&word)
    }

    fn excerpt(line: &str, marked: &str, is_shown: bool) -> (String, String) {
        let start = line.find(marked).unwrap();
        let excerpt = Excerpt::new(line, start..start + marked.len(), is_shown, &known).unwrap();
        (excerpt.line.clone(), excerpt.line[excerpt.marked].to_owned())
    }

    #[test]
    fn names_and_the_value_in_question_stay_and_the_rest_is_stars() {
        let line = r#"tokens = [{ name = "ops", token = "s3cret-ü", role = "wirte" }] # was hunter2"#;
        let (drawn, marked) = excerpt(line, r#""wirte""#, true);
        assert_eq!(drawn, r#"****** = [{ name = "***", token = "********", role = "wirte" }]"#);
        assert_eq!(marked, r#""wirte""#);
    }

    #[test]
    fn a_value_that_is_a_secret_is_starred_where_it_is_marked() {
        assert_eq!(excerpt("token = hunter-22", "hunter-22", false), ("token = *********".into(), "*********".into()));
        assert_eq!(excerpt("token = \"open", "\"open", false), ("token = \"****".into(), "\"****".into()));
    }

    #[test]
    fn a_mark_past_the_end_stands_at_the_end_and_a_long_line_is_not_drawn() {
        let excerpt = Excerpt::new("name", 4..4, false, &known).unwrap();
        assert_eq!((excerpt.line.as_str(), excerpt.marked), ("name", 4..4));
        assert_eq!(Excerpt::new(&"a".repeat(1001), 0..1, true, &known), None);
    }

    proptest! {
        #[test]
        fn any_line_and_mark_give_a_mark_within_the_line(line in "\\PC{0,40}", a in 0_usize..60, b in 0_usize..60) {
            let excerpt = Excerpt::new(&line, a.min(b)..a.max(b), false, &known).unwrap();
            prop_assert!(excerpt.line.get(excerpt.marked).is_some());
        }
    }
}
