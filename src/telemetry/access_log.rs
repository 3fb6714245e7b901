//! One line a request, at target `access`.

use jiff::Timestamp;
use serde::Serialize;

use crate::clock::{Clock, Now};
use crate::policy::{DialectName, Endpoint, Usage};
use crate::telemetry::logging;
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
    /// Of a request whose head was read at `began_ns`.
    pub fn begin(request_id: Box<str>, dialect: DialectName, clock: Clock, began_ns: u64) -> Self {
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
            began_ns,
            clock,
        }
    }

    /// Nanoseconds from when the head was read until `now`.
    pub fn ns_until(&self, now: Now) -> u64 {
        now.monotonic_ns.saturating_sub(self.began_ns)
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
        if logging::line(|| self.json()) {
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

impl AccessLine {
    /// The line as the log's own JSON has it, to the byte. Written here and not by way of an event, whose fields are all copied first: there is one for
    /// every request.
    fn json(&self) -> Vec<u8> {
        let now = Timestamp::from_millisecond(self.clock.now().unix_ms).unwrap_or_default();
        let told = Told {
            timestamp: format!("{now:.6}"),
            level: "INFO",
            message: "request",
            request_id: &self.request_id,
            dialect: self.dialect.as_str(),
            endpoint: self.endpoint.map(Endpoint::as_str),
            key_id: self.key.map(|key| key.to_string()),
            model: self.model.as_ref().map(ModelName::as_str),
            upstream: self.upstream.as_deref(),
            status: self.status,
            decision: self.decision,
            input_tokens: self.usage.input,
            cached_tokens: self.usage.cached_input,
            output_tokens: self.usage.output,
            estimated: self.usage.estimated,
            units: self.units,
            first_byte_ms: self.first_byte_ns.map(milliseconds),
            duration_ms: milliseconds(self.elapsed_ns()),
            cut: self.cut,
            target: "access",
        };
        let mut line = Vec::with_capacity(512);
        // Nothing of it can fail to be JSON, and memory takes all.
        let _ = serde_json::to_writer(&mut line, &told);
        line.push(b'\n');
        line
    }
}

/// What a line says, in its order.
#[derive(Serialize)]
struct Told<'a> {
    timestamp: String,
    level: &'a str,
    message: &'a str,
    request_id: &'a str,
    dialect: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    status: u16,
    decision: &'a str,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    estimated: bool,
    units: Units,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<&'a str>,
    target: &'a str,
}

fn milliseconds(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::clock::Now;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// As the log's formatter writes the event.
    fn by_event(line: AccessLine) -> Vec<u8> {
        let kept = Kept::default();
        let out = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || out.clone());
        let subscriber = subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).finish();
        tracing::subscriber::with_default(subscriber, || drop(line));
        kept.0.lock().unwrap().clone()
    }

    /// Everything but when it was written.
    fn from_the_level_on(line: &[u8]) -> String {
        let text = String::from_utf8(line.to_vec()).unwrap();
        let at = text.find(",\"level\"").unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        let written = told["timestamp"].as_str().unwrap();
        assert!(written.parse::<Timestamp>().is_ok() && written.len() == 27, "{written}");
        text[at..].to_owned()
    }

    #[test]
    fn a_line_is_what_the_event_would_be() {
        let clock = Clock::manual(Now { monotonic_ns: 5, unix_ms: 0 });
        let least = || AccessLine::begin("req_1".into(), DialectName::OpenAi, clock.clone(), clock.monotonic_ns());
        let most = || {
            let mut line = least();
            line.endpoint = Some(Endpoint::ChatCompletions);
            line.key = Some(KeyId(Uuid::from_u128(7)));
            line.model = ModelName::new("gpt-4o/mini");
            line.upstream = Some("a \"quoted\" name\u{1}é".into());
            (line.status, line.decision) = (200, "allowed");
            line.usage = Usage { input: u64::MAX, output: 2, estimated: true, ..Usage::default() };
            line.units = 12;
            line.first_byte_ns = Some(1_234_567);
            line.cut = Some("upstream");
            line
        };
        for line in [&least as &dyn Fn() -> AccessLine, &most] {
            assert_eq!(from_the_level_on(&line().json()), from_the_level_on(&by_event(line())));
        }
    }
}
