//! What the sandbox says: text or a tool's arguments, in the pieces that are its tokens.

use super::behaviour::{Behaviour, LONG};
use super::schema;
use super::wish::Wish;
use crate::units::Tokens;

/// The most choices of one request, as OpenAI has it.
pub(super) const CHOICES: u64 = 128;
/// The most characters of one piece.
const PIECE: usize = 16;

/// One answer, the same for every choice of a request.
#[derive(Debug)]
pub(super) struct Script {
    /// What is said, piece by piece; one piece is one token. For a tool, its arguments.
    pub(super) pieces: Vec<String>,
    /// The tool that is called; `None` for text.
    pub(super) tool: Option<String>,
    /// Whether it ended because no more tokens were allowed.
    pub(super) is_cut: bool,
    /// How often it is said.
    pub(super) choices: u64,
}

impl Script {
    /// The answer to a wish.
    pub(super) fn of(behaviour: Behaviour, wish: &Wish<'_>) -> Self {
        let choices = wish.choices.clamp(1, CHOICES);
        let tool = wish.tool.map(|tool| tool.name.to_owned());
        let mut pieces = match (behaviour, wish.tool, wish.schema) {
            (Behaviour::Empty, ..) => Vec::new(),
            // The choices share the words, so that no request makes more of them than one would.
            (Behaviour::Long, ..) => numbered(LONG / choices),
            (_, Some(tool), _) => pieces(&arguments(tool.schema)),
            (_, None, Some(schema)) => pieces(&schema::smallest(schema).to_string()),
            (_, None, None) => pieces(&sentence(wish)),
        };
        // Beyond what the longest answer says nothing is said, whatever schema and choices ask for.
        let most = wish.most.unwrap_or(u64::MAX).min(LONG / choices);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let is_cut = pieces.len() > most;
        pieces.truncate(most);
        let tool = tool.filter(|_| !matches!(behaviour, Behaviour::Empty | Behaviour::Long));
        Self { pieces, tool, is_cut, choices }
    }

    /// The pieces joined.
    pub(super) fn said(&self) -> String {
        self.pieces.concat()
    }

    /// Tokens of one choice.
    pub(super) fn tokens_of_one(&self) -> Tokens {
        self.pieces.len() as u64
    }

    /// Tokens of all choices.
    pub(super) fn tokens(&self) -> Tokens {
        self.tokens_of_one().saturating_mul(self.choices)
    }
}

fn arguments(parameters: &serde_json::Value) -> String {
    let arguments = schema::smallest(parameters);
    // A tool without parameters is called with an empty object.
    if arguments.is_object() { arguments.to_string() } else { "{}".to_owned() }
}

fn sentence(wish: &Wish<'_>) -> String {
    let who = if wish.from_tool { "The tool answered" } else { "You said" };
    let quote = wish.last.split_whitespace().collect::<Vec<_>>().join(" ");
    let quote = if quote.is_empty() { "nothing" } else { quote.as_str() };
    format!("{who}: {quote}\nThis is the Keyward sandbox, so no model was asked.")
}

fn numbered(words: u64) -> Vec<String> {
    (1..=words).map(|number| if number == 1 { "1".to_owned() } else { format!(" {number}") }).collect()
}

/// Text in its tokens: runs of at most 16 characters without white space, each with the white space before it.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut piece = String::new();
    let mut length = 0;
    for letter in text.chars() {
        if letter.is_whitespace() && length > 0 || length == PIECE {
            all.push(std::mem::take(&mut piece));
            length = 0;
        }
        piece.push(letter);
        length += usize::from(!letter.is_whitespace());
    }
    if !piece.is_empty() {
        all.push(piece);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_piece_is_a_word_with_the_space_before_it() {
        assert_eq!(pieces("one two\n three"), ["one", " two", "\n three"]);
        assert_eq!(pieces("0123456789abcdefgh"), ["0123456789abcdef", "gh"]);
        assert!(pieces("").is_empty());
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_text(text in ".{0,200}") {
            prop_assert_eq!(pieces(&text).concat(), text);
        }
    }
}
