//! Failed credentials, counted per client address.
