//! Tokens per minute: reserve, settle, debt.
