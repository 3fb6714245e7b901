//! The configuration: read with every fault at once, checked, immutable.
