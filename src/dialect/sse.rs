//! Server-sent events, cut at their boundaries while the bytes pass.
//!
//! As the HTML standard has it ("Parsing an event stream"): lines end in CR LF, LF or CR; an event ends with an empty line;
//! of its lines only `data` matters here. Nothing is copied and nothing is held: both readers keep a few bits between
//! pieces, so a boundary may fall anywhere.

use memchr::memchr2;

/// What a stream may begin with and what then is no part of its first line.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Finds where events end.
#[derive(Debug, Clone)]
pub struct Cutter {
    /// No byte of the current line was seen yet.
    at_line_start: bool,
    /// The last piece ended in the CR of a line; an LF that comes now belongs to it.
    after_cr: bool,
    /// The last event ended in a CR; an LF that comes now belongs to that event.
    owes_lf: bool,
}

impl Default for Cutter {
    fn default() -> Self {
        Self::new()
    }
}

impl Cutter {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self { at_line_start: true, after_cr: false, owes_lf: false }
    }

    /// Whether the first byte of `rest` still belongs to the event that ended last: the LF of its final CR LF. To be asked
    /// before every [`Cutter::next_end`]; an event is complete with its CR, and waiting for the LF would hold it back.
    pub fn takes_lf(&mut self, rest: &[u8]) -> bool {
        match rest.first() {
            Some(first) if self.owes_lf => {
                self.owes_lf = false;
                *first == b'\n'
            }
            _ => false,
        }
    }

    /// How many bytes of `rest` the current event still has, its empty line included (of a final CR LF only the CR, see
    /// [`Cutter::takes_lf`]); `None` when all of `rest` belongs to it and it goes on.
    pub fn next_end(&mut self, rest: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            at = usize::from(rest.starts_with(b"\n"));
        }
        loop {
            let tail = rest.get(at..).unwrap_or_default();
            // Mostly one of the two ends the event right behind its line.
            let is_end = matches!(tail.first(), Some(b'\r' | b'\n'));
            let Some(length) = (if is_end { Some(0) } else { memchr2(b'\r', b'\n', tail) }) else {
                self.at_line_start &= tail.is_empty();
                return None;
            };
            let is_cr = tail.get(length) == Some(&b'\r');
            at += length + 1;
            if self.at_line_start && length == 0 {
                self.owes_lf = is_cr;
                return Some(at);
            }
            self.at_line_start = true;
            if is_cr {
                match rest.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
    }
}

/// Reads the `data` lines out of one event.
#[derive(Debug, Clone, Default)]
pub struct DataLines {
    line: Line,
}

/// Where in a line the last piece ended.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// So many bytes of the field name `data` were seen.
    Name(u8),
    /// Just behind the colon, where one space is no part of the value.
    Gap,
    /// In the value.
    Value,
    /// In a line of another field, or a comment.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}

impl DataLines {
    /// Hands the values of the `data` lines in `piece` to `sink`, each followed by a newline. A value that goes on in the
    /// next piece comes in as many parts.
    pub fn push(&mut self, piece: &[u8], sink: &mut impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some((first, behind)) = rest.split_first() {
            let ends_line = matches!(first, b'\r' | b'\n');
            match self.line {
                Line::Name(4) | Line::Gap if ends_line => {
                    sink(b"\n");
                    self.line = Line::Name(0);
                    rest = behind;
                }
                Line::Name(_) if ends_line => {
                    self.line = Line::Name(0);
                    rest = behind;
                }
                Line::Name(seen) => {
                    self.line = match b"data:".get(usize::from(seen)) {
                        Some(wanted) if wanted == first && seen < 4 => Line::Name(seen + 1),
                        Some(wanted) if wanted == first => Line::Gap,
                        _ => Line::Other,
                    };
                    rest = behind;
                }
                Line::Gap => {
                    self.line = Line::Value;
                    if *first == b' ' {
                        rest = behind;
                    }
                }
                Line::Value | Line::Other => rest = self.line_end(rest, sink),
            }
        }
    }

    fn line_end<'a>(&mut self, rest: &'a [u8], sink: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let end = memchr2(b'\r', b'\n', rest);
        let (text, behind) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        let is_value = matches!(self.line, Line::Value);
        if is_value && !text.is_empty() {
            sink(text);
        }
        if end.is_none() {
            return behind;
        }
        if is_value {
            sink(b"\n");
        }
        self.line = Line::Name(0);
        behind.get(1..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lengths of the events of a stream that comes in these pieces, each with its LF where it has one.
    fn cut(pieces: &[&[u8]]) -> Vec<usize> {
        let mut cutter = Cutter::new();
        let (mut ends, mut passed) = (Vec::new(), 0);
        for piece in pieces {
            let mut rest = *piece;
            loop {
                if cutter.takes_lf(rest) {
                    passed += 1;
                    *ends.last_mut().unwrap() += 1;
                    rest = &rest[1..];
                }
                let Some(length) = cutter.next_end(rest) else { break };
                passed += length;
                ends.push(passed);
                rest = &rest[length..];
            }
            passed += rest.len();
        }
        ends
    }

    fn data(pieces: &[&[u8]]) -> String {
        let mut lines = DataLines::default();
        let mut all = Vec::new();
        for piece in pieces {
            lines.push(piece, &mut |part| all.extend_from_slice(part));
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn an_event_ends_with_an_empty_line_however_lines_end() {
        assert_eq!(cut(&[b"data: a\n\ndata: b\n\n"]), [9, 18]);
        assert_eq!(cut(&[b"data: a\r\n\r\ndata: b\r\n\r\n"]), [11, 22]);
        assert_eq!(cut(&[b"data: a\r\rdata: b\r\r"]), [9, 18]);
        assert_eq!(cut(&[b"data: a\r\n\ndata: b\n\r\n"]), [10, 20]);
        assert_eq!(cut(&[b"event: x\ndata: a\n"]), [0_usize; 0]);
    }

    #[test]
    fn an_event_is_complete_with_its_cr_and_the_lf_is_still_its_own() {
        assert_eq!(cut(&[b"data: a\r\n\r", b"\ndata: b\r\n\r\n"]), [11, 22]);
        assert_eq!(cut(&[b"data: a\r", b"\n\r", b"\n"]), [11]);
        assert_eq!(cut(&[b"data: a\r", b"\r"]), [9]);
    }

    #[test]
    fn only_data_lines_are_read_with_at_most_one_space_taken_off() {
        assert_eq!(data(&[b": note\nevent: x\ndata:a\ndata:  b\ndatax: c\ndata\nid: 7\nDATA: d\n\n"]), "a\n b\n\n");
        assert_eq!(data(&[b"data: {\r\ndata: }\r\n\r\n"]), "{\n}\n");
        assert_eq!(data(&[b"da", b"ta", b":", b" x", b"y\n"]), "xy\n");
        assert_eq!(data(&[b"data:\n\n"]), "\n");
    }

    proptest! {
        #[test]
        fn where_the_pieces_are_cut_changes_nothing(
            text in "[da:t \r\n]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(cut(&pieces), cut(&[bytes]));
            prop_assert_eq!(data(&pieces), data(&[bytes]));
        }
    }
}
