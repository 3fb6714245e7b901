//! The table: one line for each thing measured, one column for each program, medians with their spread, and ratios.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{Cell, CellAlignment, ContentArrangement};

use crate::series::Series;

/// Who was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The backend without a proxy.
    Direct,
    Haproxy,
    Nginx,
    /// Keyward, a key without limits.
    Plain,
    /// Keyward, every policy on.
    Policy,
}

impl Column {
    const ALL: [Self; 5] = [Self::Direct, Self::Haproxy, Self::Nginx, Self::Plain, Self::Policy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Plain => "Keyward, no limits",
            Self::Policy => "Keyward, every policy",
        }
    }
}

#[derive(Debug)]
struct Line {
    what: String,
    cells: Vec<(Column, Series)>,
    has_ratios: bool,
    wanted: &'static str,
}

/// All lines so far.
#[derive(Debug)]
pub struct Table {
    lines: Vec<Line>,
    rounds: usize,
}

impl Table {
    pub fn new(rounds: usize) -> Self {
        Self { lines: Vec::new(), rounds }
    }

    /// Adds a line; `wanted` is what it is to come to.
    pub fn add(&mut self, what: impl Into<String>, cells: Vec<(Column, Series)>, wanted: &'static str) {
        self.lines.push(Line { what: what.into(), cells, has_ratios: true, wanted });
    }

    /// Adds a line whose numbers are not to be divided by each other.
    pub fn add_alone(&mut self, what: impl Into<String>, cells: Vec<(Column, Series)>, wanted: &'static str) {
        self.lines.push(Line { what: what.into(), cells, has_ratios: false, wanted });
    }

    /// Whether every cell has a number.
    pub fn is_whole(&self) -> bool {
        let all = |line: &Line| line.cells.iter().all(|(_, series)| series.median().is_some());
        !self.lines.is_empty() && self.lines.iter().all(all)
    }

    pub fn render(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        let measured = format!("median ({} rounds: least..most)", self.rounds);
        let names = Column::ALL.map(Column::name).into_iter();
        table.set_header(std::iter::once(measured.as_str()).chain(names).chain(["/ HAProxy", "/ nginx", "wanted"]));
        for line in &self.lines {
            let mut cells = vec![Cell::new(&line.what)];
            for column in Column::ALL {
                let text = line.of(column).map_or_else(String::new, shown);
                cells.push(Cell::new(text).set_alignment(CellAlignment::Right));
            }
            for rival in [Column::Haproxy, Column::Nginx] {
                cells.push(Cell::new(line.ratios(rival)).set_alignment(CellAlignment::Right));
            }
            cells.push(Cell::new(line.wanted));
            table.add_row(cells);
        }
        format!(
            "{table}\nRatios are those of Keyward with every policy on (in parentheses without limits): the median of each round's."
        )
    }
}

impl Line {
    fn of(&self, column: Column) -> Option<&Series> {
        self.cells.iter().find(|(of, _)| *of == column).map(|(_, series)| series)
    }

    /// Keyward's number over the rival's.
    fn ratios(&self, rival: Column) -> String {
        let Some(rival) = self.of(rival).filter(|_| self.has_ratios) else { return String::new() };
        let ratio = |column| Some(format!("{:.2}", self.of(column)?.ratio(rival)?));
        match (ratio(Column::Policy), ratio(Column::Plain)) {
            (Some(policy), Some(plain)) => format!("{policy} ({plain})"),
            (Some(policy), None) => policy,
            (None, plain) => plain.map(|plain| format!("({plain})")).unwrap_or_default(),
        }
    }
}

fn shown(series: &Series) -> String {
    match (series.median(), series.spread()) {
        (Some(median), Some((least, most))) if series.0.len() > 1 => {
            format!("{} ({}..{})", number(median), number(least), number(most))
        }
        (Some(median), _) => number(median),
        _ => "failed".to_owned(),
    }
}

/// Three figures, as far as they are to be had.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
