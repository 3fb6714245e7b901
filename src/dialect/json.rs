//! The scanner: one pass over a JSON body, no tree, no copy.
