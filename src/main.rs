//! Keyward
fn main() {}
