//! Whatever becomes of a request, nothing it held is held after it.
