//! Anthropic's words.
