//! What is read of a key, and every fault of it.
