//! A small client of the admin API: one call, one connection, one answer, within a time.

pub mod address;
mod refused;
pub mod stream;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use self::stream::{Stream, Way};
use super::failure::Failure;

/// How long to wait for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for a whole answer once connected.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

const TOKEN: &str = "KEYWARD_ADMIN_TOKEN";
const TOKEN_FILE: &str = "KEYWARD_ADMIN_TOKEN_FILE";

/// Which server is asked. The token is never an argument: arguments are seen by every user of the machine.
#[derive(Debug, Clone, clap::Args)]
pub struct Server {
    // The admin listener; its token is read from KEYWARD_ADMIN_TOKEN or the file KEYWARD_ADMIN_TOKEN_FILE names.
    /// The admin listener of the server; the token comes from KEYWARD_ADMIN_TOKEN or KEYWARD_ADMIN_TOKEN_FILE.
    #[arg(long, env = "KEYWARD_ADMIN_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub admin_url: String,
    /// The authority of its certificate, a PEM file, where that is none the machine knows.
    #[arg(long, env = "KEYWARD_ADMIN_CA", value_name = "FILE")]
    pub admin_ca: Option<PathBuf>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
    accept: &'static str,
    if_match: Option<String>,
    idempotency_key: Option<String>,
}

impl Call {
    /// Of a path with its query, both encoded; see [`Query`].
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let path = path.into();
        Self { method, path, body: None, accept: "application/json", if_match: None, idempotency_key: None }
    }

    /// Reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Changes.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    /// With this body.
    pub fn with_body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Asks for another form of answer than JSON.
    pub fn accepting(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// Only if the key is still at this version.
    pub fn if_match(self, tag: Option<String>) -> Self {
        Self { if_match: tag, ..self }
    }

    /// Made at most once, however often it is sent.
    pub fn once(self) -> Result<Self, Failure> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| Failure::Failed(format!("no random source: {error}")))?;
        let key = format!("{:032x}", u128::from_be_bytes(random));
        Ok(Self { idempotency_key: Some(key), ..self })
    }

    /// Whether sending it again does no harm.
    fn is_repeatable(&self) -> bool {
        self.method == Method::GET || self.idempotency_key.is_some()
    }
}

/// The query of a call, as it is put together.
#[derive(Debug, Default)]
pub struct Query(String);

impl Query {
    /// Adds a parameter that is given.
    pub fn add(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
        const ENCODED: &percent_encoding::AsciiSet =
            &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
        let Some(value) = value else { return };
        let joint = if self.0.is_empty() { '?' } else { '&' };
        self.0.push_str(&format!("{joint}{name}={}", utf8_percent_encode(value.as_ref(), ENCODED)));
    }

    /// The path with the query behind it.
    pub fn behind(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

/// What came back, when the server said yes.
#[derive(Debug)]
pub struct Answer {
    /// The body, as it came.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| strange(&error.to_string()))
    }

    /// The body as text.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.body).map_err(|error| strange(&error.to_string()))
    }
}

/// A failure about an answer that is not the admin API's.
pub fn strange(why: &str) -> Failure {
    Failure::Failed(format!("the answer is not one of the admin API ({why}); is --admin-url the admin listener?"))
}

/// Why there is no answer.
#[derive(Debug)]
enum Accident {
    /// No connection.
    Unreachable(String),
    /// The connection ended before the answer did.
    Broken(String),
    /// Nothing came in time.
    Late,
}

/// Makes calls of one server with one token.
#[derive(Debug)]
pub struct Client {
    way: Way,
    token: HeaderValue,
    runtime: Runtime,
}

impl Client {
    /// Of the server, with the token of the environment.
    pub fn new(server: &Server) -> Result<Self, Failure> {
        Self::with_token(server, &token(&|name| std::env::var(name).ok())?)
    }

    fn with_token(server: &Server, token: &str) -> Result<Self, Failure> {
        let way = Way::to(server).map_err(Failure::NotInOrder)?;
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Failure::NotInOrder("the admin token holds characters no token has".to_owned()))?;
        token.set_sensitive(true);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Failed(format!("no runtime: {error}")))?;
        Ok(Self { way, token, runtime })
    }

    /// Makes a call. One that may be repeated is sent once more when the connection breaks.
    pub fn call(&self, call: &Call) -> Result<Answer, Failure> {
        let exchange = || self.runtime.block_on(self.exchange(call));
        let answered = match exchange() {
            Err(Accident::Broken(_)) if call.is_repeatable() => exchange(),
            other => other,
        };
        let (status, body) = answered.map_err(|accident| self.failure(&accident))?;
        if status.is_success() { Ok(Answer { body }) } else { Err(refused::failure(status, &body)) }
    }

    fn failure(&self, accident: &Accident) -> Failure {
        let place = &self.way.address.authority;
        Failure::Failed(match accident {
            Accident::Unreachable(why) => {
                format!(
                    "{place} is not reachable: {why}; does the server run, and is --admin-url (KEYWARD_ADMIN_URL) its admin listener?"
                )
            }
            Accident::Broken(why) => format!("{place} broke off: {why}; look at what was done before asking again"),
            Accident::Late => {
                let seconds = ANSWER_PATIENCE.as_secs();
                format!("{place} did not answer within {seconds} s; look at what was done before asking again")
            }
        })
    }

    async fn exchange(&self, call: &Call) -> Result<(StatusCode, Bytes), Accident> {
        let stream = timeout(CONNECT_PATIENCE, self.way.connect())
            .await
            .map_err(|_| Accident::Unreachable(format!("no connection within {} s", CONNECT_PATIENCE.as_secs())))?
            .map_err(|error| Accident::Unreachable(error.to_string()))?;
        timeout(ANSWER_PATIENCE, self.over(stream, call)).await.map_err(|_| Accident::Late)?
    }

    async fn over(&self, stream: Box<dyn Stream>, call: &Call) -> Result<(StatusCode, Bytes), Accident> {
        let broken = |error: hyper::Error| Accident::Broken(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends when the sender is dropped and the answer is read.
        tokio::spawn(connection);
        let answer = sender.send_request(self.request(call)?).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| Accident::Broken(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }

    fn request(&self, call: &Call) -> Result<Request<String>, Accident> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.way.address.base, call.path))
            .header(HOST, &self.way.address.authority)
            .header(AUTHORIZATION, &self.token)
            .header(USER_AGENT, concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, call.accept);
        if let Some(tag) = &call.if_match {
            request = request.header(IF_MATCH, tag);
        }
        if let Some(key) = &call.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let body = call.body.as_ref().map(Value::to_string);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(body.unwrap_or_default()).map_err(|error| Accident::Unreachable(error.to_string()))
    }
}

/// The token, from the variable or from the file another variable names.
fn token(env: &dyn Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let given = |name: &str| env(name).filter(|value| !value.is_empty());
    let text = match (given(TOKEN), given(TOKEN_FILE)) {
        (Some(_), Some(_)) => {
            return Err(Failure::NotInOrder(format!("{TOKEN} and {TOKEN_FILE} are both set; set one")));
        }
        (Some(token), None) => token,
        (None, Some(path)) => std::fs::read_to_string(&path)
            .map_err(|error| Failure::NotInOrder(format!("{TOKEN_FILE} {path}: {error}")))?,
        (None, None) => {
            let why = format!("no admin token: set {TOKEN}, or {TOKEN_FILE} to the file that holds it");
            return Err(Failure::NotInOrder(why));
        }
    };
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::NotInOrder(format!("the admin token is empty: see {TOKEN} or the file of {TOKEN_FILE}")));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests;
