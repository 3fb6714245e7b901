//! `keyward key rotate` and `keyward key rotate-end`.

use clap::Args;
use serde_json::{Map, Value};

use super::{Form, path_of, resolve, show};
use crate::cli::client::{Call, Client, Server};
use crate::cli::failure::Failure;
use crate::cli::{moment, stdin};

pub const EXAMPLES: &str = "\
Examples:
  keyward key rotate demo                  the old secret works for 24 h more
  keyward key rotate demo --grace 0        it ends at once
  SECRET=$(keyward key rotate demo --quiet)";

pub const END_EXAMPLES: &str = "Example:\n  keyward key rotate-end demo";

#[derive(Debug, Args)]
pub struct Rotate {
    /// Which: an id, the beginning of one, or an exact name.
    key: String,
    /// How long the old secret works on (24h, 30m, 2d), or 0; at most 30 days. The server's default is 24 h.
    #[arg(long, value_name = "DURATION", value_parser = moment::seconds)]
    grace: Option<u64>,
    /// Read a secret of your own from standard input, instead of a new one.
    #[arg(long)]
    key_stdin: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

impl Rotate {
    pub fn run(&self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let id = resolve::id(&client, &self.key)?;
        let mut body = Map::new();
        if let Some(seconds) = self.grace {
            body.insert("grace_seconds".to_owned(), seconds.into());
        }
        if self.key_stdin {
            body.insert("key".to_owned(), Value::from(stdin::secret()?.as_str()));
        }
        let call = Call::put(path_of(&id, "/rotate")).with_body(Value::Object(body)).once()?;
        show::secret(&client.call(&call)?, self.form)
    }
}

#[derive(Debug, Args)]
pub struct RotateEnd {
    /// Which: an id, the beginning of one, or an exact name.
    key: String,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

impl RotateEnd {
    pub fn run(&self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let id = resolve::id(&client, &self.key)?;
        show::key(&client.call(&Call::put(path_of(&id, "/rotate/end")))?, self.form)
    }
}
