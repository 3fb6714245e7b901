//! Reads what was sent, strictly, and collects every fault in pydantic's words.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::admin::native::json::Json;
use crate::admin::native::refused::{Fault, Loc, Refused};
use crate::admin::times;

/// The faults found so far; at most `MOST_FAULTS`.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

/// The most faults that are told: nobody reads more, and the answer shall not be many times what was sent.
const MOST_FAULTS: usize = 1_000;

impl Faults {
    /// Adds one.
    pub fn add(&mut self, loc: Vec<Loc>, kind: &'static str, msg: impl Into<String>) {
        if self.0.len() < MOST_FAULTS {
            self.0.push(Fault { loc, msg: msg.into(), kind });
        }
    }

    /// Refuses when there is any.
    ///
    /// # Errors
    /// All of them.
    pub fn verdict(self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(Refused::Faults(self.0)) }
    }
}

/// What was given for a member: nothing, `null`, or a value. What is at fault counts as nothing, since it is refused all the same.
pub type Given<T> = Option<Option<T>>;

/// The members of an object, taken one by one; those nobody takes are faults.
pub struct Members<'a> {
    list: &'a [(String, Json)],
    taken: Vec<&'static str>,
    loc: Vec<Loc>,
}

/// A value and where it stands.
pub struct Item<'a> {
    value: &'a Json,
    loc: Vec<Loc>,
}

impl<'a> Members<'a> {
    /// Those of a body that is an object.
    pub fn of_body(body: &'a Json, faults: &mut Faults) -> Self {
        let item = Item { value: body, loc: vec!["body".into()] };
        item.members(faults).unwrap_or(Self { list: &[], taken: Vec::new(), loc: vec!["body".into()] })
    }

    /// The member of this name, if it is there.
    pub fn take(&mut self, name: &'static str) -> Option<Item<'a>> {
        self.taken.push(name);
        let (_, value) = self.list.iter().find(|(given, _)| given == name)?;
        Some(Item { value, loc: self.loc_of(name) })
    }

    /// The same; a fault when it is not there.
    pub fn require(&mut self, name: &'static str, faults: &mut Faults) -> Option<Item<'a>> {
        let found = self.take(name);
        if found.is_none() {
            faults.add(self.loc_of(name), "missing", "Field required");
        }
        found
    }

    /// Reads the member of this name; `null` is given as such.
    pub fn nullable<T>(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
        read: impl FnOnce(Item<'a>, &mut Faults) -> Option<T>,
    ) -> Given<T> {
        let item = self.take(name)?;
        if *item.value == Json::Null { Some(None) } else { read(item, faults).map(Some) }
    }

    /// Faults for members nobody took and those that stand twice.
    pub fn finish(self, faults: &mut Faults) {
        // A set, since a body has room for very many.
        let mut seen = HashSet::with_capacity(self.list.len());
        for (name, _) in self.list {
            if !seen.insert(name.as_str()) {
                faults.add(self.loc_of(name), "duplicate_member", "The member stands twice");
            } else if !self.taken.contains(&name.as_str()) {
                faults.add(self.loc_of(name), "extra_forbidden", "Extra inputs are not permitted");
            }
        }
    }

    fn loc_of(&self, name: &str) -> Vec<Loc> {
        self.loc.iter().cloned().chain([Loc::from(name)]).collect()
    }
}

impl<'a> Item<'a> {
    /// Adds a fault here.
    pub fn fault(&self, faults: &mut Faults, kind: &'static str, msg: impl Into<String>) {
        faults.add(self.loc.clone(), kind, msg);
    }

    /// An object.
    pub fn members(self, faults: &mut Faults) -> Option<Members<'a>> {
        match self.value {
            Json::Object(list) => Some(Members { list, taken: Vec::new(), loc: self.loc }),
            _ => {
                self.fault(
                    faults,
                    "model_attributes_type",
                    "Input should be a valid dictionary or object to extract fields from",
                );
                None
            }
        }
    }

    /// A string of so many characters, none of them a control character.
    pub fn text(&self, length: RangeInclusive<usize>, faults: &mut Faults) -> Option<&'a str> {
        let Json::Text(text) = self.value else {
            self.fault(faults, "string_type", "Input should be a valid string");
            return None;
        };
        let found = check_text(text, length);
        match found {
            Ok(()) => Some(text),
            Err((kind, msg)) => {
                self.fault(faults, kind, msg);
                None
            }
        }
    }

    /// A whole number within a range. One with a fraction of zero is whole.
    pub fn integer(&self, range: RangeInclusive<u64>, faults: &mut Faults) -> Option<u64> {
        let Json::Number(number) = self.value else {
            self.fault(faults, "int_type", "Input should be a valid integer");
            return None;
        };
        match check_integer(number, &range) {
            Ok(value) => Some(value),
            Err((kind, msg)) => {
                self.fault(faults, kind, msg);
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self, faults: &mut Faults) -> Option<bool> {
        match self.value {
            Json::Bool(value) => Some(*value),
            _ => {
                self.fault(faults, "bool_type", "Input should be a valid boolean");
                None
            }
        }
    }

    /// One of these names.
    pub fn one_of<T: Copy>(&self, choices: &[(&'static str, T)], faults: &mut Faults) -> Option<T> {
        let chosen = match self.value {
            Json::Text(text) => choices.iter().find(|(name, _)| name == text).map(|(_, value)| *value),
            _ => None,
        };
        if chosen.is_none() {
            self.fault(faults, "enum", one_of_words(choices));
        }
        chosen
    }

    /// RFC 3339, in milliseconds since 1970.
    pub fn moment(&self, faults: &mut Faults) -> Option<i64> {
        let Json::Text(text) = self.value else {
            self.fault(faults, "datetime_type", "Input should be a valid datetime");
            return None;
        };
        let ms = times::parse(text);
        if ms.is_none() {
            self.fault(faults, "datetime_parsing", "Input should be a valid datetime, as RFC 3339 writes it");
        }
        ms
    }

    /// A string that `read` understands; `expected` says which.
    pub fn parsed<T>(&self, expected: &str, faults: &mut Faults, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let Json::Text(text) = self.value else {
            self.fault(faults, "string_type", "Input should be a valid string");
            return None;
        };
        let value = read(text);
        if value.is_none() {
            self.fault(faults, "value_error", format!("Input should be {expected}"));
        }
        value
    }

    /// A list of at most so many.
    pub fn list<T>(
        &self,
        most: usize,
        faults: &mut Faults,
        mut read: impl FnMut(&Item<'a>, &mut Faults) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Json::List(items) = self.value else {
            self.fault(faults, "list_type", "Input should be a valid list");
            return None;
        };
        if items.len() > most {
            let msg = format!("List should have at most {most} items after validation, not {}", items.len());
            self.fault(faults, "too_long", msg);
            return None;
        }
        let mut out = Vec::with_capacity(items.len());
        let mut is_whole = true;
        for (at, value) in items.iter().enumerate() {
            let item = Item { value, loc: self.loc.iter().cloned().chain([Loc::At(at)]).collect() };
            match read(&item, faults) {
                Some(value) => out.push(value),
                None => is_whole = false,
            }
        }
        is_whole.then_some(out)
    }

    /// Pairs of strings, at most so many, none of them twice.
    pub fn pairs(&self, most: usize, faults: &mut Faults) -> Option<Vec<(Box<str>, Box<str>)>> {
        let Json::Object(members) = self.value else {
            self.fault(faults, "dict_type", "Input should be a valid dictionary");
            return None;
        };
        if members.len() > most {
            let msg = format!("Dictionary should have at most {most} items after validation, not {}", members.len());
            self.fault(faults, "too_long", msg);
            return None;
        }
        let mut out: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(members.len());
        for (name, value) in members {
            let item = Item { value, loc: self.loc.iter().cloned().chain([Loc::from(name.as_str())]).collect() };
            if let Err((kind, msg)) = check_text(name, 1..=LONGEST_PAIR_NAME) {
                item.fault(faults, kind, format!("Name: {msg}"));
            } else if out.iter().any(|(known, _)| **known == **name) {
                item.fault(faults, "duplicate_member", "The member stands twice");
            } else if let Some(value) = item.text(0..=LONGEST_PAIR_VALUE, faults) {
                out.push((name.as_str().into(), value.into()));
            }
        }
        (out.len() == members.len()).then_some(out)
    }
}

/// The longest name in a pair, characters.
pub const LONGEST_PAIR_NAME: usize = 64;

/// The longest value in a pair, characters.
pub const LONGEST_PAIR_VALUE: usize = 512;

type Flaw = (&'static str, String);

/// Whether a text has a length in characters within the range and no control character.
///
/// # Errors
/// What is wrong.
pub fn check_text(text: &str, length: RangeInclusive<usize>) -> Result<(), Flaw> {
    let (least, most) = length.into_inner();
    let found = text.chars().take(most.saturating_add(1)).count();
    if found < least {
        return Err(("string_too_short", format!("String should have at least {least} character{}", plural(least))));
    }
    if found > most {
        return Err(("string_too_long", format!("String should have at most {most} character{}", plural(most))));
    }
    if text.chars().any(char::is_control) {
        return Err(("string_pattern_mismatch", "String should hold no control character".to_owned()));
    }
    Ok(())
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// Whether a number is whole and within the range.
///
/// # Errors
/// What is wrong.
pub fn check_integer(number: &serde_json::Number, range: &RangeInclusive<u64>) -> Result<u64, Flaw> {
    let (least, most) = (*range.start(), *range.end());
    let below = || ("greater_than_equal", format!("Input should be greater than or equal to {least}"));
    let above = || ("less_than_equal", format!("Input should be less than or equal to {most}"));
    let value = match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(value), _, _) => value,
        (None, Some(_), _) => return Err(below()),
        (None, None, Some(float)) => whole(float).ok_or_else(|| match float {
            float if float.fract() != 0.0 => ("int_from_float", FRACTION.to_owned()),
            float if float < 0.0 => below(),
            _ => above(),
        })?,
        (None, None, None) => return Err(("int_type", "Input should be a valid integer".to_owned())),
    };
    if value < least {
        return Err(below());
    }
    if value > most {
        return Err(above());
    }
    Ok(value)
}

const FRACTION: &str = "Input should be a valid integer, got a number with a fractional part";

/// A float that is a whole number of 64 bits.
fn whole(float: f64) -> Option<u64> {
    const END: f64 = 18_446_744_073_709_551_616.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    (float.fract() == 0.0 && (0.0..END).contains(&float)).then_some(float as u64)
}

/// `Input should be 'a', 'b' or 'c'`.
pub fn one_of_words<T>(choices: &[(&'static str, T)]) -> String {
    let mut words = String::from("Input should be ");
    for (at, (name, _)) in choices.iter().enumerate() {
        let joint: &dyn Display = match at {
            0 => &"",
            at if at + 1 == choices.len() => &" or ",
            _ => &", ",
        };
        words.push_str(&format!("{joint}'{name}'"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(text: &str) -> Result<u64, &'static str> {
        let number: serde_json::Number = serde_json::from_str(text).unwrap();
        check_integer(&number, &(1..=i64::MAX as u64)).map_err(|(kind, _)| kind)
    }

    #[test]
    fn a_number_is_whole_whatever_its_spelling() {
        assert_eq!((integer("7"), integer("7.0"), integer("7e2")), (Ok(7), Ok(7), Ok(700)));
        assert_eq!(integer("9223372036854774784.0"), Ok(9_223_372_036_854_774_784));
        assert_eq!(integer("9223372036854775807"), Ok(i64::MAX as u64));
        for (text, kind) in [
            ("0", "greater_than_equal"),
            ("-1", "greater_than_equal"),
            ("-1e30", "greater_than_equal"),
            ("-0.0", "greater_than_equal"),
            ("1.5", "int_from_float"),
            ("9223372036854775808", "less_than_equal"),
            ("1e30", "less_than_equal"),
        ] {
            assert_eq!(integer(text), Err(kind), "{text}");
        }
    }

    #[test]
    fn characters_are_counted_and_not_bytes() {
        assert!(check_text(&"\u{fc}".repeat(100), 1..=100).is_ok());
        let kinds = ["", "\u{7f}", &"x".repeat(101)].map(|text| check_text(text, 1..=100).map_err(|(kind, _)| kind));
        assert_eq!(kinds, [Err("string_too_short"), Err("string_pattern_mismatch"), Err("string_too_long")]);
    }
}
