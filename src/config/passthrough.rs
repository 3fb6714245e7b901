//! `[[passthrough]]`.

use std::collections::{HashMap, HashSet};

use http::Method;

use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::config::upstreams::names_written;
use crate::config::upstreams::urls::is_plain_path;
use crate::dialect::route::PassthroughRoute;
use crate::upstream::{Kind, UpstreamSettings};

pub(super) const NAMES: Names = &["path", "methods", "upstream", "model_free"];

/// What the proxy answers or routes itself; an entry that ends in `/` stands for everything below it.
const BUILT_IN: [&str; 19] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/rerank",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/key",
    "/v1beta/models",
    "/v1/images/",
    "/v1/audio/",
    "/v1/models/",
    "/v1beta/models/",
    "/models/",
    "/openai/",
    "/api/usage/token",
    "/api/usage/token/",
];

const METHODS: [(&str, &Method); 5] = [
    ("GET", &Method::GET),
    ("POST", &Method::POST),
    ("DELETE", &Method::DELETE),
    ("HEAD", &Method::HEAD),
    ("OPTIONS", &Method::OPTIONS),
];

/// Reads every entry.
pub(super) fn read(root: &Table<'_>, upstreams: &[UpstreamSettings]) -> Vec<PassthroughRoute> {
    let mut routes = Vec::new();
    let mut paths = HashMap::new();
    let written = names_written(root);
    root.tables("passthrough", NAMES, |index, table| {
        let path = table.require("path", "a path such as \"/v1/files\"").and_then(|item| {
            let path = read_path(&item)?;
            if let Some(first) = paths.insert(path.clone(), index) {
                item.fault(format!("{path:?} is the path of passthrough[{first}] already"));
            }
            Some(path)
        });
        let methods = table.require("methods", "a list of methods");
        let methods: Vec<Method> = methods.map_or_else(Vec::new, |item| {
            if item.is_empty_list() {
                item.fault("is empty, so nothing would be taken there");
            }
            item.list("a list of methods", |item| item.one_of(&METHODS).cloned())
        });
        let upstream = table.require("upstream", "the name of an upstream");
        let upstream = upstream.and_then(|item| read_upstream(&item, upstreams, &written));
        let model_free = table.boolean_or("model_free", false);
        let both = path.zip(upstream);
        routes.extend(both.map(|(path, upstream)| PassthroughRoute { path, methods, upstream, model_free }));
    });
    routes
}

fn read_path(item: &Item<'_>) -> Option<Box<str>> {
    let path = item.parsed("an exact path such as \"/v1/files\", nothing in it encoded", |text| {
        is_plain_path(text).then_some(text)
    })?;
    let is_built_in = BUILT_IN.iter().any(|taken| path == *taken || (taken.ends_with('/') && path.starts_with(taken)));
    if is_built_in {
        item.fault(format!("{path:?} is a path that is routed already"));
        return None;
    }
    Some(path.into())
}

/// An upstream that is written but has faults of its own is none of this entry's.
fn read_upstream(item: &Item<'_>, upstreams: &[UpstreamSettings], written: &HashSet<String>) -> Option<Box<str>> {
    let name = item.text("the name of an upstream")?;
    let found = upstreams.iter().find(|upstream| &*upstream.name == name);
    match found.map(|upstream| upstream.kind) {
        Some(Kind::Http(_)) => return Some(name.into()),
        Some(Kind::Sandbox) => item.fault("the built-in backend knows no paths but the dialects' own"),
        None if written.contains(name) => {}
        None => item.is_not("the name of an upstream"),
    }
    None
}
