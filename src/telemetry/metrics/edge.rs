//! What the listeners count: handshakes, certificates, and peers that do not behave.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labelled, Reason};

/// Which listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    /// `data` or `admin`.
    pub listener: &'static str,
}

/// A handshake that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabel {
    listener: &'static str,
    /// `late`, or `failed`.
    reason: &'static str,
}

/// Of both listeners.
#[derive(Debug, Clone, Default)]
pub struct EdgeMetrics {
    /// TLS handshakes that came to nothing.
    handshakes_failed: Labelled<HandshakeLabel>,
    /// When the first certificate of a listener is out of date, seconds since 1970.
    certificate_expires: Family<ListenerLabel, Gauge<i64, AtomicI64>>,
    /// HTTP/2 connections ended because of what their peer sent.
    http2_ended: Labelled<Reason>,
}

impl EdgeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "tls_handshakes_failed",
            "TLS handshakes that came to nothing, by reason",
            self.handshakes_failed.clone(),
        );
        registry.register(
            "tls_certificate_expires_timestamp_seconds",
            "When the first certificate of a listener is out of date, seconds since 1970",
            self.certificate_expires.clone(),
        );
        registry.register(
            "http2_connections_ended",
            "HTTP/2 connections ended because of what their peer sent, by what that was",
            self.http2_ended.clone(),
        );
    }

    /// Counts a handshake that failed, or was not made in time.
    pub fn count_handshake(&self, listener: &'static str, is_late: bool) {
        let reason = if is_late { "late" } else { "failed" };
        self.handshakes_failed.get_or_create(&HandshakeLabel { listener, reason }).inc();
    }

    /// Counts an HTTP/2 connection that is ended for what its peer did too often.
    pub fn count_misconduct(&self, reason: &'static str) {
        self.http2_ended.get_or_create(&Reason { reason }).inc();
    }

    /// Shows until when the certificates of a listener are good; `None` where it has none.
    pub fn show_expiry(&self, data_unix_s: Option<i64>, admin_unix_s: Option<i64>) {
        for (listener, expires) in [("data", data_unix_s), ("admin", admin_unix_s)] {
            let label = ListenerLabel { listener };
            match expires {
                Some(expires) => _ = self.certificate_expires.get_or_create(&label).set(expires),
                None => _ = self.certificate_expires.remove(&label),
            }
        }
    }
}
