//! The arithmetic of a continuously refilled bucket on one atomic word.
