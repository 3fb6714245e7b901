//! Frames (RFC 6455 5): read from any pieces, put together to messages within a bound, and written. What breaks a rule ends the
//! connection: a reader that repairs is one that two sides can read differently.

use bytes::{BufMut, Bytes, BytesMut};

/// The longest payload of a control frame (RFC 6455 5.5).
const MOST_CONTROL: usize = 125;
/// The longest head of a frame: two bytes, eight of length, four of mask.
const MOST_HEAD: usize = 14;
/// How much of a message is made room for before any of it has come.
const FIRST_ROOM: usize = 4 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further part of a message.
    Continuation,
    /// Text, or the first part of it.
    Text,
    /// Bytes, or the first part of them.
    Binary,
    /// The end.
    Close,
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }
}

/// Which side the frames come from: a client masks every one, a server none (RFC 6455 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// From a client.
    Always,
    /// From a server.
    Never,
}

/// Four bytes that a client's payload is hidden with; new and unforeseeable for each frame.
pub type Mask = [u8; 4];

/// What was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message, all of its parts.
    Message {
        /// Text (and then UTF-8) rather than bytes.
        is_text: bool,
        /// Its payload.
        payload: Bytes,
    },
    /// A ping.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The end.
    Close(Closing),
}

/// Why a side closes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closing {
    /// The status code; `None` where none was given.
    pub code: Option<u16>,
    /// The reason, at most 123 bytes.
    pub reason: Box<str>,
}

/// What is wrong with what came, as the code it is answered with (RFC 6455 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A frame that breaks the protocol (1002).
    #[error("{0}")]
    Protocol(&'static str),
    /// Text that is not UTF-8 (1007).
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A message over the bound (1009).
    #[error("a message that is too large")]
    TooLarge,
}

impl Flaw {
    /// The code that a connection is closed with for it.
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// A frame whose head was read.
#[derive(Debug, Clone, Copy)]
struct Open {
    opcode: Opcode,
    is_last: bool,
    mask: Option<Mask>,
    length: u64,
    /// Bytes of the payload that have come.
    seen: u64,
}

/// Reads the frames of one side.
#[derive(Debug)]
pub struct Frames {
    masking: Masking,
    /// Bytes of a message, at most.
    limit: u64,
    head: [u8; MOST_HEAD],
    head_length: usize,
    open: Option<Open>,
    control: BytesMut,
    message: BytesMut,
    /// The kind of the message whose last part has not begun.
    unfinished: Option<Opcode>,
}

impl Frames {
    /// Of a side that masks as said; no message has more than `limit` bytes.
    pub fn new(masking: Masking, limit: u64) -> Self {
        Self {
            masking,
            limit,
            head: [0; MOST_HEAD],
            head_length: 0,
            open: None,
            control: BytesMut::new(),
            message: BytesMut::new(),
            unfinished: None,
        }
    }

    /// Bytes held of a message that is not whole.
    pub fn held(&self) -> usize {
        self.message.len()
    }

    /// Reads from `bytes` until something is whole; says how many bytes were read. Without an item all of them were.
    ///
    /// # Errors
    /// The first [`Flaw`]; nothing may be read after it.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(usize, Option<Item>), Flaw> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if let Some(open) = self.open {
                let count = usize::try_from(open.length - open.seen).unwrap_or(usize::MAX).min(rest.len());
                self.take(open, rest.get(..count).unwrap_or_default());
                at += count;
                let open = Open { seen: open.seen + count as u64, ..open };
                if open.seen < open.length {
                    self.open = Some(open);
                    return Ok((at, None));
                }
                self.open = None;
                if let Some(item) = self.whole(open)? {
                    return Ok((at, Some(item)));
                }
            } else {
                let Some(byte) = rest.first() else { return Ok((at, None)) };
                at += 1;
                self.head_byte(*byte)?;
            }
        }
    }

    /// One more byte of a head; each is judged as soon as it can be.
    fn head_byte(&mut self, byte: u8) -> Result<(), Flaw> {
        if let Some(place) = self.head.get_mut(self.head_length) {
            *place = byte;
        }
        self.head_length += 1;
        let [first, second, ..] = self.head;
        let opcode = self.check_first(first)?;
        if self.head_length < 2 {
            return Ok(());
        }
        self.check_second(second, opcode)?;
        let wide = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_at = 2 + wide;
        let end = mask_at + if second & 0x80 != 0 { 4 } else { 0 };
        if self.head_length < mask_at {
            return Ok(());
        }
        let length = match wide {
            0 => u64::from(second & 0x7f),
            _ => self.head.get(2..mask_at).unwrap_or_default().iter().fold(0, |n, b| n << 8 | u64::from(*b)),
        };
        if (wide == 2 && length < 126) || (wide == 8 && (length <= 0xffff || length >> 63 != 0)) {
            return Err(Flaw::Protocol("a length that is not written in its shortest form"));
        }
        if !opcode.is_control() && length.saturating_add(self.message.len() as u64) > self.limit {
            return Err(Flaw::TooLarge);
        }
        if self.head_length < end {
            return Ok(());
        }
        let mask = self.head.get(mask_at..end).and_then(|mask| mask.first_chunk().copied());
        self.head_length = 0;
        self.open = Some(Open { opcode, is_last: first & 0x80 != 0, mask, length, seen: 0 });
        if !opcode.is_control() {
            self.message.reserve(usize::try_from(length).unwrap_or(FIRST_ROOM).min(FIRST_ROOM));
        }
        Ok(())
    }

    fn check_first(&self, first: u8) -> Result<Opcode, Flaw> {
        if first & 0x70 != 0 {
            return Err(Flaw::Protocol("a reserved bit that no extension gives a meaning"));
        }
        let opcode = Opcode::of(first & 0x0f).ok_or(Flaw::Protocol("a reserved opcode"))?;
        match opcode {
            _ if opcode.is_control() && first & 0x80 == 0 => Err(Flaw::Protocol("a control frame in parts")),
            Opcode::Continuation if self.unfinished.is_none() => Err(Flaw::Protocol("a part of no message")),
            Opcode::Text | Opcode::Binary if self.unfinished.is_some() => {
                Err(Flaw::Protocol("a message within a message"))
            }
            _ => Ok(opcode),
        }
    }

    fn check_second(&self, second: u8, opcode: Opcode) -> Result<(), Flaw> {
        match (self.masking, second & 0x80 != 0) {
            (Masking::Always, false) => return Err(Flaw::Protocol("a frame of a client without a mask")),
            (Masking::Never, true) => return Err(Flaw::Protocol("a frame of a server with a mask")),
            _ => {}
        }
        if opcode.is_control() && usize::from(second & 0x7f) > MOST_CONTROL {
            return Err(Flaw::Protocol("a control frame over 125 bytes"));
        }
        Ok(())
    }

    fn take(&mut self, open: Open, payload: &[u8]) {
        let into = if open.opcode.is_control() { &mut self.control } else { &mut self.message };
        let from = into.len();
        into.extend_from_slice(payload);
        if let Some(mask) = open.mask {
            apply(mask, open.seen, into.get_mut(from..).unwrap_or_default());
        }
    }

    /// A frame has come whole.
    fn whole(&mut self, open: Open) -> Result<Option<Item>, Flaw> {
        let control = self.control.split().freeze();
        match open.opcode {
            Opcode::Ping => return Ok(Some(Item::Ping(control))),
            Opcode::Pong => return Ok(Some(Item::Pong(control))),
            Opcode::Close => return closing(&control).map(|closing| Some(Item::Close(closing))),
            Opcode::Text | Opcode::Binary => self.unfinished = Some(open.opcode),
            Opcode::Continuation => {}
        }
        if !open.is_last {
            return Ok(None);
        }
        let is_text = self.unfinished.take() == Some(Opcode::Text);
        let payload = std::mem::take(&mut self.message).freeze();
        if is_text && std::str::from_utf8(&payload).is_err() {
            return Err(Flaw::NotUtf8);
        }
        Ok(Some(Item::Message { is_text, payload }))
    }
}

/// Reads the payload of a close frame (RFC 6455 5.5.1 and 7.4).
fn closing(payload: &[u8]) -> Result<Closing, Flaw> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(Closing::default()) } else { Err(Flaw::Protocol("half a close code")) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Flaw::Protocol("a close code that may not be sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Flaw::NotUtf8)?;
    Ok(Closing { code: Some(code), reason: reason.into() })
}

impl Closing {
    /// With a code and a reason, which is cut to what a frame may hold.
    pub fn new(code: u16, reason: &str) -> Self {
        let mut end = reason.len().min(MOST_CONTROL - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code: Some(code), reason: reason.get(..end).unwrap_or_default().into() }
    }

    /// The payload of its frame.
    pub fn payload(&self) -> Bytes {
        let mut payload = BytesMut::new();
        if let Some(code) = self.code {
            payload.put_u16(code);
            payload.extend_from_slice(self.reason.as_bytes());
        }
        payload.freeze()
    }
}

/// Writes one whole frame behind what is in `out`: with `mask` as a client, without as a server.
pub fn write(out: &mut BytesMut, opcode: Opcode, payload: &[u8], mask: Option<Mask>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.reserve(MOST_HEAD + payload.len());
    out.put_u8(0x80 | opcode.bits());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.put_u8(masked | short),
        (_, Ok(middle)) => {
            out.put_u8(masked | 126);
            out.put_u16(middle);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(payload.len() as u64);
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
    let from = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply(mask, 0, out.get_mut(from..).unwrap_or_default());
    }
}

/// Hides, or shows, `bytes`, which begin `at` bytes into their payload.
fn apply(mask: Mask, at: u64, bytes: &mut [u8]) {
    let mut turned = mask;
    turned.rotate_left((at % 4) as usize);
    let (fours, rest) = bytes.as_chunks_mut::<4>();
    for four in fours {
        *four = (u32::from_ne_bytes(*four) ^ u32::from_ne_bytes(turned)).to_ne_bytes();
    }
    for (byte, hide) in rest.iter_mut().zip(turned) {
        *byte ^= hide;
    }
}

#[cfg(test)]
mod tests;
