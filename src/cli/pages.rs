//! What is made from the command line's own description: completions and manual pages.

use std::path::Path;

use super::failure::Failure;
use super::output::write;
use super::{OK, client};

/// Prints the completion script of a shell.
pub fn completions(mut command: clap::Command, shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "keyward", &mut script);
    print(script)
}

/// Prints the manual page, or writes one for every command into a folder.
pub fn man(command: clap::Command, all: Option<&Path>) -> Result<u8, Failure> {
    if let Some(folder) = all {
        clap_mangen::generate_to(command, folder)
            .map_err(|error| Failure::Failed(format!("{}: {error}", folder.display())))?;
        return Ok(OK);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    print(page)
}

fn print(text: Vec<u8>) -> Result<u8, Failure> {
    write(&String::from_utf8(text).map_err(|error| client::strange(&error.to_string()))?)?;
    Ok(OK)
}
