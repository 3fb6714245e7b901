//! The keyward program.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::set_up();
    keyward::spare::give_back_by(allocator::give_back);
    keyward::cli::run()
}
