//! `keyward key update`.

use clap::Args;
use serde_json::Value;

use super::fields::{Clearable, Fields};
use super::{Form, path_of, resolve, show};
use crate::cli::client::{Call, Client, Server};
use crate::cli::failure::Failure;

pub const EXAMPLES: &str = "\
Examples:
  keyward key update demo --rpm 120 --model 'gpt-4o*' --model o3
  keyward key update demo --expires never --clear ip

A list that is given (--model, --endpoint, --ip, --metadata) replaces the whole list.";

#[derive(Debug, Args)]
pub struct Update {
    /// Which: an id, the beginning of one, or an exact name.
    key: String,
    /// Its new name, 1 to 100 characters.
    #[arg(long)]
    name: Option<String>,
    /// Set this back to nothing (no limit, no list); may be repeated.
    #[arg(long, value_name = "FIELD")]
    clear: Vec<Clearable>,
    /// Only if the key still has this ETag.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
    // Last: what stands behind it would come under its heading.
    #[command(flatten)]
    fields: Fields,
}

impl Update {
    pub fn run(&self) -> Result<(), Failure> {
        let mut body = self.fields.body_with(&self.clear)?;
        if let Some(name) = &self.name {
            body.insert("name".to_owned(), Value::from(name.as_str()));
        }
        if body.is_empty() {
            return Err(Failure::NotInOrder("nothing to change; see keyward key update --help".to_owned()));
        }
        let client = Client::new(&self.server)?;
        let id = resolve::id(&client, &self.key)?;
        let call = Call::put(path_of(&id, "")).with_body(Value::Object(body)).if_match(self.if_match.clone());
        show::key(&client.call(&call)?, self.form)
    }
}
