//! The models an upstream says it serves. Patterns such as `gpt-*` name none, so where the list of models is asked for, upstreams
//! that have patterns are asked in turn, and what they said is kept for a while.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http::{Method, Request};
use serde_json::Value;
use tokio::time::timeout;

use crate::clock::NS_PER_SECOND;
use crate::policy::DialectName;
use crate::units::ModelName;
use crate::upstream::client::{self, Outgoing, Whole};
use crate::upstream::pool::Pool;
use crate::upstream::settings::Kind;
use crate::upstream::{Upstream, sandbox};

/// How long an answer is believed, and how long a failure is not asked about again.
const KEPT_NS: u64 = 300 * NS_PER_SECOND;
const FAILED_NS: u64 = 30 * NS_PER_SECOND;
/// How long a caller waits for an upstream's list; after that the list goes without it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest list that is read, bytes, and the most names taken from it.
const LONGEST: usize = 4 * 1024 * 1024;
const MOST_NAMES: usize = 4096;

/// What an upstream last said.
#[derive(Debug, Default)]
pub struct Discovered(ArcSwapOption<Said>);

#[derive(Debug)]
struct Said {
    until_ns: u64,
    names: Arc<[ModelName]>,
}

/// The names `upstream` serves beyond the exact ones of its configuration: those it lists that match its patterns. Never fails: an
/// upstream that does not answer in time adds none.
pub async fn served(pool: &Rc<Pool>, upstream: &Upstream) -> Arc<[ModelName]> {
    if upstream.settings.models.iter().all(|glob| glob.is_exact()) {
        return Arc::default();
    }
    let dialect = match upstream.settings.kind {
        Kind::Sandbox => return matching(upstream, sandbox::MODELS.iter().copied()),
        Kind::Http(dialect) => dialect,
    };
    let now_ns = pool.clock.now().monotonic_ns;
    let kept = upstream.discovered.0.load_full();
    if let Some(said) = kept.as_ref().filter(|said| now_ns < said.until_ns) {
        return Arc::clone(&said.names);
    }
    let fresh = timeout(PATIENCE, ask(pool, upstream, dialect)).await.ok().flatten();
    let (names, for_ns) = match (fresh, kept) {
        (Some(names), _) => (names, KEPT_NS),
        (None, Some(said)) => (Arc::clone(&said.names), FAILED_NS),
        (None, None) => (Arc::default(), FAILED_NS),
    };
    upstream.discovered.0.store(Some(Arc::new(Said { until_ns: now_ns + for_ns, names: Arc::clone(&names) })));
    names
}

async fn ask(pool: &Rc<Pool>, upstream: &Upstream, dialect: DialectName) -> Option<Arc<[ModelName]>> {
    let path_and_query = match dialect {
        DialectName::OpenAi => "/v1/models",
        DialectName::Anthropic => "/v1/models?limit=1000",
        DialectName::Gemini => "/v1beta/models?pageSize=1000",
        DialectName::Azure => return None, // its list is of base models, not of deployments
    };
    let mut request = Request::new(Whole::default());
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if dialect == DialectName::Anthropic {
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    }
    if let Some(credential) = &upstream.settings.credential {
        credential.put_into(headers, dialect);
    }
    let outgoing = Outgoing { path_and_query: path_and_query.to_owned(), request };
    let mut answered = client::send(pool, upstream, outgoing).await.ok()?;
    if !answered.parts.status.is_success() {
        return None;
    }
    let mut body = BytesMut::new();
    while let Some(data) = poll_fn(|cx| answered.body.poll_data(cx)).await {
        body.extend_from_slice(&data.ok()?);
        if body.len() > LONGEST {
            return None;
        }
    }
    let list = serde_json::from_slice::<Value>(&body).ok()?;
    Some(matching(upstream, names(&list, dialect)))
}

/// The names in a list of models, in the shape of its dialect.
fn names(list: &Value, dialect: DialectName) -> impl Iterator<Item = &str> {
    let (member, name) = if dialect == DialectName::Gemini { ("models", "name") } else { ("data", "id") };
    let entries = list.get(member).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    entries.iter().filter_map(move |entry| {
        let name = entry.get(name)?.as_str()?;
        Some(name.strip_prefix("models/").unwrap_or(name))
    })
}

fn matching<'a>(upstream: &Upstream, names: impl Iterator<Item = &'a str>) -> Arc<[ModelName]> {
    names.filter(|name| upstream.serves(name)).take(MOST_NAMES).filter_map(ModelName::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_each_shape_and_nonsense_gives_none() {
        let read = |text: &str, dialect| {
            let list = serde_json::from_str::<Value>(text).unwrap();
            names(&list, dialect).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(read(r#"{"data":[{"id":"a"},{"id":7},{}]}"#, DialectName::OpenAi), ["a"]);
        assert_eq!(read(r#"{"models":[{"name":"models/g"}]}"#, DialectName::Gemini), ["g"]);
        assert!(read("[]", DialectName::OpenAi).is_empty());
        assert!(read(r#"{"data":"x"}"#, DialectName::Anthropic).is_empty());
    }
}
