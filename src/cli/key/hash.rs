//! `keyward key hash`: from a secret to what `keys.toml` wants, without the secret ever being an argument.

use crate::cli::failure::Failure;
use crate::cli::output::write;
use crate::cli::stdin;
use crate::keys::secret;

/// Prints the hash on standard output and everything else on standard error.
pub fn hash(generate: bool) -> Result<(), Failure> {
    if generate {
        let secret = secret::generate();
        eprintln!("secret (shown this once): {}", secret.expose());
        return write(&format!("sha256:{}\n", secret::sha256_hex(secret.expose().as_bytes())));
    }
    write(&format!("sha256:{}\n", secret::sha256_hex(stdin::secret()?.as_bytes())))
}
