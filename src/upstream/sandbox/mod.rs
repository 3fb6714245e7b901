//! The built-in backend: deterministic answers for every endpoint of every dialect.
