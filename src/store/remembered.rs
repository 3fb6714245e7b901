//! Answers that are given again when a call is made again with the same `Idempotency-Key`.

/// An answer to be remembered. It holds no secret: one that was made is made again from `seed` and the pepper.
#[derive(Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Whose call; two operators' keys are two keys.
    pub operator: Box<str>,
    /// The `Idempotency-Key`.
    pub key: Box<str>,
    /// The answer.
    pub answer: RememberedAnswer,
    /// When it was given, milliseconds since 1970: one that is over by then may be replaced.
    pub at_ms: i64,
    /// When it is forgotten.
    pub until_ms: i64,
}

/// What is given again.
#[derive(Clone, PartialEq, Eq)]
pub struct RememberedAnswer {
    /// A keyed digest of method, path and body: the same key with another call is a conflict.
    pub call: [u8; 32],
    /// The answer's body without its secret.
    pub body: String,
    /// What the secret was made from, when it was made and not chosen.
    pub seed: Option<[u8; 32]>,
    /// The answer's entity tag.
    pub etag: Box<str>,
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remembered").field("operator", &self.operator).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RememberedAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RememberedAnswer(..)")
    }
}
