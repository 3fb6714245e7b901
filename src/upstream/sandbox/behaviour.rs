//! What the name of a model makes the sandbox do wrong.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::{End, Frame, Play, Request, wording};
use crate::policy::Endpoint;

/// How many words `sandbox-long` says.
pub(super) const LONG: u64 = 10_000;
/// The most pieces `sandbox-drip` breaks an answer into.
const DRIPS: usize = 4_096;
const FIRST_BYTE: Duration = Duration::from_secs(1);
const EVENT_GAP: Duration = Duration::from_millis(100);

/// One way to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Good,
    Error(StatusCode),
    Slow,
    Drip,
    Long,
    Empty,
    NoUsage,
    UsageAbsurd,
    Cut,
    Stall,
    Hang,
    StreamError,
    NotJson,
}

/// Every model name with a behaviour of its own, and what it does, for documentation and listings.
pub fn behaviours() -> &'static [(&'static str, &'static str)] {
    &[
        ("sandbox-error-NNN", "answers with the error NNN (400 to 599), worded as the dialect's own backend would"),
        ("sandbox-slow", "sends the first byte after 1 s and each further event 100 ms after the one before"),
        ("sandbox-drip", "sends its bytes one at a time, across event and character borders"),
        ("sandbox-long", "says 10,000 words, so 10,000 events of a stream, unless the request allows fewer"),
        ("sandbox-empty", "answers without text: 0 output tokens"),
        ("sandbox-no-usage", "reports no usage"),
        ("sandbox-usage-absurd", "reports -1 input tokens and 2^62 output tokens"),
        ("sandbox-cut", "breaks the connection after half of the answer"),
        ("sandbox-stall", "sends half of the answer and falls silent"),
        ("sandbox-hang", "never answers"),
        ("sandbox-stream-error", "ends a stream half way with an error event; without a stream, answers 500"),
        ("sandbox-not-json", "answers 200 with a page of HTML"),
    ]
}

impl Behaviour {
    /// The behaviour of a model; [`Behaviour::Good`] for every name that is not in the table.
    pub(super) fn of(model: &str) -> Self {
        let Some(name) = model.strip_prefix("sandbox-") else { return Self::Good };
        match name {
            "slow" => Self::Slow,
            "drip" => Self::Drip,
            "long" => Self::Long,
            "empty" => Self::Empty,
            "no-usage" => Self::NoUsage,
            "usage-absurd" => Self::UsageAbsurd,
            "cut" => Self::Cut,
            "stall" => Self::Stall,
            "hang" => Self::Hang,
            "stream-error" => Self::StreamError,
            "not-json" => Self::NotJson,
            _ => match name.strip_prefix("error-").and_then(error_status) {
                Some(status) => Self::Error(status),
                None => Self::Good,
            },
        }
    }

    /// A good answer, played as this behaviour plays it.
    pub(super) fn play(self, request: &Request<'_>, good: Play) -> Play {
        // The sandbox's own refusals come as they are, so that a client sees what was wrong with its request.
        if !good.status.is_success() && self != Self::Hang {
            return good;
        }
        match self {
            Self::Slow => slow(good),
            Self::Drip => drip(good),
            Self::Cut => Play { end: End::Cut, ..half(good) },
            Self::Stall => Play { end: End::Hang, ..half(good) },
            Self::Hang => Play { frames: Vec::new(), end: End::Hang, ..good },
            Self::StreamError => stream_error(request, good),
            _ => good,
        }
    }
}

fn error_status(digits: &str) -> Option<StatusCode> {
    if digits.len() != 3 {
        return None;
    }
    let status = StatusCode::from_bytes(digits.as_bytes()).ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

fn slow(mut play: Play) -> Play {
    for (index, frame) in play.frames.iter_mut().enumerate() {
        frame.after = if index == 0 { FIRST_BYTE } else { EVENT_GAP };
    }
    play
}

fn drip(mut play: Play) -> Play {
    let whole: Vec<u8> = play.frames.iter().flat_map(|frame| frame.bytes.iter().copied()).collect();
    let whole = Bytes::from(whole);
    let size = whole.len().div_ceil(DRIPS).max(1);
    play.frames = (0..whole.len())
        .step_by(size)
        .map(|start| Frame { after: Duration::ZERO, bytes: whole.slice(start..whole.len().min(start + size)) })
        .collect();
    play
}

/// The first half of the frames; of a body in one frame, the first half of its bytes.
fn half(mut play: Play) -> Play {
    match play.frames.as_mut_slice() {
        [only] => only.bytes.truncate((only.bytes.len() / 2).max(1)),
        frames => {
            let keep = frames.len() / 2;
            play.frames.truncate(keep);
        }
    }
    play
}

fn stream_error(request: &Request<'_>, good: Play) -> Play {
    let message = "The sandbox was asked for an error in the middle of the stream by the name of the model.";
    // A call that is never answered by a stream is not for being asked for one.
    let is_stream = request.ask.endpoint == Endpoint::StreamGenerateContent
        || good.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        return wording::error(request.ask.dialect, StatusCode::INTERNAL_SERVER_ERROR, message);
    }
    let mut play = good;
    play.frames.truncate(play.frames.len() / 2);
    let bytes = wording::stream_error(request.ask, message, play.frames.is_empty());
    play.frames.push(Frame { after: Duration::ZERO, bytes });
    play
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_has_a_behaviour_and_no_other_has() {
        for (name, what) in behaviours() {
            let model = name.replace("NNN", "503");
            assert_ne!(Behaviour::of(&model), Behaviour::Good, "{model}: {what}");
        }
        for good in
            ["gpt-4o", "sandbox", "sandbox-", "sandbox-error-", "sandbox-error-200", "sandbox-error-600", "slow"]
        {
            assert_eq!(Behaviour::of(good), Behaviour::Good, "{good}");
        }
        assert_eq!(Behaviour::of("sandbox-error-599"), Behaviour::Error(StatusCode::from_u16(599).unwrap()));
    }
}
