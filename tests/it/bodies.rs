//! Bodies that two parsers could read as two: none of them reaches the backend.
