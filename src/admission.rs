//! The decision: may this caller's request go on, and the proof that it was paid for.
