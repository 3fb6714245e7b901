//! One value of the file, asked for what it should be: the answer, or a recorded fault that says what it is instead.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::fault::Place;
use crate::config::quantity::{self, write_duration, write_size};
use crate::config::raw::{Names, Note, Path, Reader, Table, kind, shorten};

/// A value and where it stands.
pub(super) struct Item<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) value: &'a DeValue<'a>,
    pub(super) span: Range<usize>,
    pub(super) path: Path<'a>,
}

impl<'a> Item<'a> {
    /// A value of the document.
    pub fn new(reader: &'a Reader<'a>, value: &'a Spanned<DeValue<'a>>, path: Path<'a>) -> Self {
        Self { reader, value: value.get_ref(), span: value.span(), path }
    }

    /// Records that the value, which is told, is not what was expected: `"sometimes" is not one of "clamp", "refuse"`.
    pub fn is_not(&self, expected: &str) {
        self.fault(format!("{} is not {expected}", self.told()));
    }

    /// Records that tables were expected where the value stands. A string is not told: it may be the secret that belongs into one of
    /// them (`previous = "..."`, `tokens = ["..."]`).
    pub fn is_no(&self, tables: &str) {
        match self.value {
            DeValue::String(_) => self.fault_unseen(format!("{} is not {tables}", self.kind())),
            _ => self.is_not(tables),
        }
    }

    /// Records what is wrong with the value; its line is drawn with it.
    pub fn fault(&self, problem: impl Into<String>) {
        self.fault_with_help(problem, None);
    }

    /// The same, with what to do about it.
    pub fn fault_with_help(&self, problem: impl Into<String>, help: Option<String>) {
        self.reader.fault(self.note(problem.into(), help, true));
    }

    /// Records what is wrong with a value that may hold a secret: neither told nor drawn.
    pub fn fault_unseen(&self, problem: impl Into<String>) {
        self.reader.fault(self.note(problem.into(), None, false));
    }

    /// Records a warning; the value is neither told nor drawn.
    pub fn warn_unseen(&self, problem: impl Into<String>) {
        self.reader.warn(self.note(problem.into(), None, false));
    }

    fn note(&self, problem: String, help: Option<String>, is_shown: bool) -> Note {
        let is_scalar = !matches!(self.value, DeValue::Array(_) | DeValue::Table(_));
        Note { span: self.span.clone(), is_shown: is_shown && is_scalar, path: self.path.write(), problem, help }
    }

    /// The value as faults tell it. A list or a table is only named: a secret may stand in it.
    fn told(&self) -> String {
        match self.value {
            DeValue::String(text) => shorten(&format!("{text:?}")),
            DeValue::Integer(number) => shorten(&number.to_string()),
            DeValue::Float(number) => shorten(number.as_str()),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            DeValue::Array(_) | DeValue::Table(_) => kind(self.value).to_owned(),
        }
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.reader.place(self.span.start)
    }

    /// What kind of thing it is, for faults that may not tell the value.
    pub fn kind(&self) -> &'static str {
        kind(self.value)
    }

    /// A string.
    pub fn text(&self, expected: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.is_not(expected);
        }
        text
    }

    /// A string that `parse` understands.
    pub fn parsed<T>(&self, expected: &str, parse: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let parsed = self.value.as_str().and_then(parse);
        if parsed.is_none() {
            self.is_not(expected);
        }
        parsed
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        let truth = self.value.as_bool();
        if truth.is_none() {
            self.is_not("true or false");
        }
        truth
    }

    /// A whole number within `range`.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let number = self.value.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.filter(|n| range.contains(n));
        if number.is_none() {
            let (least, most) = range.into_inner();
            match most {
                u64::MAX => self.is_not(&format!("a whole number of at least {least}")),
                _ => self.is_not(&format!("a whole number from {least} to {most}")),
            }
        }
        number
    }

    /// One of a few names.
    pub fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let found = self.value.as_str().and_then(|text| choices.iter().find(|(name, _)| *name == text));
        if found.is_none() {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.is_not(&format!("one of {}", names.join(", ")));
        }
        found.map(|(_, choice)| *choice)
    }

    /// A duration within `range`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.parsed(quantity::DURATION, quantity::duration)?;
        if !range.contains(&duration) {
            let (least, most) = range.into_inner();
            self.is_not(&format!("within {} to {}", write_duration(least), write_duration(most)));
            return None;
        }
        Some(duration)
    }

    /// A size in bytes within `range`.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let size = self.parsed(quantity::SIZE, quantity::size)?;
        if !range.contains(&size) {
            let (least, most) = range.into_inner();
            self.is_not(&format!("within {} to {}", write_size(least), write_size(most)));
            return None;
        }
        Some(size)
    }

    /// Free text of 1 to `longest` characters, none of them a control character.
    pub fn words(&self, longest: usize) -> Option<Box<str>> {
        self.parsed(&format!("text of 1 to {longest} characters"), |text| {
            let length = text.chars().take(longest + 1).count();
            ((1..=longest).contains(&length) && !text.chars().any(char::is_control)).then(|| text.into())
        })
    }

    /// A table that holds none but `names`.
    pub fn into_table(self, names: Names) -> Option<Table<'a>> {
        let table = Table { names, ..self.into_open_table()? };
        table.refuse_unknown_names();
        Some(table)
    }

    /// A table whose names are the operator's own.
    pub fn into_open_table(self) -> Option<Table<'a>> {
        let Some(entries) = self.value.as_table() else {
            self.is_no("a table");
            return None;
        };
        Some(Table { reader: self.reader, entries: Some(entries), span: self.span, path: self.path, names: &[] })
    }

    /// Visits the elements of a list.
    pub fn each<'t>(&'t self, expected: &str, mut visit: impl FnMut(usize, Item<'t>)) {
        let Some(list) = self.value.as_array() else {
            self.is_not(expected);
            return;
        };
        for (index, value) in list.iter().enumerate() {
            visit(index, Item::new(self.reader, value, Path::Index(&self.path, index)));
        }
    }

    /// The elements of a list that `read` understands; it records why not.
    pub fn list<'t, T>(&'t self, expected: &str, mut read: impl FnMut(Item<'t>) -> Option<T>) -> Vec<T> {
        let mut out = Vec::new();
        self.each(expected, |_, item| out.extend(read(item)));
        out
    }

    /// The same, where one value may stand without brackets.
    pub fn one_or_list<'t, T>(&'t self, expected: &str, mut read: impl FnMut(Item<'t>) -> Option<T>) -> Vec<T> {
        match self.value {
            DeValue::String(_) => {
                let alone = Item { reader: self.reader, value: self.value, span: self.span.clone(), path: self.path };
                read(alone).into_iter().collect()
            }
            _ => self.list(expected, read),
        }
    }

    /// Whether it is a list without elements.
    pub fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(|list| list.is_empty())
    }
}

/// What a table without the setting means.
impl Table<'_> {
    /// A whole number within `range`.
    pub fn integer_or(&self, name: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.get(name).and_then(|item| item.integer(range)).unwrap_or(default)
    }

    /// The same, for counts that fit 32 bits.
    pub fn count_or(&self, name: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let (least, most) = range.into_inner();
        let number = self.integer_or(name, default.into(), least.into()..=most.into());
        u32::try_from(number).unwrap_or(default)
    }

    /// `true` or `false`.
    pub fn boolean_or(&self, name: &'static str, default: bool) -> bool {
        self.get(name).and_then(|item| item.boolean()).unwrap_or(default)
    }

    /// A duration within `range`.
    pub fn duration_or(&self, name: &'static str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        self.get(name).and_then(|item| item.duration(range)).unwrap_or(default)
    }

    /// Bytes within `range`.
    pub fn size_or(&self, name: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.get(name).and_then(|item| item.size(range)).unwrap_or(default)
    }
}
