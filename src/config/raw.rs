//! The file as written: a cursor over its tables that records every fault with its place and path, and knows which names
//! each table may hold.

use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::excerpt::Excerpt;
use crate::config::fault::{Fault, Faults, Place};
use crate::config::item::Item;
use crate::config::suggest::suggest;

/// How the parser calls a name that is given twice.
const DUPLICATE: &str = "duplicate key";

/// How the environment is asked.
pub(super) type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The names a table may hold.
pub(super) type Names = &'static [&'static str];

/// Where in a document a value stands, from the root down.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path<'a> {
    /// The document.
    Root,
    /// A member of a table.
    Name(&'a Path<'a>, &'a str),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// As people write it: `upstreams[1].api_key`, `prices."gpt-4o*".input`.
    pub fn write(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Index(parent, index) => format!("{}[{index}]", parent.write()),
            Self::Name(parent, name) => {
                let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
                let name = if is_bare { (*name).to_owned() } else { shorten(&format!("{name:?}")) };
                let parent = parent.write();
                if parent.is_empty() { name } else { format!("{parent}.{name}") }
            }
        }
    }
}

/// At most so many characters of a value are told.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A fault before its line is looked up.
#[derive(Debug)]
pub(super) struct Note {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// Whether what stands there may be shown.
    pub is_shown: bool,
    /// The setting.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: Option<String>,
}

/// One document under reading: its text, and what was found wrong with it so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Lines of the document before the text.
    lines_before: usize,
    file: Arc<FilePath>,
    env: &'a Env<'a>,
    vocabulary: &'a dyn Fn() -> Vec<Names>,
    line_starts: OnceCell<Vec<usize>>,
    faults: RefCell<Vec<Note>>,
    warnings: RefCell<Vec<Note>>,
}

/// Reads `text` with `read`, which is given the root table. `vocabulary` lists the names of all settings of this file.
///
/// # Errors
/// Every fault: those of the syntax alone if there are any (what else the file says is then a guess), otherwise those that
/// `read` recorded.
pub(super) fn read_document<T>(
    text: &str,
    origin: &FilePath,
    env: &Env<'_>,
    names: Names,
    vocabulary: &dyn Fn() -> Vec<Names>,
    read: impl FnOnce(&Table<'_>) -> T,
) -> Result<(T, Vec<Fault>), Faults> {
    let reader = Reader::new(text, 0, origin, env, vocabulary);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        reader.fault(Note {
            span: error.span().unwrap_or(text.len()..text.len()),
            is_shown: false,
            path: String::new(),
            problem: match error.message() {
                DUPLICATE => "this name is given a second time".to_owned(),
                message => format!("not TOML: {message}"),
            },
            help: None,
        });
    }
    // A name given twice leaves the rest of the file as clear as it was.
    let is_clear = errors.iter().all(|error| error.message() == DUPLICATE);
    let value = is_clear.then(|| {
        let table = Table { reader: &reader, entries: Some(root.get_ref()), span: 0..0, path: Path::Root, names };
        table.refuse_unknown_names();
        read(&table)
    });
    reader.finish(value)
}

/// Reads a part of a document that stands on its own, so many lines from its beginning. `None` where there is anything to be said of it: only the
/// whole is read for that.
pub(super) fn read_part<T>(
    text: &str,
    lines_before: usize,
    origin: &FilePath,
    env: &Env<'_>,
    names: Names,
    read: impl FnOnce(&Table<'_>) -> T,
) -> Option<T> {
    let reader = Reader::new(text, lines_before, origin, env, &Vec::new);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return None;
    }
    let table = Table { reader: &reader, entries: Some(root.get_ref()), span: 0..0, path: Path::Root, names };
    table.refuse_unknown_names();
    let value = read(&table);
    let is_silent = reader.faults.borrow().is_empty() && reader.warnings.borrow().is_empty();
    is_silent.then_some(value)
}

impl<'a> Reader<'a> {
    fn new(
        text: &'a str,
        lines_before: usize,
        origin: &FilePath,
        env: &'a Env<'a>,
        vocabulary: &'a dyn Fn() -> Vec<Names>,
    ) -> Self {
        Self {
            text,
            lines_before,
            file: origin.into(),
            env,
            vocabulary,
            line_starts: OnceCell::new(),
            faults: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Records a fault.
    pub fn fault(&self, note: Note) {
        self.faults.borrow_mut().push(note);
    }

    /// Records a warning.
    pub fn warn(&self, note: Note) {
        self.warnings.borrow_mut().push(note);
    }

    /// Asks the environment.
    pub fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// `path`, relative to the file's directory when it is relative.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().map_or_else(|| PathBuf::from(path), |directory| directory.join(path))
    }

    /// The place of a byte of the text.
    pub fn place(&self, offset: usize) -> Place {
        let starts = self.line_starts();
        let line = starts.partition_point(|start| *start <= offset).max(1);
        let start = starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset.min(self.text.len()));
        Place {
            line: self.lines_before + line,
            column: before.map_or(offset - start, |before| before.chars().count()) + 1,
        }
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let ends = memchr::memchr_iter(b'\n', self.text.as_bytes());
            std::iter::once(0).chain(ends.map(|end| end + 1)).collect()
        })
    }

    fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Fault>), Faults> {
        let known: HashSet<&str> = match (self.faults.borrow().is_empty(), self.warnings.borrow().is_empty()) {
            (true, true) => HashSet::new(),
            _ => (self.vocabulary)().into_iter().flatten().copied().chain(["true", "false"]).collect(),
        };
        let locate = |note: Note, is_warning| self.locate(note, is_warning, &|word| known.contains(word));
        let faults: Vec<Fault> = self.faults.take().into_iter().map(|note| locate(note, false)).collect();
        match value {
            Some(value) if faults.is_empty() => {
                Ok((value, self.warnings.take().into_iter().map(|note| locate(note, true)).collect()))
            }
            _ => Err(Faults::new(faults)),
        }
    }

    fn locate(&self, note: Note, is_warning: bool, is_known: &dyn Fn(&str) -> bool) -> Fault {
        let place = self.place(note.span.start);
        let start = self.line_starts().get(place.line - 1).copied().unwrap_or_default();
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let marked = note.span.start.saturating_sub(start)..note.span.end.saturating_sub(start).min(line.len());
        Fault {
            file: Arc::clone(&self.file),
            place: Some(place),
            path: note.path,
            problem: note.problem,
            help: note.help,
            excerpt: Excerpt::new(line, marked, note.is_shown, is_known),
            is_warning,
        }
    }
}

/// A table of the document, or the place of one that is not written.
pub(super) struct Table<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) entries: Option<&'a DeTable<'a>>,
    pub(super) span: Range<usize>,
    pub(super) path: Path<'a>,
    pub(super) names: Names,
}

impl<'a> Table<'a> {
    /// What stands under `name`, which must be one of the table's names.
    pub fn get<'t>(&'t self, name: &'static str) -> Option<Item<'t>> {
        debug_assert!(self.names.contains(&name), "{name} is not declared");
        let value = self.entries?.get(name)?;
        Some(Item::new(self.reader, value, Path::Name(&self.path, name)))
    }

    /// The same, where its absence is a fault.
    pub fn require<'t>(&'t self, name: &'static str, expected: &str) -> Option<Item<'t>> {
        let item = self.get(name);
        if item.is_none() {
            self.fault_of(name, format!("is missing: {expected} is required"));
        }
        item
    }

    /// Records a fault of a member that may not be there, at the table's own place.
    pub fn fault_of(&self, name: &str, problem: String) {
        let path = Path::Name(&self.path, name).write();
        self.reader.fault(Note { span: self.span.clone(), is_shown: false, path, problem, help: None });
    }

    /// A table under `name`; one that is not written reads as empty.
    pub fn section<'t>(&'t self, name: &'static str, names: Names) -> Table<'t> {
        let absent = Table {
            reader: self.reader,
            entries: None,
            span: self.span.clone(),
            path: Path::Name(&self.path, name),
            names,
        };
        self.get(name).and_then(|item| item.into_table(names)).unwrap_or(absent)
    }

    /// The tables of a list under `name`; none when it is not written.
    pub fn tables(&self, name: &'static str, names: Names, mut each: impl FnMut(usize, &Table<'_>)) {
        let Some(list) = self.get(name) else { return };
        if list.value.as_array().is_none() {
            return list.is_no("a list of tables");
        }
        list.each("a list of tables", |index, item| {
            if let Some(table) = item.into_table(names) {
                each(index, &table);
            }
        });
    }

    /// Every member, whatever its name, in the order of the names.
    pub fn members<'t>(&'t self) -> impl Iterator<Item = (&'t str, Item<'t>)> {
        self.entries.into_iter().flatten().map(|(name, value)| {
            let name: &'t str = name.get_ref();
            (name, Item::new(self.reader, value, Path::Name(&self.path, name)))
        })
    }

    /// Whether anything stands under `name`.
    pub fn has(&self, name: &'static str) -> bool {
        self.get(name).is_some()
    }

    /// Records a fault for each name that is not one of the table's. What stands under it is not shown: it may be a secret
    /// under a misspelled name.
    pub(super) fn refuse_unknown_names(&self) {
        for (name, _) in self.entries.into_iter().flatten() {
            let span = Spanned::span(name);
            let name: &str = name.get_ref();
            if self.names.contains(&name) {
                continue;
            }
            let help = match suggest(name, self.names) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", self.names.join(", ")),
            };
            let path = Path::Name(&self.path, name).write();
            self.reader.fault(Note { span, is_shown: true, path, problem: "unknown name".into(), help: Some(help) });
        }
    }
}

/// What kind of thing a value is, for faults.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
