//! What reaches the backend: headers, credentials, paths, aliases, splices.
