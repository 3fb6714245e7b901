//! What is wrong with a file, all of it at once, told so that it can be put right without guessing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::config::excerpt::Excerpt;

/// One thing wrong (or, as a warning, unwise) in a file. Holds no secret: secret values are never copied into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named to us.
    pub file: Arc<Path>,
    /// Where in it; `None` when the file could not be read at all.
    pub place: Option<Place>,
    /// Which setting, e.g. `upstreams[1].api_key`; empty when the file is not TOML there.
    pub path: String,
    /// What is wrong, with the value unless it is a secret, and what was expected.
    pub problem: String,
    /// What to do about it, where that can be told.
    pub help: Option<String>,
    pub(super) excerpt: Option<Excerpt>,
    pub(super) is_warning: bool,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl Fault {
    /// Of what is in order as far as the file goes, and clashes with something else that there is.
    pub fn beyond(file: &Arc<Path>, line: Option<usize>, path: String, problem: String, help: Option<&str>) -> Self {
        Self {
            file: Arc::clone(file),
            place: line.map(|line| Place { line, column: 1 }),
            path,
            problem,
            help: help.map(str::to_owned),
            excerpt: None,
            is_warning: false,
        }
    }

    /// Draws it with its line of the file, whose other values are starred out because they may be secrets.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
        let level = if self.is_warning { Level::WARNING } else { Level::ERROR };
        let file = self.file.display().to_string();
        let title = if self.path.is_empty() { "the file cannot be read" } else { self.path.as_str() };
        let mut group = Group::with_title(level.primary_title(title));
        group = match (&self.excerpt, self.place) {
            (Some(excerpt), Some(place)) => group.element(
                Snippet::source(excerpt.line.as_str())
                    .line_start(place.line)
                    .path(file)
                    .annotation(AnnotationKind::Primary.span(excerpt.marked.clone()).label(self.problem.as_str())),
            ),
            (None, Some(place)) => {
                let origin = Origin::path(file).line(place.line).char_column(place.column);
                group.element(origin).element(Level::NOTE.message(self.problem.as_str()))
            }
            (_, None) => group.element(Origin::path(file)).element(Level::NOTE.message(self.problem.as_str())),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.problem)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// Everything wrong with a file, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Sorted by place.
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.place);
        Self(faults)
    }

    /// A file that could not be read at all.
    pub(super) fn unreadable(file: &Path, problem: String) -> Self {
        Self::from(Fault::beyond(&file.into(), None, String::new(), problem, None))
    }

    /// Those found, if any.
    pub fn found(faults: Vec<Fault>) -> Option<Self> {
        (!faults.is_empty()).then(|| Self::new(faults))
    }

    /// Each fault.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes another file's faults in, after these.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Draws each with its line of the file, for people. See [`Fault::render`] for what is starred out.
    pub fn render(&self, colour: bool) -> String {
        let drawn: Vec<String> = self.iter().map(|fault| fault.render(colour)).collect();
        drawn.join("\n\n")
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line each.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
