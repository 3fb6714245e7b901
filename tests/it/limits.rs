//! Limits under concurrency, to the request and to the token.
