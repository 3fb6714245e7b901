//! `keyward key delete`.

use clap::Args;
use http::Method;
use serde_json::json;

use super::{Form, path_of, resolve};
use crate::cli::client::{Call, Client, Server};
use crate::cli::failure::Failure;
use crate::cli::output::{plain, write, write_json};
use crate::cli::stdin;

pub const EXAMPLES: &str = "\
Examples:
  keyward key delete demo
  keyward key delete --yes 01999f2e-3f6c-7c3a-9d55-2f1f6f0f9a11";

#[derive(Debug, Args)]
pub struct Delete {
    /// Which: ids, beginnings of ids, or exact names.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

impl Delete {
    pub fn run(&self) -> Result<(), Failure> {
        if !self.yes {
            stdin::is_somebody_there()?;
        }
        let client = Client::new(&self.server)?;
        let ids = resolve::ids(&client, &self.keys)?;
        if !self.yes {
            let named =
                ids.iter().map(|(id, key)| if key == id { id.clone() } else { format!("{} ({id})", plain(key)) });
            let named = named.collect::<Vec<_>>().join(", ");
            stdin::confirm(&format!("Delete {named}? The secret stops working at once, for good."))?;
        }
        for (id, _) in ids {
            client.call(&Call::new(Method::DELETE, path_of(&id, "")))?;
            match (self.form.json, self.form.quiet) {
                (true, _) => write_json(&json!({ "id": id, "deleted": true }).to_string())?,
                (false, true) => write(&format!("{id}\n"))?,
                (false, false) => write(&format!("deleted {id}\n"))?,
            }
        }
        Ok(())
    }
}
