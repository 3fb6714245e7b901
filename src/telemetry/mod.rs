//! What the program says of itself: logs, metrics, the access log.
