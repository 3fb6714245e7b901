//! Has the linker set apart what a server that waits for requests does not run: see `layout.ld`.

use std::env;
use std::path::Path;

fn main() {
    let script = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("layout.ld");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", script.display());
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // GNU's linker and LLVM's read scripts, and one of them it is where nobody has chosen another.
    let is_chosen = env::var_os("RUSTC_LINKER").is_some()
        || env::var("CARGO_ENCODED_RUSTFLAGS")
            .is_ok_and(|flags| flags.contains("linker") || flags.contains("link-arg"));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("PROFILE", "release") && !is_chosen {
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
}
