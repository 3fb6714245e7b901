//! `keyward key hash`: from a secret to what `keys.toml` wants, without the secret ever being an argument.

use std::io::{IsTerminal, Read};

use zeroize::Zeroizing;

use crate::keys::secret::{self, Shape};

use super::{FAILED, NOT_IN_ORDER, OK};

/// The longest secret that is read, bytes; beyond it something else was piped in.
const MAX_BYTES: u64 = 4096;

/// Prints the hash on standard output and everything else on standard error.
pub fn hash(generate: bool) -> u8 {
    if generate {
        let secret = secret::generate();
        eprintln!("secret (shown this once): {}", secret.expose());
        println!("sha256:{}", secret::sha256_hex(secret.expose().as_bytes()));
        return OK;
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("Type or paste the secret, then press Enter and Ctrl-D:");
    }
    let mut text = Zeroizing::new(Vec::new());
    if let Err(error) = stdin.take(MAX_BYTES + 1).read_to_end(&mut text) {
        eprintln!("keyward: standard input: {error}");
        return FAILED;
    }
    let secret = text.strip_suffix(b"\n").unwrap_or(&text);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    match secret::shape(secret) {
        Shape::Malformed => {
            eprintln!(
                "keyward: not a key: expected 8 to 128 of A-Z a-z 0-9 + - _ / = and one newline at most after them"
            );
            return NOT_IN_ORDER;
        }
        Shape::Mistyped => {
            eprintln!("keyward: warning: it looks like one of our keys, but its checksum is wrong: mistyped?")
        }
        Shape::Ours | Shape::Chosen => {}
    }
    println!("sha256:{}", secret::sha256_hex(secret));
    OK
}
