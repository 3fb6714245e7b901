//! What stands outside of strings: the bytes that say where values begin and end, and the way past all others.

use crate::dialect::json::block;

/// What a byte outside of strings is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    Quote,
    Object,
    Array,
    End,
    Comma,
    Colon,
}

/// By byte.
pub(super) static MARKS: [Mark; 256] = {
    let mut marks = [Mark::None; 256];
    marks[b'"' as usize] = Mark::Quote;
    marks[b'{' as usize] = Mark::Object;
    marks[b'[' as usize] = Mark::Array;
    marks[b'}' as usize] = Mark::End;
    marks[b']' as usize] = Mark::End;
    marks[b',' as usize] = Mark::Comma;
    marks[b':' as usize] = Mark::Colon;
    marks
};

/// Behind the number or word of `piece` that goes on at `at`.
#[inline]
pub(super) fn plain_value(piece: &[u8], at: usize) -> usize {
    let rest = piece.get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| MARKS[usize::from(*byte)] != Mark::None);
    length.map_or(piece.len(), |length| at + length)
}

/// Behind what of `piece` from `at` on is neither a string nor a container, block by block: an array may hold thousands of numbers.
#[inline]
pub(super) fn plain_elements(piece: &[u8], mut at: usize) -> usize {
    while block::at(piece, at).is_some_and(|block| !block::has_bracket(block)) {
        at += block::BLOCK;
    }
    at
}
