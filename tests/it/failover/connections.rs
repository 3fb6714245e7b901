//! What an operator says of connections to an upstream: credentials in turn, TLS, forward proxies, HTTP/2.
