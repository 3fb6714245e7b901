//! The one secret a request carries, wherever its client puts it.
