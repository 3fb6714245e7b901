//! Each refusal over the wire, in the caller's own dialect.
