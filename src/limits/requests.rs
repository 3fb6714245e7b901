//! Requests per minute.
