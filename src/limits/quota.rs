//! Units of a period.
