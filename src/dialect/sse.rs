//! Server-sent events, cut at their boundaries while the bytes pass.
