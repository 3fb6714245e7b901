//! multipart/form-data, read in the one way every parser reads it.
