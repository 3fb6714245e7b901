//! Gemini's words.
