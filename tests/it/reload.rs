//! Files that change under a running program.
