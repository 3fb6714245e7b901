//! Reads a query string, strictly: unknown and doubled parameters are faults.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::admin::native::reader::{Faults, check_text, one_of_words};
use crate::admin::native::refused::{Loc, Refused};
use crate::admin::times;
use crate::units::KeyId;

/// The parameters of a query, taken one by one.
pub struct Query {
    pairs: Vec<(String, String)>,
    taken: Vec<&'static str>,
    /// What is wrong so far.
    pub faults: Faults,
}

impl Query {
    /// Splits and decodes. What is not UTF-8 when decoded is a fault.
    pub fn new(raw: Option<&str>) -> Self {
        let mut query = Self { pairs: Vec::new(), taken: Vec::new(), faults: Faults::default() };
        for part in raw.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => query.pairs.push((name, value)),
                _ => query.fault(name, "string_unicode", "Input should be escaped UTF-8"),
            }
        }
        query
    }

    /// The parameter of this name.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        self.taken.push(name);
        let at = self.pairs.iter().position(|(given, _)| given == name)?;
        Some(self.pairs[at].1.clone())
    }

    /// A text of so many characters.
    pub fn text(&mut self, name: &'static str, most: usize) -> Option<Box<str>> {
        let value = self.take(name)?;
        match check_text(&value, 1..=most) {
            Ok(()) => Some(value.into()),
            Err((kind, msg)) => {
                self.fault(name, kind, msg);
                None
            }
        }
    }

    /// A whole number within a range.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        let digits = value.strip_prefix('-').unwrap_or(&value);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            self.fault(name, "int_parsing", "Input should be a valid integer, unable to parse string as an integer");
            return None;
        }
        // What is beyond 64 bits is beyond every range.
        let number = value.parse::<i128>().unwrap_or(if value.starts_with('-') { i128::MIN } else { i128::MAX });
        if number < i128::from(*range.start()) {
            self.fault(
                name,
                "greater_than_equal",
                format!("Input should be greater than or equal to {}", range.start()),
            );
            return None;
        }
        if number > i128::from(*range.end()) {
            self.fault(name, "less_than_equal", format!("Input should be less than or equal to {}", range.end()));
            return None;
        }
        u64::try_from(number).ok()
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.fault(name, "bool_parsing", "Input should be a valid boolean: true or false");
        }
        parsed
    }

    /// One of these names.
    pub fn one_of<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let chosen = choices.iter().find(|(choice, _)| *choice == value).map(|(_, chosen)| *chosen);
        if chosen.is_none() {
            self.fault(name, "enum", one_of_words(choices));
        }
        chosen
    }

    /// RFC 3339, or a day; milliseconds since 1970.
    pub fn moment(&mut self, name: &'static str) -> Option<i64> {
        let value = self.take(name)?;
        let moment = times::parse_moment_or_day(&value);
        if moment.is_none() {
            self.fault(name, "datetime_parsing", "Input should be a valid datetime or date, as RFC 3339 writes them");
        }
        moment
    }

    /// A key's id.
    pub fn key_id(&mut self, name: &'static str) -> Option<KeyId> {
        let value = self.take(name)?;
        let id = super::path::key_id(&value);
        if id.is_none() {
            self.fault(name, "uuid_parsing", "Input should be a valid UUID");
        }
        id
    }

    /// What `read` understands.
    pub fn parsed<T>(&mut self, name: &'static str, msg: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.take(name)?;
        let parsed = read(&value);
        if parsed.is_none() {
            self.fault(name, "value_error", msg);
        }
        parsed
    }

    /// Adds a fault.
    pub fn fault(&mut self, name: &str, kind: &'static str, msg: impl Into<String>) {
        self.faults.add(vec![Loc::from("query"), Loc::from(name)], kind, msg);
    }

    /// Refuses when there was any fault, a parameter nobody took, or one twice.
    ///
    /// # Errors
    /// All of them.
    pub fn verdict(mut self) -> Result<(), Refused> {
        let pairs = std::mem::take(&mut self.pairs);
        let mut seen = HashSet::with_capacity(pairs.len());
        for (name, _) in &pairs {
            if !seen.insert(name) {
                self.fault(name, "duplicate_parameter", "The parameter stands twice");
            } else if !self.taken.contains(&name.as_str()) {
                self.fault(name, "extra_forbidden", "Extra inputs are not permitted");
            }
        }
        self.faults.verdict()
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(query: Query) -> Vec<(String, &'static str)> {
        match query.verdict() {
            Err(Refused::Faults(faults)) => faults.iter().map(|fault| (fault.loc_text(), fault.kind)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let mut query = Query::new(Some("limit=0&name=%zz&bogus=1&limit=5&status=dead"));
        assert_eq!(query.integer("limit", 1..=1000), None);
        assert_eq!(query.text("name", 100), None);
        assert_eq!(query.one_of("status", &[("active", 1), ("disabled", 2)]), None);
        let found = kinds(query);
        let expected = [
            ("query.name", "string_unicode"),
            ("query.limit", "greater_than_equal"),
            ("query.status", "enum"),
            ("query.bogus", "extra_forbidden"),
            ("query.limit", "duplicate_parameter"),
        ];
        assert_eq!(found, expected.map(|(loc, kind)| (loc.to_owned(), kind)));
    }

    #[test]
    fn numbers_beyond_every_range_are_told_so_and_escapes_are_read() {
        let mut query = Query::new(Some("limit=99999999999999999999999999999999999999999999&name=a%20b+c"));
        assert_eq!(query.integer("limit", 1..=1000), None);
        assert_eq!(query.text("name", 100).as_deref(), Some("a b c"));
        assert_eq!(kinds(query), [("query.limit".to_owned(), "less_than_equal")]);
        assert!(Query::new(None).verdict().is_ok());
    }
}
