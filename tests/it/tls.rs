//! TLS as clients and operators meet it, on the real binary where files matter.
