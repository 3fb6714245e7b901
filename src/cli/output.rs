//! What is printed: tables for eyes, JSON for programs.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::Value;

use super::failure::Failure;
use super::is_coloured;

/// Shown where there is nothing.
const NOTHING: &str = "-";

/// Where a table is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Characters in a line; unbounded where it is no terminal.
    pub width: Option<u16>,
    /// Whether it shows colours.
    pub is_coloured: bool,
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Self {
        let stdout = std::io::stdout();
        // The width is that of standard output's terminal, when it is one and knows.
        let width = Table::new().width().filter(|width| *width > 0 && stdout.is_terminal());
        Self { width, is_coloured: is_coloured(&stdout) }
    }
}

/// A column of a grid.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its heading.
    pub head: Cow<'static, str>,
    /// 0 is always shown, whole; of the others the highest go first when the screen is too narrow.
    pub rank: u8,
    /// Numbers stand to the right.
    pub is_number: bool,
    /// Sentences: they may wrap, so that little room is enough for them.
    pub is_prose: bool,
}

/// The room that sentences are given at least, characters.
const PROSE: u16 = 30;

impl Column {
    /// Of text.
    pub const fn text(head: &'static str, rank: u8) -> Self {
        Self { head: Cow::Borrowed(head), rank, is_number: false, is_prose: false }
    }

    /// Of sentences.
    pub const fn prose(head: &'static str, rank: u8) -> Self {
        Self { head: Cow::Borrowed(head), rank, is_number: false, is_prose: true }
    }

    /// Of numbers.
    pub const fn number(head: &'static str, rank: u8) -> Self {
        Self { head: Cow::Borrowed(head), rank, is_number: true, is_prose: false }
    }
}

/// A table that may come in pages: the head stands above the first, and the columns keep their places.
#[derive(Debug)]
pub struct Grid {
    columns: Vec<Column>,
    screen: Screen,
    /// Of the pages before: how wide each column was, and none where it is hidden.
    widths: Option<Vec<Option<u16>>>,
}

impl Grid {
    /// Without rows yet.
    pub fn new(columns: &[Column], screen: Screen) -> Self {
        Self { columns: columns.to_vec(), screen, widths: None }
    }

    /// The next rows, each with as many cells as there are columns.
    pub fn page(&mut self, rows: &[Vec<String>]) -> String {
        let mut table = blank(self.screen);
        let head = self.columns.iter().map(|column| {
            let cell = Cell::new(&column.head);
            if self.screen.is_coloured { cell.add_attribute(Attribute::Bold) } else { cell }
        });
        let head = head.collect::<Vec<_>>();
        for row in rows {
            table.add_row(row.iter().map(|text| cell(text, self.screen.is_coloured)));
        }
        let is_first = self.widths.is_none();
        if is_first {
            table.set_header(head);
        }
        let widths = self.widths.take().unwrap_or_else(|| self.fitting(&table));
        let content = self.needed(&table);
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            let (Some(kind), Some(before)) = (self.columns.get(at), widths.get(at)) else { continue };
            if kind.is_number {
                column.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
            match before {
                None => column.set_constraint(ColumnConstraint::Hidden),
                Some(_) if kind.rank == 0 && !self.is_wide(&content) => {
                    let width = content.get(at).copied().unwrap_or(0).max(before.unwrap_or(0));
                    column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width.saturating_add(2))))
                }
                Some(width) => {
                    column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width.saturating_add(2))))
                }
            };
        }
        self.widths = Some(
            widths.iter().zip(content).map(|(before, now)| before.map(|_| before.unwrap_or(0).max(now))).collect(),
        );
        let text = table.trim_fmt();
        format!("{text}\n")
    }

    /// The width that each column needs.
    fn needed(&self, table: &Table) -> Vec<u16> {
        let widths = table.column_max_content_widths();
        let most = |column: &Column| if column.is_prose { PROSE } else { u16::MAX };
        widths.iter().zip(&self.columns).map(|(width, column)| (*width).min(most(column))).collect()
    }

    /// Which columns fit, with their widths: the least important are left out until the rest does.
    fn fitting(&self, table: &Table) -> Vec<Option<u16>> {
        let mut widths = self.needed(table).into_iter().map(Some).collect::<Vec<_>>();
        let Some(screen) = self.screen.width else { return widths };
        loop {
            let total = widths.iter().flatten().map(|width| u32::from(*width) + 2).sum::<u32>();
            if total <= u32::from(screen) {
                return widths;
            }
            let shown = self.columns.iter().enumerate().filter(|(at, column)| column.rank > 0 && widths[*at].is_some());
            let Some((least, _)) = shown.max_by_key(|(_, column)| column.rank) else { break };
            widths[least] = None;
        }
        // What is left wraps.
        widths.iter().map(|width| width.map(|_| 0)).collect()
    }

    /// Whether even the columns that are never left out have no room.
    fn is_wide(&self, content: &[u16]) -> bool {
        let needed = self.columns.iter().zip(content).filter(|(column, _)| column.rank == 0);
        let needed = needed.map(|(_, width)| u32::from(*width) + 2).sum::<u32>();
        self.screen.width.is_some_and(|width| needed > u32::from(width))
    }
}

/// Names with their values, one to a line.
pub fn card(rows: &[(String, String)], screen: Screen) -> String {
    let mut table = blank(screen);
    for (name, value) in rows {
        let name = Cell::new(name);
        let name = if screen.is_coloured { name.add_attribute(Attribute::Bold) } else { name };
        table.add_row([name, cell(value, screen.is_coloured)]);
    }
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    format!("{}\n", table.trim_fmt())
}

fn blank(screen: Screen) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    match screen.width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    if screen.is_coloured {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    table
}

/// Words that tell a state are coloured by it.
fn cell(text: &str, is_coloured: bool) -> Cell {
    let cell = Cell::new(text);
    let colour = match text {
        "active" | "\u{2713}" => Color::Green,
        "disabled" | "~" => Color::Yellow,
        "expired" | "exhausted" | "\u{2717}" => Color::Red,
        _ => return cell,
    };
    if is_coloured { cell.fg(colour) } else { cell }
}

/// Text of others, without what would move a terminal's cursor or change its colours.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        // Also what turns the direction of writing, ends a line, or is not seen at all and so makes two texts look the same. The
        // joiners stay, which some scripts are written with.
        let is_trick = c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
            || matches!(c, '\u{e0000}'..='\u{e007f}');
        if is_trick { plain.extend(c.escape_unicode()) } else { plain.push(c) }
    }
    plain
}

/// A value as it stands in a cell.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) if text.is_empty() => NOTHING.to_owned(),
        Value::String(text) => plain(text),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(values) if values.is_empty() => NOTHING.to_owned(),
        Value::Array(values) => {
            let joint = if values.iter().any(Value::is_object) { "; " } else { ", " };
            values.iter().map(text_of).collect::<Vec<_>>().join(joint)
        }
        Value::Object(pairs) if pairs.is_empty() => NOTHING.to_owned(),
        Value::Object(pairs) if pairs.contains_key("prefix") && pairs.contains_key("until") => old_secret(value),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| format!("{}={}", plain(name), text_of(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
    }
}

/// A secret that was replaced: which one, until when it works, and what is known of its use.
fn old_secret(old: &Value) -> String {
    let mut text = format!("{} until {}", text_of(&old["prefix"]), second_of(&old["until"]));
    if let Some(uses) = old["uses"].as_u64() {
        let word = if uses == 1 { "use" } else { "uses" };
        let last = if old["last_used_at"].is_null() { "never".to_owned() } else { second_of(&old["last_used_at"]) };
        text.push_str(&format!(", {uses} {word} since it was replaced, last used {last}"));
    }
    text
}

/// A moment to the minute.
pub fn minute_of(value: &Value) -> String {
    moment_of(value, "%Y-%m-%d %H:%M")
}

/// A moment to the second.
pub fn second_of(value: &Value) -> String {
    moment_of(value, "%Y-%m-%d %H:%M:%S")
}

fn moment_of(value: &Value, form: &str) -> String {
    match value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(moment) => moment.strftime(form).to_string(),
        None => text_of(value),
    }
}

/// Writes to standard output.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes a line to standard output. The exit code is `code`, or that of a line that could not be written.
pub fn say(line: &str, code: u8) -> u8 {
    match write(&format!("{line}\n")) {
        Ok(()) => code,
        Err(failure) => failure.report(),
    }
}

/// Writes the API's own JSON: as it came for programs, with indents for eyes; names keep their order.
pub fn write_json(json: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return write(&indented(json).map_err(|error| super::client::strange(&error.to_string()))?);
    }
    write(&format!("{}\n", json.trim_end()))
}

fn indented(json: &str) -> serde_json::Result<String> {
    let mut from = serde_json::Deserializer::from_str(json);
    let mut text = Vec::new();
    serde_transcode::transcode(&mut from, &mut serde_json::Serializer::pretty(&mut text))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests;
