//! Secrets: made, recognised, digested; never printed.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::units::KeyDigest;

/// What every secret of ours begins with.
pub const PREFIX: &str = "sk-kw-";

/// Random characters after the prefix: 256 bits.
const RANDOM_CHARS: usize = 43;

/// Characters of the checksum: enough for 32 bits.
const CHECKSUM_CHARS: usize = 6;

/// The length of a secret of ours, in bytes.
pub const OUR_LENGTH: usize = PREFIX.len() + RANDOM_CHARS + CHECKSUM_CHARS;

/// The length of a secret that a client chose, in bytes.
pub const CHOSEN_LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

/// How much of a secret may be shown.
pub const VISIBLE: usize = 12;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key's secret in clear. `Debug` hides it, memory is wiped when it is dropped; only [`Secret::expose`] gives it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret in; any string, see [`shape`].
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret in clear: to digest it, or to show it once to whom it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Makes a secret: `sk-kw-`, 43 base62 characters from the system's random source, 6 of checksum.
///
/// # Panics
/// When the system has no random source: no secret is better than one that can be guessed.
pub fn generate() -> Secret {
    signed(random_after(PREFIX, fill_random))
}

/// Makes the one secret that belongs to `seed` under the pepper of `digester`: whoever holds both can make it again, so that it need
/// not be kept. `seed` is random; without the pepper it says nothing of the secret.
pub fn generate_from(seed: &[u8; 32], digester: &Digester) -> Secret {
    let mut block = 0_u64;
    signed(random_after(PREFIX, |random| {
        for part in random.chunks_mut(32) {
            let stream = digester.keyed("keyward secret from seed", &[seed, &block.to_be_bytes()]);
            part.iter_mut().zip(stream).for_each(|(byte, from)| *byte = from);
            block += 1;
        }
    }))
}

/// A seed for [`generate_from`].
///
/// # Panics
/// When the system has no random source.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    fill_random(&mut seed);
    seed
}

/// Makes a token: `prefix` and 43 base62 characters from the system's random source.
///
/// # Panics
/// When the system has no random source.
pub fn generate_token(prefix: &str) -> Secret {
    Secret::new(random_after(prefix, fill_random))
}

/// `prefix` and 43 base62 characters of what `fill` gives.
fn random_after(prefix: &str, mut fill: impl FnMut(&mut [u8])) -> String {
    // Room for the checksum, so that no copy is left behind when it grows.
    let mut secret = String::with_capacity(prefix.len() + RANDOM_CHARS + CHECKSUM_CHARS);
    secret.push_str(prefix);
    let mut random = Zeroizing::new([0_u8; 64]);
    while secret.len() < prefix.len() + RANDOM_CHARS {
        fill(&mut *random);
        // 248 is the largest multiple of 62 in a byte: what is above would favour the first characters.
        let fair = random.iter().filter(|byte| **byte < 248);
        let missing = prefix.len() + RANDOM_CHARS - secret.len();
        secret.extend(fair.take(missing).map(|byte| base62(u32::from(*byte))));
    }
    secret
}

fn signed(mut secret: String) -> Secret {
    let checksum = checksum(secret.as_bytes());
    secret.extend(checksum.map(char::from));
    Secret::new(secret)
}

fn fill_random(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        panic!("the system's random source failed: {error}");
    }
}

fn base62(n: u32) -> char {
    // `n % 62` is below the length.
    char::from(BASE62[(n % 62) as usize])
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [0; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// What a presented string looks like, without a look at any table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One that we made, or a very good forgery: prefix, length, alphabet and checksum are right.
    Ours,
    /// All but the checksum is right: one of ours with a typing error. In no table; must not be accepted as a chosen one.
    Mistyped,
    /// One that a client may have chosen: 8 to 128 of `[A-Za-z0-9+\-_/=]`.
    Chosen,
    /// No secret at all.
    Malformed,
}

/// Tells which [`Shape`] `secret` has. O(length), at most 128 bytes are read.
pub fn shape(secret: &[u8]) -> Shape {
    if !CHOSEN_LENGTH.contains(&secret.len()) {
        return Shape::Malformed;
    }
    let chosen = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-_/=".contains(byte);
    if !secret.iter().all(chosen) {
        return Shape::Malformed;
    }
    let Some(body) = secret.strip_prefix(PREFIX.as_bytes()) else { return Shape::Chosen };
    if secret.len() != OUR_LENGTH || !body.iter().all(u8::is_ascii_alphanumeric) {
        return Shape::Chosen;
    }
    let (signed, sum) = secret.split_at(OUR_LENGTH - CHECKSUM_CHARS);
    if checksum(signed) == sum { Shape::Ours } else { Shape::Mistyped }
}

/// What of a secret may be shown: its first 12 characters, of a short one at most a third. A byte that is not a printable
/// ASCII character ends it.
pub fn prefix(secret: impl AsRef<[u8]>) -> String {
    let secret = secret.as_ref();
    let shown = VISIBLE.min(secret.len() / 3);
    secret.iter().take(shown).take_while(|byte| byte.is_ascii_graphic()).copied().map(char::from).collect()
}

/// The key of every digest: made on first start or given by the operator. `Debug` hides it, memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Pepper(Zeroizing<Vec<u8>>);

/// A pepper shorter than [`Pepper::SHORTEST`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the pepper must be at least 16 bytes long")]
pub struct PepperTooShort;

impl Pepper {
    /// The fewest bytes a pepper may have.
    pub const SHORTEST: usize = 16;

    /// Takes a pepper in.
    ///
    /// # Errors
    /// [`PepperTooShort`]: a short one could be guessed, and with it every digest undone.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PepperTooShort> {
        let bytes = Zeroizing::new(bytes.into());
        if bytes.len() < Self::SHORTEST { Err(PepperTooShort) } else { Ok(Self(bytes)) }
    }

    /// Makes one of 32 random bytes.
    ///
    /// # Panics
    /// When the system has no random source.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        fill_random(&mut bytes);
        Self(bytes)
    }

    /// The bytes, to be written to the pepper file.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// Digests secrets under one pepper: HMAC-SHA-256(pepper, SHA-256(secret)). Keyed once, copied for each digest.
#[derive(Clone)]
pub struct Digester(Hmac<Sha256>);

impl Digester {
    /// A digester under `pepper`.
    pub fn new(pepper: &Pepper) -> Self {
        // The fallible constructor accepts any length; this one pads or hashes to the block in the same way (RFC 2104).
        let mut block = Zeroizing::new([0_u8; 64]);
        let bytes = pepper.expose();
        if bytes.len() > block.len() {
            block[..32].copy_from_slice(&Sha256::digest(bytes));
        } else {
            block[..bytes.len()].copy_from_slice(bytes);
        }
        Self(Hmac::new(&(*block).into()))
    }

    /// The digest of a secret.
    pub fn digest(&self, secret: &[u8]) -> KeyDigest {
        self.digest_of_sha256(&Sha256::digest(secret).into())
    }

    /// The digest of a secret of which only the SHA-256 is known (`key_hash` in a key file).
    pub fn digest_of_sha256(&self, sha256: &[u8; 32]) -> KeyDigest {
        let mut mac = self.0.clone();
        mac.update(sha256);
        KeyDigest(mac.finalize().into_bytes().into())
    }

    /// A keyed digest of something else than a secret. `label` says of what, so that two uses never meet; it is longer than 24 bytes or
    /// there are two parts at least, so that no message is 32 bytes long, as every secret's is.
    pub fn keyed(&self, label: &'static str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(label.as_bytes());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester(..)")
    }
}

/// The SHA-256 of a secret in lower-case hexadecimal: what `key_hash` holds after `sha256:`.
pub fn sha256_hex(secret: impl AsRef<[u8]>) -> String {
    Sha256::digest(secret.as_ref()).iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]).collect()
}

fn hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

/// A `key_hash` that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected \"sha256:\" and 64 hexadecimal digits")]
pub struct KeyHashMalformed;

/// Reads `sha256:` and 64 hexadecimal digits, of either case.
///
/// # Errors
/// [`KeyHashMalformed`].
pub fn parse_key_hash(text: &str) -> Result<[u8; 32], KeyHashMalformed> {
    let digits = text.strip_prefix("sha256:").ok_or(KeyHashMalformed)?.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return Err(KeyHashMalformed);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let mut value = 0;
        for digit in pair {
            value = value * 16 + char::from(*digit).to_digit(16).ok_or(KeyHashMalformed)?;
        }
        *byte = u8::try_from(value).map_err(|_| KeyHashMalformed)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_seed_makes_one_secret_under_one_pepper() {
        let digester = |byte: u8| Digester::new(&Pepper::new(vec![byte; 32]).unwrap());
        let made = generate_from(&[7; 32], &digester(1));
        assert_eq!(shape(made.expose().as_bytes()), Shape::Ours);
        assert!(made == generate_from(&[7; 32], &digester(1)));
        assert!(made != generate_from(&[8; 32], &digester(1)) && made != generate_from(&[7; 32], &digester(2)));
        let all: String = (0..200).map(|n| generate_from(&[n; 32], &digester(3)).expose()[6..49].to_owned()).collect();
        let used: std::collections::BTreeSet<char> = all.chars().collect();
        assert_eq!(used.len(), 62, "every character comes up");
    }

    #[test]
    fn a_token_is_its_prefix_and_43_characters() {
        let token = generate_token("kw-admin-");
        assert_eq!(token.expose().len(), 52);
        assert!(token.expose().starts_with("kw-admin-") && token != generate_token("kw-admin-"));
    }

    #[test]
    fn a_keyed_digest_tells_parts_apart() {
        let digester = Digester::new(&Pepper::new(vec![1; 32]).unwrap());
        let digest = |parts: &[&[u8]]| digester.keyed("a label of these very words", parts);
        assert!(digest(&[b"ab", b"c"]) != digest(&[b"a", b"bc"]));
        assert!(digest(&[b"a"]) != digester.keyed("another label, just as long", &[b"a"]));
    }

    #[test]
    fn a_secret_we_make_is_ours_and_every_single_typing_error_shows() {
        let secret = generate();
        let text = secret.expose();
        assert_eq!((text.len(), shape(text.as_bytes())), (55, Shape::Ours));
        for at in PREFIX.len()..text.len() {
            let mut typed = text.as_bytes().to_vec();
            typed[at] = if typed[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(shape(&typed), Shape::Mistyped, "at {at}");
        }
        let mut swapped = text.as_bytes().to_vec();
        if let Some(at) = (10..40).find(|at| swapped[*at] != swapped[at + 1]) {
            swapped.swap(at, at + 1);
            assert_eq!(shape(&swapped), Shape::Mistyped);
        }
    }

    #[test]
    fn what_a_client_may_choose_and_what_is_no_secret() {
        for chosen in ["12345678", "a+b-c_d/e=", "sk-kw-short", "sk-proj-abcdefgh"] {
            assert_eq!(shape(chosen.as_bytes()), Shape::Chosen, "{chosen}");
        }
        assert_eq!(shape(&[b'a'; 128]), Shape::Chosen);
        let dashed = format!("{PREFIX}{}", "-".repeat(49));
        assert_eq!(shape(dashed.as_bytes()), Shape::Chosen, "our length, but not our alphabet");
        for bad in ["", "1234567", "12345 78", "1234567\u{e4}", "12345678\n", "1234567."] {
            assert_eq!(shape(bad.as_bytes()), Shape::Malformed, "{bad:?}");
        }
        assert_eq!(shape(&[b'a'; 129]), Shape::Malformed);
    }

    #[test]
    fn secrets_are_drawn_evenly_from_the_whole_alphabet() {
        let mut seen = [0_u32; 128];
        for _ in 0..2_000 {
            for byte in generate().expose().bytes().skip(PREFIX.len()).take(RANDOM_CHARS) {
                seen[usize::from(byte)] += 1;
            }
        }
        // 86,000 draws of 62: 1,387 each, standard deviation 37. A modulo of a byte would give eight of them a quarter more.
        for digit in BASE62 {
            let count = seen[usize::from(*digit)];
            assert!((1_140..1_640).contains(&count), "{}: {count}", char::from(*digit));
        }
    }

    #[test]
    fn a_prefix_shows_twelve_characters_and_of_a_short_secret_a_third() {
        assert_eq!(prefix(generate().expose()).len(), 12);
        assert_eq!(prefix("12345678"), "12");
        assert_eq!(prefix(b"ab\xff\xffabcdefghijk"), "ab");
        assert_eq!(prefix(""), "");
    }

    #[test]
    fn nothing_prints() {
        let secret = generate();
        let pepper = Pepper::generate();
        let shown = format!("{secret:?} {pepper:?} {:?}", Digester::new(&pepper));
        assert_eq!(shown, "Secret(..) Pepper(..) Digester(..)");
    }

    #[test]
    fn the_digest_is_hmac_of_the_hash() {
        // Computed with Python's hmac and hashlib.
        let digester = Digester::new(&Pepper::new(*b"0123456789abcdef").unwrap());
        let KeyDigest(bytes) = digester.digest(b"sk-kw-test");
        let shown: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, EXPECTED_SHORT);
        let digester = Digester::new(&Pepper::new(vec![7; 100]).unwrap());
        let KeyDigest(bytes) = digester.digest(b"sk-kw-test");
        let shown: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, EXPECTED_LONG);
    }

    const EXPECTED_SHORT: &str = "39c7adaf6ded0a46d21a4577319e11b7511fdf07e899847160eb702f7725e238";
    const EXPECTED_LONG: &str = "d6f37f470ec8401a705e20f0bcb0832c730b0079bf1fd1bd4b0b04c69401b751";

    #[test]
    fn a_key_declared_by_its_hash_is_the_same_key() {
        let digester = Digester::new(&Pepper::generate());
        let hash = format!("sha256:{}", sha256_hex("my-secret"));
        assert_eq!(digester.digest_of_sha256(&parse_key_hash(&hash).unwrap()), digester.digest(b"my-secret"));
        let upper = format!("sha256:{}", sha256_hex("my-secret").to_uppercase());
        assert_eq!(parse_key_hash(&upper), parse_key_hash(&hash));
        for bad in ["", "sha256:", "sha1:00", &hash[..70], &format!("{hash}0"), &hash.replace('a', "g"), &hash[7..]] {
            assert_eq!(parse_key_hash(bad), Err(KeyHashMalformed), "{bad}");
        }
    }

    #[test]
    fn a_short_pepper_is_refused() {
        assert_eq!(Pepper::new(vec![1; 15]).map(|_| ()), Err(PepperTooShort));
        assert!(Pepper::new(vec![1; 16]).is_ok());
        assert_ne!(Pepper::generate().expose(), Pepper::generate().expose());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text: String) {
            let _ = (shape(&bytes), prefix(&bytes), sha256_hex(&bytes), parse_key_hash(&text));
            prop_assert!(prefix(&bytes).len() * 3 <= bytes.len());
        }
    }
}
