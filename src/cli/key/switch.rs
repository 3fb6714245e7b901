//! `keyward key disable` and `keyward key enable`.

use clap::Args;

use super::{Form, path_of, resolve, show};
use crate::cli::client::{Call, Client, Server};
use crate::cli::failure::Failure;

pub const DISABLE_EXAMPLES: &str = "Example:\n  keyward key disable demo";

pub const ENABLE_EXAMPLES: &str = "Example:\n  keyward key enable demo";

#[derive(Debug, Args)]
pub struct Switch {
    /// Which: ids, beginnings of ids, or exact names.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

impl Switch {
    /// `action` is the last step of the path.
    pub fn run(&self, action: &str) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        for (id, _) in resolve::ids(&client, &self.keys)? {
            show::key(&client.call(&Call::put(path_of(&id, &format!("/{action}"))))?, self.form)?;
        }
        Ok(())
    }
}
