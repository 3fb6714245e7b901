//! Accidents: what went wrong through no decision of ours. The caller gets it in its own dialect, never ours, never a secret.

/// Whose accident, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection to any endpoint of the upstream (502).
    UpstreamUnreachable,
    /// The upstream broke the connection before its answer began, or answered something that is not HTTP (502).
    UpstreamBroken,
    /// No first byte within the upstream's time (504).
    UpstreamTimeout,
    /// The upstream has as many requests as it may have (503).
    UpstreamBusy {
        /// When to come back, nanoseconds.
        retry_after_ns: u64,
    },
    /// As much is being done as fits (503).
    Overloaded {
        /// When to come back, nanoseconds.
        retry_after_ns: u64,
    },
    /// Our own (500); the log says which.
    Internal,
}

impl Fault {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamBusy { .. } => "upstream_busy",
            Self::Overloaded { .. } => "overloaded",
            Self::Internal => "internal",
        }
    }
}

/// Why a running stream was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutReason {
    /// An operator switched the key off.
    Disabled,
    /// The key is gone.
    Deleted,
    /// The key's end came.
    Expired,
    /// The grace of the secret in use ended.
    GraceEnded,
    /// The upstream's answer stopped or broke.
    Upstream,
}

impl CutReason {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "key_disabled",
            Self::Deleted => "key_deleted",
            Self::Expired => "key_expired",
            Self::GraceEnded => "grace_ended",
            Self::Upstream => "upstream_cut",
        }
    }
}
