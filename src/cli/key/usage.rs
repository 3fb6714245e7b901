//! `keyward key usage`.

use clap::Args;

use super::{path_of, resolve};
use crate::cli::failure::Failure;
use crate::cli::usage::Asked;

pub const EXAMPLES: &str = "\
Examples:
  keyward key usage demo --from 30d --by day
  keyward key usage demo --by model --json";

#[derive(Debug, Args)]
pub struct Usage {
    /// Which: an id, the beginning of one, or an exact name.
    key: String,
    #[command(flatten)]
    asked: Asked,
}

impl Usage {
    pub fn run(&self) -> Result<(), Failure> {
        let client = self.asked.client()?;
        let query = self.asked.query()?;
        let id = resolve::id(&client, &self.key)?;
        self.asked.print(&client, &query.behind(&path_of(&id, "/usage")))
    }
}
