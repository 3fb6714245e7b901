//! Changes to keys, whoever sends them, and how they merge.
