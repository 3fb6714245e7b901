//! One line a request, at target `access`.

use crate::clock::Clock;
use crate::policy::{DialectName, Endpoint, Usage};
use crate::units::{KeyId, ModelName, Units};

/// What is known of a request. It is written when this is dropped, so that there is one line whatever became of the request.
#[derive(Debug)]
pub struct AccessLine {
    /// Ours or the caller's.
    pub request_id: Box<str>,
    /// Whose API.
    pub dialect: DialectName,
    /// Which call; `None` where no route matched.
    pub endpoint: Option<Endpoint>,
    /// The key, once it is known.
    pub key: Option<KeyId>,
    /// The model, as the client wrote it.
    pub model: Option<ModelName>,
    /// Where it went.
    pub upstream: Option<Box<str>>,
    /// The answer's status; 0 when there was none.
    pub status: u16,
    /// `allowed`, or the name of the refusal or fault; `client_gone` until one of these is known.
    pub decision: &'static str,
    /// What it used.
    pub usage: Usage,
    /// What that cost.
    pub units: Units,
    /// Until the first byte of the answer, nanoseconds.
    pub first_byte_ns: Option<u64>,
    /// Why it ended before its end.
    pub cut: Option<&'static str>,
    /// When its head was read, monotonic nanoseconds.
    pub began_ns: u64,
    clock: Clock,
}

impl AccessLine {
    /// Of a request whose head has just been read.
    pub fn begin(request_id: Box<str>, dialect: DialectName, clock: Clock) -> Self {
        Self {
            request_id,
            dialect,
            endpoint: None,
            key: None,
            model: None,
            upstream: None,
            status: 0,
            decision: "client_gone",
            usage: Usage::default(),
            units: Units::default(),
            first_byte_ns: None,
            cut: None,
            began_ns: clock.monotonic_ns(),
            clock,
        }
    }

    /// Nanoseconds since the head was read.
    pub fn elapsed_ns(&self) -> u64 {
        self.clock.monotonic_ns().saturating_sub(self.began_ns)
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        if !tracing::enabled!(target: "access", tracing::Level::INFO) {
            return;
        }
        tracing::info!(
            target: "access",
            request_id = &*self.request_id,
            dialect = self.dialect.as_str(),
            endpoint = self.endpoint.map(Endpoint::as_str),
            key_id = self.key.map(tracing::field::display),
            model = self.model.as_ref().map(ModelName::as_str),
            upstream = self.upstream.as_deref(),
            status = self.status,
            decision = self.decision,
            input_tokens = self.usage.input,
            cached_tokens = self.usage.cached_input,
            output_tokens = self.usage.output,
            estimated = self.usage.estimated,
            units = self.units,
            first_byte_ms = self.first_byte_ns.map(milliseconds),
            duration_ms = milliseconds(self.elapsed_ns()),
            cut = self.cut,
            "request"
        );
    }
}

fn milliseconds(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}
