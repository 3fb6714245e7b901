//! OpenAI's words.
