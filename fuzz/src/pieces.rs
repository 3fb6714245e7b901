//! Cuts bytes into pieces in a way that one byte decides, so that a finding can be replayed.

/// The pieces of `bytes`, never empty ones: of one byte each for 0, all of equal length below 128, of changing length from there.
pub fn of(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    if seed < 128 {
        return bytes.chunks(usize::from(seed) + 1).collect();
    }
    let (mut pieces, mut rest, mut state) = (Vec::new(), bytes, u32::from(seed));
    while !rest.is_empty() {
        // Numerical Recipes' generator: its upper bits are random enough to cut with.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = if state >> 31 == 0 { 4 } else { 200 };
        let length = (state as usize >> 16) % longest + 1;
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
