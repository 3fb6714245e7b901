//! Speech, transcription and translation.

use bytes::Bytes;
use serde_json::{Value, json};

use super::fingerprint::base64;
use super::report::with;
use super::script::pieces;
use super::wish::{quoted, text};
use super::{Play, Request, data};
use crate::policy::Endpoint;
use crate::units::Tokens;

/// Samples a second, of one byte each.
const RATE: u32 = 8_000;
/// Samples of one spoken word: a twentieth of a second.
const WORD: usize = 400;

/// `/v1/audio/speech`: a short tone for each word, one output token each. Always a WAV, whatever format is asked for, but the
/// bare samples for `pcm`.
pub(super) fn speech(request: &Request<'_>) -> Play {
    let words = pieces(&quoted(super::wish::member(&request.body, "input")));
    let samples: Vec<u8> = words.iter().enumerate().flat_map(|(index, _)| tone(index)).collect();
    let (content_type, sound) = match text(&request.body, "response_format") {
        Some("pcm") => ("audio/pcm", samples),
        _ => ("audio/wav", wav(&samples)),
    };
    if text(&request.body, "stream_format") != Some("sse") {
        let frames = sound.chunks(4_096).map(Bytes::copy_from_slice).collect();
        return Play::pieces(content_type, frames);
    }
    let delta = |bytes| data(&json!({ "type": "speech.audio.delta", "audio": base64(bytes) }));
    let mut events: Vec<Bytes> = sound.chunks(3_000).map(delta).collect();
    let usage = request.report.media(words.len() as u64, true);
    events.push(data(&with(json!({ "type": "speech.audio.done" }), "usage", usage)));
    Play::events(events)
}

/// A triangle wave, a little higher with each word.
fn tone(word: usize) -> impl Iterator<Item = u8> {
    let half = 24 - word % 8;
    (0..WORD).map(move |at| {
        let (swing, place) = (at / half % 2, at % half * 64 / half);
        u8::try_from(if swing == 0 { 96 + place } else { 160 - place }).unwrap_or(128)
    })
}

/// A WAV of 8-bit mono samples.
fn wav(samples: &[u8]) -> Vec<u8> {
    let length = u32::try_from(samples.len()).unwrap_or_default();
    let mut file = b"RIFF".to_vec();
    file.extend(length.saturating_add(36).to_le_bytes());
    file.extend(b"WAVEfmt ");
    // Size of this chunk, PCM, one channel, samples a second, bytes a second, bytes and bits a sample.
    file.extend(16_u32.to_le_bytes());
    file.extend([1, 0, 1, 0]);
    file.extend(RATE.to_le_bytes());
    file.extend(RATE.to_le_bytes());
    file.extend([1, 0, 8, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

/// `/v1/audio/transcriptions` and `/v1/audio/translations`: a sentence about the recording's length.
pub(super) fn transcript(request: &Request<'_>) -> Play {
    let recording = request.form.file().unwrap_or_default();
    let seconds = seconds(recording);
    let said = format!("This recording has {} bytes and lasts about {seconds} seconds.", recording.len());
    let words = pieces(&said);
    // whisper is billed by time, what came after it by tokens.
    let usage = match request.ask.model.starts_with("whisper") {
        true => request.report.seconds(seconds),
        false => request.report.media(words.len() as Tokens, false),
    };
    let is_transcription = request.ask.endpoint == Endpoint::AudioTranscriptions;
    if request.stream && is_transcription {
        let mut events: Vec<Bytes> =
            words.iter().map(|piece| data(&json!({ "type": "transcript.text.delta", "delta": piece }))).collect();
        events.push(data(&with(json!({ "type": "transcript.text.done", "text": said }), "usage", usage)));
        return Play::events(events);
    }
    let end = format!("00:00:{:02}", seconds.min(59));
    match text(&request.body, "response_format") {
        Some("text") => Play::whole("text/plain; charset=utf-8", format!("{said}\n")),
        Some("srt") => Play::whole("text/plain; charset=utf-8", format!("1\n00:00:00,000 --> {end},000\n{said}\n\n")),
        Some("vtt") => Play::whole("text/vtt", format!("WEBVTT\n\n00:00:00.000 --> {end}.000\n{said}\n\n")),
        Some("verbose_json") => {
            let task = if is_transcription { "transcribe" } else { "translate" };
            Play::json(&with(verbose(task, &said, seconds), "usage", usage))
        }
        _ => Play::json(&with(json!({ "text": said }), "usage", usage)),
    }
}

fn verbose(task: &str, said: &str, seconds: u64) -> Value {
    let segment = json!({
        "id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": said, "tokens": [], "temperature": 0.0,
        "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0,
    });
    json!({ "task": task, "language": "english", "duration": seconds, "text": said, "segments": [segment] })
}

/// How long a recording lasts, at least a second: by the byte rate of a WAV's head, else at 16,000 bytes a second.
fn seconds(recording: &[u8]) -> u64 {
    let is_wav = recording.starts_with(b"RIFF") && recording.get(8..16) == Some(b"WAVEfmt ");
    let stated = recording.get(28..32).filter(|_| is_wav).and_then(|bytes| bytes.try_into().ok());
    let rate = stated.map_or(16_000, |bytes| u64::from(u32::from_le_bytes(bytes))).max(1);
    (recording.len() as u64).div_ceil(rate).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_of_our_own_is_as_long_as_its_samples() {
        let samples: Vec<u8> = (0..60).flat_map(tone).collect();
        assert_eq!(samples.len(), 24_000);
        assert_eq!(seconds(&wav(&samples)), 4, "3 s of samples and the head, rounded up");
        assert_eq!(seconds(b""), 1);
        assert_eq!(seconds(b"RIFF\0\0\0\0WAVEfmt "), 1);
    }

    #[test]
    fn the_lengths_in_a_head_are_those_of_the_file() {
        let file = wav(&[128; 10]);
        assert_eq!(file.len(), 54);
        assert_eq!(file[4..8], 46_u32.to_le_bytes());
        assert_eq!(file[40..44], 10_u32.to_le_bytes());
    }
}
