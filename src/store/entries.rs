//! Settled requests on their way from a journal into the store: the bytes they stand there as. Nothing is taken apart before it is written.

use std::fmt;
use std::sync::Arc;

use crate::store::{Entry, frame};

/// Entries with their sequence numbers, ascending.
#[derive(Clone, Default)]
pub struct Entries {
    /// One behind the other, each found to be whole; then whatever stood there.
    bytes: Arc<Vec<u8>>,
    /// Where they end.
    end: usize,
    count: usize,
    last: u64,
}

impl Entries {
    /// Of `count` frames that `bytes` hold up to `end`, each of which passes [`frame::check`]; the number of the last is `last`.
    pub(crate) fn of_frames(bytes: Vec<u8>, end: usize, count: usize, last: u64) -> Self {
        Self { bytes: Arc::new(bytes), end, count, last }
    }

    /// Of entries that are in no journal, or were taken out of it.
    pub fn of<'a>(entries: impl IntoIterator<Item = (u64, Entry<&'a str>)>) -> Self {
        let (mut frames, mut count, mut last) = (Vec::new(), 0, 0);
        for (sequence, entry) in entries {
            let at = frames.len();
            frames.resize(at + frame::length(&entry), 0);
            frame::encode(&entry, sequence, frames.get_mut(at..).unwrap_or_default());
            (count, last) = (count + 1, sequence);
        }
        let end = frames.len();
        Self::of_frames(frames, end, count, last)
    }

    /// Gives each of them to `each`, with its number, as long as that is well.
    ///
    /// # Errors
    /// The first of `each`.
    pub fn try_each<'a, E>(&'a self, mut each: impl FnMut(u64, &Entry<&'a str>) -> Result<(), E>) -> Result<(), E> {
        let mut rest = self.frames();
        while let Some((sequence, entry, length)) = &frame::read(rest) {
            each(*sequence, entry)?;
            rest = rest.get(*length..).unwrap_or_default();
        }
        Ok(())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Entry<&str>)> {
        let mut rest = self.frames();
        std::iter::from_fn(move || {
            let (sequence, entry, length) = frame::read(rest)?;
            rest = rest.get(length..)?;
            Some((sequence, entry))
        })
    }

    fn frames(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of the last of them.
    pub fn last(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.last)
    }

    /// The memory that they took, if nobody else has them, for others to be read into.
    pub(crate) fn into_room(self) -> Option<Vec<u8>> {
        Arc::into_inner(self.bytes)
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.frames() == other.frames()
    }
}

impl Eq for Entries {}

impl FromIterator<(u64, Entry)> for Entries {
    fn from_iter<I: IntoIterator<Item = (u64, Entry)>>(entries: I) -> Self {
        let entries = entries.into_iter().collect::<Vec<_>>();
        Self::of(entries.iter().map(|(sequence, entry)| (*sequence, entry.as_text())))
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
