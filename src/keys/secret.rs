//! Secrets: made, recognised, digested; never printed.
