//! The table: digest to key, shared by every worker.
