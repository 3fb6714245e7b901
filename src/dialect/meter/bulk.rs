//! What is too long to be looked through member by member, told apart by its letters: text, and sound or pictures in base64.

use crate::dialect::meter::generated::{in_media, is_dense};

/// The shortest run of letters that is taken for base64, in bytes.
const SHORTEST_RUN: u64 = 1024;

/// Bytes read so far, one piece after the other; how they were cut makes no difference.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    text: u64,
    media: u64,
    /// Letters, digits and signs of base64 in a row.
    run: u64,
    /// Capitals and digits among them.
    dense: u64,
}

impl Bulk {
    /// Reads on.
    pub(super) fn push(&mut self, piece: &[u8]) {
        for byte in piece {
            match byte {
                b'A'..=b'Z' | b'0'..=b'9' => (self.run, self.dense) = (self.run + 1, self.dense + 1),
                b'a'..=b'z' | b'+' | b'/' | b'=' => self.run += 1,
                _ => {
                    let (text, media) = self.in_run();
                    (self.text, self.media) = (self.text + text + 1, self.media + media);
                    (self.run, self.dense) = (0, 0);
                }
            }
        }
    }

    /// What it is worth as text, bytes. Of a run that goes on it is known only once it is long.
    pub(super) fn worth(&self) -> u64 {
        let (text, media) = if self.run < SHORTEST_RUN { (0, 0) } else { self.in_run() };
        self.text + text + in_media(self.media + media)
    }

    fn in_run(&self) -> (u64, u64) {
        let is_media = self.run >= SHORTEST_RUN && is_dense(self.dense, self.run);
        if is_media { (0, self.run) } else { (self.run, 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worth(text: &str) -> u64 {
        let mut bulk = Bulk::default();
        text.as_bytes().chunks(100).for_each(|piece| bulk.push(piece));
        bulk.push(b".");
        bulk.worth() - 1
    }

    #[test]
    fn sound_is_worth_little_and_text_what_it_is_long() {
        let base64 = "Q29u/Gh1bXA5+kEr".repeat(1_000);
        assert_eq!(worth(&base64), in_media(base64.len() as u64));
        assert_eq!(worth(&base64[..1_000]), 1_000);
        for text in ["words and words ", "wordsInCamelsCase", "words_and_words_2"].map(|text| text.repeat(1_000)) {
            assert_eq!(worth(&text), text.len() as u64, "{text:.20}");
        }
    }
}
