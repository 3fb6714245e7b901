//! Azure OpenAI's words.
