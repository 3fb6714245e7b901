//! Answers pass byte for byte, at once, and are metered on the way.
