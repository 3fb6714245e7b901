//! Request ids: the caller's own when it is plain, else one of ours.

use std::cell::Cell;

use crate::headers::Headers;

/// Makes ids without a system call each: a per-worker counter run through a mixing function, seeded once from the system.
#[derive(Debug)]
pub struct RequestIds {
    state: Cell<u64>,
    salt: u64,
}

/// What ours begin with.
const PREFIX: &str = "req_";
const HEX: &[u8; 16] = b"0123456789abcdef";
/// The longest id a caller may bring.
const MAX_BYTES: usize = 128;

impl RequestIds {
    /// Seeded from the system's random source.
    ///
    /// # Errors
    /// When there is none.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { state: Cell::new(getrandom::u64()?), salt: getrandom::u64()? })
    }

    /// The id in `x-request-id` when it is 1 to 128 of `[A-Za-z0-9._-]` and there is exactly one, else a new one.
    pub fn of(&self, headers: &Headers) -> Box<str> {
        let mut given = headers.get_all("x-request-id").iter();
        if let (Some(id), None) = (given.next(), given.next())
            && let Ok(id) = id.to_str()
            && (1..=MAX_BYTES).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        {
            return id.into();
        }
        self.next()
    }

    fn next(&self) -> Box<str> {
        let step = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(step);
        let number = u128::from(mix(step)) << 64 | u128::from(mix(step ^ self.salt));
        let mut digits = [0; 32];
        for (digit, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            digit.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
        }
        let mut id = String::with_capacity(PREFIX.len() + digits.len());
        id.push_str(PREFIX);
        id.push_str(std::str::from_utf8(&digits).unwrap_or_default());
        id.into_boxed_str()
    }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): distinct inputs give distinct, scattered outputs.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_plain_id_is_kept_and_anything_else_replaced() {
        let ids = RequestIds::new().unwrap();
        let mut headers = Headers::new();
        let (one, other) = (ids.of(&headers), ids.of(&headers));
        assert_ne!(one, other);
        assert!(one.len() == 36 && one[4..].bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
        headers.insert(http::HeaderName::from_static("x-request-id"), &HeaderValue::from_static("abc-1.2_3"));
        assert_eq!(&*ids.of(&headers), "abc-1.2_3");
        headers.append(http::HeaderName::from_static("x-request-id"), &HeaderValue::from_static("other"));
        assert!(ids.of(&headers).starts_with("req_"));
        headers.insert(http::HeaderName::from_static("x-request-id"), &HeaderValue::from_static("a b"));
        assert!(ids.of(&headers).starts_with("req_"));
    }
}
