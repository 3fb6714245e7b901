//! A client that goes away: its upstream is cancelled or read on, and it is charged either way.
