//! `keyward key create`.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::fields::Fields;
use super::{Form, KEYS, path_of, show};
use crate::cli::client::{Call, Client, Server, strange};
use crate::cli::failure::Failure;
use crate::cli::stdin;

pub const EXAMPLES: &str = "\
Examples:
  keyward key create --name demo --model 'gpt-4o*' --rpm 60 --expires 30d
  SECRET=$(keyward key create --name ci --quota 1000000 --quota-reset monthly --quiet)
  printf %s \"$CHOSEN\" | keyward key create --name moved --key-stdin";

#[derive(Debug, Args)]
pub struct Create {
    /// What its owner calls it, 1 to 100 characters.
    #[arg(long)]
    name: String,
    /// Switch it off as soon as it is made.
    #[arg(long)]
    disabled: bool,
    /// Read a secret of your own from standard input, instead of a new one.
    #[arg(long)]
    key_stdin: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
    // Last: what stands behind it would come under its heading.
    #[command(flatten)]
    fields: Fields,
}

impl Create {
    pub fn run(&self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let mut body = self.fields.body()?;
        body.insert("name".to_owned(), Value::from(self.name.as_str()));
        if self.key_stdin {
            body.insert("key".to_owned(), Value::from(stdin::secret()?.as_str()));
        }
        let call = Call::new(Method::POST, KEYS).with_body(Value::Object(body)).once()?;
        let made = client.call(&call)?;
        if !self.disabled {
            return show::secret(&made, self.form);
        }
        let disable = || {
            let id = made.json()?["id"].as_str().map(str::to_owned).ok_or_else(|| strange("no `id` in it"))?;
            client.call(&Call::put(path_of(&id, "/disable")))
        };
        match disable() {
            Ok(disabled) => show::secret(&show::with_secret(&disabled, &made)?, self.form),
            Err(failure) => {
                // It is there, and nobody would ever see its secret.
                show::secret(&made, self.form)?;
                eprintln!("keyward: the key was made and is not disabled:");
                Err(failure)
            }
        }
    }
}
