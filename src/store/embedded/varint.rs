//! Numbers of variable length: seven bits to a byte, the lowest first, and a bit that says that more follow.

/// Writes one.
pub(super) fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads one off the front; `None` when there is no whole one.
pub(super) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A number with a sign as one without, small where it is near zero.
pub(super) fn folded(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// The number that was [`folded`].
pub(super) fn unfolded(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, bits in 0_u32..64) {
            let number = number >> bits;
            let mut bytes = Vec::new();
            write(&mut bytes, number);
            prop_assert!(bytes.len() <= 10 && (1..bytes.len()).all(|end| read(&mut &bytes[..end]).is_none()));
            let mut rest = bytes.as_slice();
            prop_assert_eq!((read(&mut rest), rest.len()), (Some(number), 0));
            prop_assert_eq!(folded(unfolded(number)), number);
            prop_assert!(folded((number >> 1).cast_signed()) <= number | 1);
        }
    }
}
