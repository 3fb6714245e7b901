//! Requests at once.
