//! Frames by their heads (RFC 9113 4.1): where each begins, whatever the pieces it comes in.

/// The kinds of frames that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of a body.
    Data,
    /// The start of a head, or trailers.
    Headers,
    /// The weight of a stream, in either of its two forms.
    Priority,
    /// The end of a stream before its end.
    Reset,
    /// Settings, or that they were read.
    Settings,
    /// A question whether the other side is there, or its answer.
    Ping,
    /// The other side will take no more streams.
    GoAway,
    /// The other side takes more bytes.
    WindowUpdate,
    /// More of a head.
    Continuation,
    /// Any other.
    Other,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x2 | 0x10 => Self::Priority,
            0x3 => Self::Reset,
            0x4 => Self::Settings,
            0x6 => Self::Ping,
            0x7 => Self::GoAway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            _ => Self::Other,
        }
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes behind it, below 2^24.
    pub length: u32,
    /// What it is.
    pub kind: Kind,
    /// What its kind makes of them.
    pub flags: u8,
}

impl Head {
    /// Nothing more comes on its stream.
    pub fn ends_stream(&self) -> bool {
        self.flags & 0x1 != 0
    }

    /// The head of a request is whole with it.
    pub fn ends_headers(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// How many of its bytes say only how many there are for nothing (RFC 9113 6.1): 1 where it is padded.
    pub fn padding_bytes(&self) -> u32 {
        u32::from(self.flags & 0x8 != 0)
    }
}

/// What a stretch of bytes begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The end of a frame's head, which is now whole.
    Head(Head),
    /// Some of its payload.
    Payload(&'a [u8]),
}

/// Reads one direction of a connection.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; 9],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload to come.
    left: u32,
}

impl Frames {
    /// Takes the next part off `bytes`; `None` when the rest of them is no whole one. All of them are taken then.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if self.left > 0 {
            let count = bytes.len().min(self.left as usize);
            let (payload, rest) = bytes.split_at(count);
            *bytes = rest;
            self.left -= u32::try_from(count).unwrap_or(self.left);
            return (count > 0).then_some(Part::Payload(payload));
        }
        let count = bytes.len().min(self.head.len() - self.have);
        let (fresh, rest) = bytes.split_at(count);
        self.head[self.have..self.have + count].copy_from_slice(fresh);
        self.have += count;
        *bytes = rest;
        if self.have < self.head.len() {
            return None;
        }
        self.have = 0;
        let [high, middle, low, kind, flags, ..] = self.head;
        let head = Head { length: u32::from_be_bytes([0, high, middle, low]), kind: Kind::of(kind), flags };
        self.left = head.length;
        Some(Part::Head(head))
    }

    /// Whether the head of a frame has begun that is not whole.
    pub fn is_in_head(&self) -> bool {
        self.have > 0
    }

    /// Whether there is more to come of a payload.
    pub fn is_in_payload(&self) -> bool {
        self.left > 0
    }
}
