//! What comes on standard input: a secret, which must not be an argument, or a yes.

use std::io::{IsTerminal, Read, Write};

use zeroize::Zeroizing;

use crate::keys::secret::{self, Shape};

use super::failure::Failure;

/// The longest secret that is read, bytes; beyond it something else was piped in.
const MAX_BYTES: u64 = 4096;

/// Reads a secret that somebody chose. One newline after it is not part of it.
///
/// # Errors
/// When it cannot be read or does not have the form of a secret.
pub fn secret() -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("Type or paste the secret, then press Enter and Ctrl-D:");
    }
    let mut bytes = Zeroizing::new(Vec::new());
    stdin
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Failed(format!("standard input: {error}")))?;
    let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    match (secret::shape(secret), std::str::from_utf8(secret)) {
        (Shape::Malformed, _) | (_, Err(_)) => Err(Failure::NotInOrder(
            "not a key: expected 8 to 128 of A-Z a-z 0-9 + - _ / = and one newline at most after them".to_owned(),
        )),
        (shape, Ok(secret)) => {
            if shape == Shape::Mistyped {
                eprintln!("keyward: warning: it looks like one of our keys, but its checksum is wrong: mistyped?");
            }
            Ok(Zeroizing::new(secret.to_owned()))
        }
    }
}

/// Whether there is a person to ask.
///
/// # Errors
/// When there is none.
pub fn is_somebody_there() -> Result<(), Failure> {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        return Ok(());
    }
    Err(Failure::NotInOrder("nobody is there to confirm it; say --yes".to_owned()))
}

/// Asks a person, who has to say yes.
///
/// # Errors
/// When the answer is no.
pub fn confirm(question: &str) -> Result<(), Failure> {
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| Failure::Failed(format!("standard input: {error}")))?;
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Failed("nothing was done".to_owned())),
    }
}
