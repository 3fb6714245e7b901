//! Which call a path means. An allow-list on the exact bytes: nothing is normalised into something allowed.

use http::Method;

/// One `[[passthrough]]` entry: a path forwarded beside the dialects' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassthroughRoute {
    /// The path, exact.
    pub path: Box<str>,
    /// The methods taken there.
    pub methods: Vec<Method>,
    /// The upstream it goes to.
    pub upstream: Box<str>,
    /// Whether it reaches no model, so that a key with a model list may use it.
    pub model_free: bool,
}
