//! Sixteen bytes at a time: the first of them that matters, found by arithmetic on words rather than by a look at each.

/// Bytes looked at together.
pub(in crate::dialect) const BLOCK: usize = 16;

const WORD: usize = 8;
const ONES: u64 = u64::from_ne_bytes([1; WORD]);

/// Flipping bit 1 brings the quotation mark (0x22) next to the control characters and leaves those below 0x20, so that one
/// comparison finds both.
const FLIP: u8 = 0x02;

/// The block of `text` at `at`, when there is a whole one.
#[inline]
pub(in crate::dialect) fn at(text: &[u8], at: usize) -> Option<&[u8; BLOCK]> {
    text.get(at..).and_then(|rest| rest.first_chunk())
}

/// The first quotation mark, backslash or control character.
#[inline]
pub(super) fn special(block: &[u8; BLOCK]) -> Option<usize> {
    first(block, |word| below(word ^ all(FLIP), 0x21) | below(word ^ all(b'\\'), 1))
}

/// The first quotation mark or backslash.
#[inline]
pub(super) fn ending(block: &[u8; BLOCK]) -> Option<usize> {
    first(block, |word| below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1))
}

/// Whether two blocks hold a quotation mark, backslash or control character: for long runs of neither, which compilers make
/// vectors of.
#[inline]
pub(super) fn has_special(blocks: &[u8; 2 * BLOCK]) -> bool {
    let is_special = |byte: u8| ((byte ^ FLIP) < 0x21) | (byte == b'\\');
    blocks.iter().fold(0, |found, byte| found | u8::from(is_special(*byte))) != 0
}

/// Whether there is a quotation mark, a bracket or a brace.
#[inline]
pub(in crate::dialect) fn has_bracket(block: &[u8; BLOCK]) -> bool {
    // Of each pair a bracket and a brace differ in one bit, and no other byte becomes the same without it.
    let is_bracket = |byte: u8| (byte | 0x20 == b'{') | (byte | 0x20 == b'}') | (byte == b'"');
    block.iter().fold(0, |found, byte| found | u8::from(is_bracket(*byte))) != 0
}

#[inline]
const fn all(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Marks the bytes below `least`, by subtracting in all of them at once. A borrow can only mark bytes behind the first of them,
/// so the lowest mark is exact.
#[inline]
fn below(word: u64, least: u8) -> u64 {
    word.wrapping_sub(all(least)) & !word
}

#[inline]
fn first(block: &[u8; BLOCK], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let (words, _) = block.as_chunks::<WORD>();
    words.iter().enumerate().find_map(|(index, word)| {
        let marks = marks(u64::from_le_bytes(*word)) & all(0x80);
        (marks != 0).then(|| index * WORD + (marks.trailing_zeros() / 8) as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn telling() -> impl Strategy<Value = u8> {
        let near = b"\"\\{}[]\x00\x1f\x20!#;=Z^z|\x7f\x80\xa2\xdb\xdd\xfb\xfd\xff".to_vec();
        prop_oneof![1 => any::<u8>(), 1 => prop::sample::select(near), 8 => Just(b'a')]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_first_that_matters_is_found(bytes in prop::collection::vec(telling(), BLOCK)) {
            let block: &[u8; BLOCK] = bytes.first_chunk().unwrap();
            let first = |matters: fn(&u8) -> bool| block.iter().position(matters);
            prop_assert_eq!(special(block), first(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)));
            let mut twice = [b'a'; 2 * BLOCK];
            twice[BLOCK / 2..][..BLOCK].copy_from_slice(block);
            prop_assert_eq!(has_special(&twice), special(block).is_some());
            prop_assert_eq!(ending(block), first(|byte| matches!(byte, b'"' | b'\\')));
            let bracket = first(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'));
            prop_assert_eq!(has_bracket(block), bracket.is_some());
        }
    }
}
