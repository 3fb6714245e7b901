//! No secret stands in anything the program puts out.
