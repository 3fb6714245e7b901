//! Changes to a body, made by writing around its bytes: every byte that is not changed goes out as it came in.

use std::ops::Range;

use bytes::Bytes;

use crate::units::Tokens;

/// What is to be changed in a body before it goes out. The default changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The upstream's own name for the model.
    pub model: Option<&'a str>,
    /// The most output tokens of one choice: a higher limit in the body is lowered to this, a missing one is put in, as is one
    /// of zero, a lower one stays.
    pub output: Option<Tokens>,
    /// Ask for usage in the stream (`stream_options.include_usage`).
    pub include_usage: bool,
}

/// Where in a body each change goes. Holds offsets into the one body it was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splices {
    /// Every place that names the model; all of them agree.
    pub(super) models: Places,
    /// The members that limit the output, with what they say.
    pub(super) limits: [Option<Limit>; 2],
    /// Where a limit goes when there is none.
    pub(super) new_limit: Option<(Spot, Member)>,
    /// Where `include_usage` goes.
    pub(super) usage: Option<(Spot, Member)>,
    pub(super) asks_usage: bool,
    pub(super) is_form: bool,
}

/// Places in a body. Mostly there is one, which needs no room of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    first: Option<Range<usize>>,
    others: Vec<Range<usize>>,
}

impl Places {
    /// Adds a place.
    pub(super) fn push(&mut self, place: Range<usize>) {
        match self.first {
            None => self.first = Some(place),
            Some(_) => self.others.push(place),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Range<usize>> {
        self.first.iter().chain(&self.others)
    }
}

/// A limit of the output that the body states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) range: Range<usize>,
    /// `None` for null.
    pub(super) value: Option<Tokens>,
}

/// A place for new text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    /// Right behind the opening brace of an object, as its first member.
    First { at: usize, is_empty: bool },
    /// Instead of a value.
    Instead(Range<usize>),
}

/// What is written into a spot; what varies stands between the two halves.
pub(super) type Member = (&'static str, &'static str);

/// One change: these bytes become this text.
struct Patch {
    range: Range<usize>,
    text: String,
}

impl Splices {
    /// The body with `edits` made. The same `Bytes`, without a copy, when nothing changes. An edit that has no place in this
    /// body (a model in a body without one, usage where [`can_splice_usage`](Self::can_splice_usage) is false) is not made.
    /// `edits.model` must be a model name in the sense of [`ModelName`](crate::units::ModelName), or it is escaped for JSON.
    pub fn render(&self, body: &Bytes, edits: &Edits<'_>) -> Bytes {
        let mut patches = Vec::new();
        self.patch_model(body, edits, &mut patches);
        self.patch_output(edits, &mut patches);
        if let (true, Some((spot, (before, after)))) = (edits.include_usage, &self.usage) {
            insert(spot, format!("{before}true{after}"), &mut patches);
        }
        if patches.is_empty() {
            return body.clone();
        }
        patches.sort_by_key(|patch| patch.range.start);
        let added: usize = patches.iter().map(|patch| patch.text.len()).sum();
        let mut out = Vec::with_capacity(body.len() + added);
        let mut from = 0;
        for patch in &patches {
            out.extend_from_slice(body.get(from..patch.range.start).unwrap_or_default());
            out.extend_from_slice(patch.text.as_bytes());
            from = patch.range.end;
        }
        out.extend_from_slice(body.get(from..).unwrap_or_default());
        out.into()
    }

    /// Whether the request itself asks for usage in the stream.
    pub fn asks_usage(&self) -> bool {
        self.asks_usage
    }

    /// Whether asking for usage can be put into this body: a stream of openai's or azure's chat or completions that does not
    /// ask already.
    pub fn can_splice_usage(&self) -> bool {
        self.usage.is_some()
    }

    fn patch_model(&self, body: &Bytes, edits: &Edits<'_>, patches: &mut Vec<Patch>) {
        let Some(model) = edits.model else { return };
        let written = if self.is_form { model.to_owned() } else { escape(model) };
        let changed = self.models.iter().filter(|range| body.get((*range).clone()) != Some(written.as_bytes()));
        patches.extend(changed.map(|range| Patch { range: range.clone(), text: written.clone() }));
    }

    fn patch_output(&self, edits: &Edits<'_>, patches: &mut Vec<Patch>) {
        let Some(output) = edits.output else { return };
        let mut stated = self.limits.iter().flatten().filter(|limit| limit.value.is_some()).peekable();
        if stated.peek().is_some() {
            // Zero is "no limit" to some backends.
            let above = stated.filter(|limit| limit.value == Some(0) || limit.value > Some(output));
            return patches.extend(above.map(|limit| Patch { range: limit.range.clone(), text: output.to_string() }));
        }
        if let Some(null) = self.limits.iter().flatten().next() {
            patches.push(Patch { range: null.range.clone(), text: output.to_string() });
        } else if let Some((spot, (before, after))) = &self.new_limit {
            insert(spot, format!("{before}{output}{after}"), patches);
        }
    }
}

fn insert(spot: &Spot, mut text: String, patches: &mut Vec<Patch>) {
    let range = match spot {
        Spot::Instead(range) => range.clone(),
        Spot::First { at, is_empty: false } => {
            text.push(',');
            *at..*at
        }
        Spot::First { at, is_empty: true } => {
            if patches.iter().any(|patch| patch.range == (*at..*at)) {
                text.insert(0, ',');
            }
            *at..*at
        }
    };
    patches.push(Patch { range, text });
}

/// `text` as it is written inside a JSON string. A model name has nothing to escape.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out
}
