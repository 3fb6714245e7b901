//! What the configuration says of the data listener.

use std::sync::Arc;
use std::time::Duration;

use crate::dialect::route::PassthroughRoute;
use crate::listen::Address;
use crate::policy::AddressRules;
use crate::tls::Identity;

/// How much memory the process may have before requests are shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Nine tenths of what the machine's operator gave it (its control group's limit), where that is known.
    Auto,
    /// As much as there is.
    None,
    /// So many bytes.
    Bytes(u64),
}

/// `[server]`, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; at least one.
    pub listen: Vec<Address>,
    /// The mode of paths among them.
    pub socket_mode: u32,
    /// Whether every connection begins with a PROXY protocol header, which only trusted proxies may send.
    pub proxy_protocol: bool,
    /// Worker threads; 0 = one per core.
    pub workers: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: AddressRules,
    /// Largest request body, bytes.
    pub max_body: u64,
    /// Bytes of request bodies held at once, all requests together.
    pub body_budget: u64,
    /// Time for a request's head.
    pub header_timeout: Duration,
    /// Longest silence inside a request's body.
    pub body_idle_timeout: Duration,
    /// Slowest acceptable body, bytes per second, once the idle time has passed.
    pub body_min_rate: u64,
    /// Longest time a client may leave written bytes unread.
    pub write_stall_timeout: Duration,
    /// Longest time a kept connection may wait for its next request.
    pub keep_alive_timeout: Duration,
    /// Connections at once.
    pub max_connections: u32,
    /// Connections at once from one client address.
    pub max_connections_per_client: u32,
    /// Requests under way at once; more are shed.
    pub max_requests: u32,
    /// Memory of the process above which requests are shed.
    pub memory_limit: MemoryLimit,
    /// How long after SIGTERM new connections are still taken, so that whoever looks at `/readyz` can see it first.
    pub drain_delay: Duration,
    /// How long running requests may go on after that.
    pub drain_timeout: Duration,
    /// Whether running streams of a revoked key are ended.
    pub cut_streams: bool,
    /// Failed credentials allowed from one address in a minute.
    pub failed_attempts_per_minute: u32,
    /// Paths forwarded beside the dialects' own.
    pub passthrough: Vec<PassthroughRoute>,
    /// What the listeners shake hands with; `None` where they speak in clear.
    pub tls: Option<Arc<Identity>>,
}
