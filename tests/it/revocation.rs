//! A key that is switched off, removed or expired ends its running streams.
