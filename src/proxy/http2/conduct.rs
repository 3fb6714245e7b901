//! How an HTTP/2 peer behaves: what it sends beside requests is counted, and who sends more of it than any use of the protocol needs has its
//! connection ended. Frames that cost the sender nothing and the other side work are the whole family of attacks: rapid reset
//! (CVE-2023-44487), MadeYouReset (CVE-2025-8671), CONTINUATION (VU#421644), settings, ping and empty frame floods (CVE-2019-9511 and
//! following). Pure: bytes and a moment go in, a verdict comes out.

use crate::proxy::allowance::Allowance;
use crate::proxy::http2::frames::{Frames, Head, Kind, Part};

/// What an HTTP/2 client says first (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most frames one head may be spread over, beside its first.
const MAX_CONTINUATIONS: u32 = 4;
/// The most bytes one head may have as it is sent, compressed.
const MAX_BLOCK_BYTES: u32 = 32 * 1024;

/// What a peer did too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconduct {
    /// Began streams and reset them.
    Resets,
    /// Made us reset streams.
    MadeResets,
    /// Began more streams than it may.
    RefusedStreams,
    /// Sent heads that are refused at the edge.
    RefusedHeads,
    /// Changed its settings, or acknowledged ours without being told any.
    Settings,
    /// Asked whether we are there.
    Pings,
    /// Granted us room for bytes we did not send.
    WindowUpdates,
    /// Weighed streams, or sent frames nobody knows.
    Priorities,
    /// Sent data frames without data.
    EmptyData,
    /// Sent a head in too many pieces, or too large a one.
    HeaderBlock,
    /// Began a stream long after it was told to go.
    Stays,
}

impl Misconduct {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::MadeResets => "made_resets",
            Self::RefusedStreams => "refused_streams",
            Self::RefusedHeads => "refused_heads",
            Self::Settings => "settings",
            Self::Pings => "pings",
            Self::WindowUpdates => "window_updates",
            Self::Priorities => "priorities",
            Self::EmptyData => "empty_data",
            Self::HeaderBlock => "header_block",
            Self::Stays => "stays",
        }
    }
}

/// What is allowed of each kind. Every number is several times what any client was seen to need; what answers earn comes on top.
#[derive(Debug)]
struct Allowances {
    resets: Allowance,
    made_resets: Allowance,
    refused_streams: Allowance,
    refused_heads: Allowance,
    settings: Allowance,
    pings: Allowance,
    window_updates: Allowance,
    priorities: Allowance,
    empty_data: Allowance,
}

impl Allowances {
    fn new(now_ns: u64) -> Self {
        let of = |most, per_second| Allowance::new(most, per_second, now_ns);
        Self {
            resets: of(200, 20),
            made_resets: of(50, 1),
            refused_streams: of(1_000, 50),
            refused_heads: of(50, 1),
            settings: of(20, 1),
            pings: of(100, 5),
            window_updates: of(2_000, 200),
            priorities: of(500, 20),
            empty_data: of(50, 1),
        }
    }
}

/// The conduct of one peer, from both directions of its connection.
#[derive(Debug)]
pub struct Conduct {
    preface_left: usize,
    received: Frames,
    sent: Frames,
    /// Continuations and bytes of the head under way.
    block: Option<(u32, u32)>,
    /// What is being received is a body's.
    in_data: bool,
    /// Bytes of the code of a reset that is being sent, in `code`.
    code_bytes: Option<u32>,
    code: u32,
    allowed: Allowances,
}

impl Conduct {
    /// Of a peer that has just connected.
    pub fn new(now_ns: u64) -> Self {
        Self {
            preface_left: PREFACE.len(),
            received: Frames::default(),
            sent: Frames::default(),
            block: None,
            in_data: false,
            code_bytes: None,
            code: 0,
            allowed: Allowances::new(now_ns),
        }
    }

    /// The peer sent this.
    ///
    /// # Errors
    /// What it has now done too often.
    pub fn receive(&mut self, bytes: &[u8], now_ns: u64) -> Result<(), Misconduct> {
        let preface = bytes.len().min(self.preface_left);
        self.preface_left -= preface;
        let mut rest = &bytes[preface..];
        while !rest.is_empty() {
            match self.received.next(&mut rest) {
                Some(Part::Head(head)) => self.judge(head, now_ns)?,
                Some(Part::Payload(_)) | None => {}
            }
        }
        Ok(())
    }

    /// We sent this.
    ///
    /// # Errors
    /// What the peer has now made us send too often.
    pub fn send(&mut self, bytes: &[u8], now_ns: u64) -> Result<(), Misconduct> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.sent.next(&mut rest) {
                Some(Part::Head(head)) => {
                    self.code_bytes = (head.kind == Kind::Reset).then_some(0);
                    if head.kind == Kind::Data {
                        // A peer may well acknowledge each frame twice, for the stream and for the connection, and ask how long it took.
                        self.allowed.window_updates.earn(4);
                        self.allowed.pings.earn(1);
                    }
                }
                Some(Part::Payload(code)) => self.reset_sent(code, now_ns)?,
                None => {}
            }
        }
        Ok(())
    }

    /// The head of a request was refused at the edge.
    ///
    /// # Errors
    /// [`Misconduct::RefusedHeads`].
    pub fn head_refused(&mut self, now_ns: u64) -> Result<(), Misconduct> {
        allow(&mut self.allowed.refused_heads, now_ns, Misconduct::RefusedHeads)
    }

    /// Whether something other than a body has begun and is not whole.
    pub fn head_is_open(&self) -> bool {
        let in_frame = self.received.is_in_head() || (self.received.is_in_payload() && !self.in_data);
        self.preface_left > 0 || self.block.is_some() || in_frame
    }

    fn judge(&mut self, head: Head, now_ns: u64) -> Result<(), Misconduct> {
        self.in_data = head.kind == Kind::Data;
        let allowed = &mut self.allowed;
        match head.kind {
            Kind::Headers => self.block_grows(0, head),
            Kind::Continuation => {
                let (continuations, _) = self.block.unwrap_or_default();
                self.block_grows(continuations + 1, head)
            }
            Kind::Reset => allow(&mut allowed.resets, now_ns, Misconduct::Resets),
            Kind::Settings => allow(&mut allowed.settings, now_ns, Misconduct::Settings),
            Kind::Ping => allow(&mut allowed.pings, now_ns, Misconduct::Pings),
            Kind::WindowUpdate => allow(&mut allowed.window_updates, now_ns, Misconduct::WindowUpdates),
            Kind::Priority | Kind::Other => allow(&mut allowed.priorities, now_ns, Misconduct::Priorities),
            // The last of a body may be empty. All of one that is padded may be padding.
            Kind::Data if !head.ends_stream() && head.length <= head.padding_bytes() * 256 => {
                allow(&mut allowed.empty_data, now_ns, Misconduct::EmptyData)
            }
            Kind::Data | Kind::GoAway => Ok(()),
        }
    }

    fn block_grows(&mut self, continuations: u32, head: Head) -> Result<(), Misconduct> {
        let before = if continuations == 0 { 0 } else { self.block.map_or(0, |(_, bytes)| bytes) };
        let bytes = before.saturating_add(head.length);
        if continuations > MAX_CONTINUATIONS || bytes > MAX_BLOCK_BYTES {
            return Err(Misconduct::HeaderBlock);
        }
        self.block = (!head.ends_headers()).then_some((continuations, bytes));
        Ok(())
    }

    /// The code says whose fault it was (RFC 9113 7).
    fn reset_sent(&mut self, payload: &[u8], now_ns: u64) -> Result<(), Misconduct> {
        let Some(mut have) = self.code_bytes else { return Ok(()) };
        for byte in payload.iter().take(4 - have as usize) {
            self.code = self.code << 8 | u32::from(*byte);
            have += 1;
        }
        self.code_bytes = (have < 4).then_some(have);
        match self.code {
            _ if have < 4 => Ok(()),
            // Protocol, flow control, stream closed, frame size.
            0x1 | 0x3 | 0x5 | 0x6 => allow(&mut self.allowed.made_resets, now_ns, Misconduct::MadeResets),
            0x7 => allow(&mut self.allowed.refused_streams, now_ns, Misconduct::RefusedStreams),
            _ => Ok(()),
        }
    }
}

fn allow(allowance: &mut Allowance, now_ns: u64, misconduct: Misconduct) -> Result<(), Misconduct> {
    if allowance.take(now_ns) { Ok(()) } else { Err(misconduct) }
}

#[cfg(test)]
mod tests;
