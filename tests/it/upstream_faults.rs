//! Backends that refuse, hang, break off or lie.
