//! The strict edge, by exact bytes: what could be read in two ways is refused, never repaired.
