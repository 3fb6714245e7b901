//! Secrets that stand for all others: each is told from everything else, however it is written down.

use memchr::memmem;
use sha2::{Digest as _, Sha256};

/// What a secret ends with: 24 letters and digits that stand nowhere else. What comes before may be shown: 12 characters of a
/// key are its public prefix.
const TAIL: usize = 24;

/// The secret of this name, always the same.
pub fn canary(name: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    let digest = Sha256::digest(name.as_bytes());
    let tail: String =
        digest.iter().take(TAIL).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect();
    format!("canary-for-{name}-{tail}")
}

/// SHA-256 of a secret in hexadecimal, as a key file has it.
pub fn sha256(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// The secrets to look for, in every disguise.
pub struct Search(Vec<(String, &'static str, Vec<u8>)>);

impl Search {
    pub fn for_all(names: &[&str]) -> Self {
        let needles = names.iter().flat_map(|name| {
            disguises(&canary(name))
                .into_iter()
                .map(|(how, needle)| ((*name).to_owned(), how, needle.to_ascii_lowercase().into_bytes()))
        });
        Self(needles.collect())
    }

    /// Which secrets stand in `text`, and how they are written there.
    pub fn found_in(&self, text: &[u8]) -> Vec<(&str, &'static str)> {
        // One letter case for all: it finds a lower-cased secret too, and mistakes nothing of this length for another.
        let text = text.to_ascii_lowercase();
        let found = self.0.iter().filter(|(_, _, needle)| memmem::find(&text, needle).is_some());
        found.map(|(name, how, _)| (name.as_str(), *how)).collect()
    }

    /// Fails when a secret stands in what is named `what`.
    pub fn none_in(&self, what: &str, text: &[u8]) {
        let found = self.found_in(text);
        assert!(found.is_empty(), "{what} tells the secrets of {found:?}:\n{}", String::from_utf8_lossy(text));
    }
}

/// How a secret could be written by somebody who means well.
fn disguises(secret: &str) -> Vec<(&'static str, String)> {
    let tail = &secret[secret.len() - TAIL..];
    let bytes = tail.as_bytes();
    let escaped: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut forms = vec![
        ("plain", tail.to_owned()),
        ("hexadecimal", hex(bytes)),
        ("percent-encoded", escaped),
        ("a list of bytes", numbers.join(", ")),
        ("a JSON list of bytes", numbers.join(",")),
        ("SHA-256", sha256(secret)),
        ("reversed", tail.chars().rev().collect()),
    ];
    for shift in 0..3 {
        forms.push(("base64", base64_inside(bytes, shift)));
    }
    forms
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `bytes` look like in the base64 of something they stand in, `shift` bytes behind a multiple of three. Of the two
/// alphabets' different characters letters and digits need none often enough to matter.
fn base64_inside(bytes: &[u8], shift: usize) -> String {
    let padded = [&[0; 2][..shift], bytes].concat();
    let whole = base64(&padded);
    let (from, to) = ((shift * 8).div_ceil(6), padded.len() * 8 / 6);
    whole[from..to].to_owned()
}

/// Base64 without padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..=group.len() {
            out.push(char::from(LETTERS[(bits >> (18 - 6 * index) & 63) as usize]));
        }
    }
    out
}
