//! The keyward program.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::set_up();
    keyward::cli::run()
}
