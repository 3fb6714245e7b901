//! The sentences refusals and faults are told in, shared by the dialects.
