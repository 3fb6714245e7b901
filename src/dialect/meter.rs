//! Reads along with an answer and says what it used.
