//! The member names of answers that say something, told apart in one look.

/// A member name that leads somewhere, or whose string is generated text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Name {
    #[default]
    Other,
    Usage,
    UsageMetadata,
    Meta,
    Response,
    Message,
    Type,
    Choices,
    Candidates,
    FinishReason,
    Duration,
    // From here on those of text.
    Content,
    ReasoningContent,
    Reasoning,
    Refusal,
    Arguments,
    Delta,
    Text,
    PartialJson,
    Thinking,
}

impl Name {
    /// What stands between the quotation marks of a name without escapes.
    #[inline]
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"usage" => Self::Usage,
            b"usageMetadata" => Self::UsageMetadata,
            b"meta" => Self::Meta,
            b"response" => Self::Response,
            b"message" => Self::Message,
            b"type" => Self::Type,
            b"choices" => Self::Choices,
            b"candidates" => Self::Candidates,
            b"finishReason" => Self::FinishReason,
            b"duration" => Self::Duration,
            b"content" => Self::Content,
            b"reasoning_content" => Self::ReasoningContent,
            b"reasoning" => Self::Reasoning,
            b"refusal" => Self::Refusal,
            b"arguments" => Self::Arguments,
            b"delta" => Self::Delta,
            b"text" => Self::Text,
            b"partial_json" => Self::PartialJson,
            b"thinking" => Self::Thinking,
            _ => Self::Other,
        }
    }

    /// Whether it may lead to what is read.
    #[inline]
    pub(super) fn leads(self) -> bool {
        (Self::Usage as u8..=Self::Duration as u8).contains(&(self as u8))
    }
}

/// The names whose strings are generated text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Texts(u32);

impl Texts {
    /// None.
    pub(super) const NONE: Self = Self::of(&[]);

    /// These.
    pub(super) const fn of(names: &[Name]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            bits |= 1 << names[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    #[inline]
    pub(super) fn has(self, name: Name) -> bool {
        self.0 >> name as u32 & 1 == 1
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
