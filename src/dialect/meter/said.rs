//! What a usage object says, whosever it is: the members that some dialect reads, found in one pass, and nothing of the others kept.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::dialect::meter::count::{Count, Passed, Scaled};
use crate::dialect::meter::plain;

/// The members that are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    PromptTokens,
    InputTokens,
    CompletionTokens,
    OutputTokens,
    TotalTokens,
    ReasoningTokens,
    CachedTokens,
    CacheWriteTokens,
    CacheCreationTokens,
    PromptCacheHitTokens,
    CacheReadInputTokens,
    CacheCreationInputTokens,
    Seconds,
    PromptTokenCount,
    ToolUsePromptTokenCount,
    CandidatesTokenCount,
    ThoughtsTokenCount,
    CachedContentTokenCount,
    TotalTokenCount,
}

const NUMBERS: usize = 19;

/// Those of them that are read inside a part: the first so many as they stand in [`Number`].
pub(super) const INNER: usize = 9;

/// The members that are objects with numbers of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    PromptTokensDetails,
    InputTokensDetails,
    InputTokenDetails,
    CompletionTokensDetails,
    OutputTokensDetails,
    OutputTokenDetails,
    Tokens,
    BilledUnits,
}

const PARTS: usize = 8;

/// A member by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Number(Number),
    Part(Part),
    Other,
}

impl Member {
    pub(super) fn of(name: &[u8]) -> Self {
        Self::Number(match name {
            b"prompt_tokens" => Number::PromptTokens,
            b"input_tokens" => Number::InputTokens,
            b"completion_tokens" => Number::CompletionTokens,
            b"output_tokens" => Number::OutputTokens,
            b"total_tokens" => Number::TotalTokens,
            b"reasoning_tokens" => Number::ReasoningTokens,
            b"cached_tokens" => Number::CachedTokens,
            b"cache_write_tokens" => Number::CacheWriteTokens,
            b"cache_creation_tokens" => Number::CacheCreationTokens,
            b"prompt_cache_hit_tokens" => Number::PromptCacheHitTokens,
            b"cache_read_input_tokens" => Number::CacheReadInputTokens,
            b"cache_creation_input_tokens" => Number::CacheCreationInputTokens,
            b"seconds" => Number::Seconds,
            b"promptTokenCount" => Number::PromptTokenCount,
            b"toolUsePromptTokenCount" => Number::ToolUsePromptTokenCount,
            b"candidatesTokenCount" => Number::CandidatesTokenCount,
            b"thoughtsTokenCount" => Number::ThoughtsTokenCount,
            b"cachedContentTokenCount" => Number::CachedContentTokenCount,
            b"totalTokenCount" => Number::TotalTokenCount,
            _ => return Self::part(name),
        })
    }

    fn part(name: &[u8]) -> Self {
        Self::Part(match name {
            b"prompt_tokens_details" => Part::PromptTokensDetails,
            b"input_tokens_details" => Part::InputTokensDetails,
            b"input_token_details" => Part::InputTokenDetails,
            b"completion_tokens_details" => Part::CompletionTokensDetails,
            b"output_tokens_details" => Part::OutputTokensDetails,
            b"output_token_details" => Part::OutputTokenDetails,
            b"tokens" => Part::Tokens,
            b"billed_units" => Part::BilledUnits,
            _ => return Self::Other,
        })
    }
}

/// A member's name, read without keeping it.
struct Named(Member);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl Visitor<'_> for Names {
            type Value = Named;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Named, E> {
                Ok(Named(Member::of(name.as_bytes())))
            }
        }

        deserializer.deserialize_str(Names)
    }
}

/// What a part says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Inside {
    /// It is not there, or null.
    #[default]
    Absent,
    /// It is no object.
    Other,
    /// Its numbers.
    Numbers([Option<Count>; INNER]),
}

impl Inside {
    /// The first of these that is there and not null.
    pub(super) fn first(&self, numbers: &[Number]) -> Option<Count> {
        let Self::Numbers(counts) = self else { return None };
        numbers.iter().find_map(|number| counts.get(*number as usize).copied().flatten())
    }
}

/// What it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) counts: [Option<Count>; NUMBERS],
    pub(super) parts: [Inside; PARTS],
}

impl Said {
    /// Reads the object into its place, which is said nothing of yet; `None` when `json` is not one.
    pub(super) fn read(&mut self, json: &[u8]) -> Option<()> {
        plain::read(json, self).or_else(|| {
            *self = Self::default();
            self.read_any(json)
        })
    }

    /// Reads the object that `json` begins with, and says how long it is, when it is written plainly and no value in it is a string.
    pub(super) fn read_first(&mut self, json: &[u8]) -> Option<usize> {
        plain::read_first(json, self)
    }

    /// Reads it, however it is written.
    #[inline(never)]
    fn read_any(&mut self, json: &[u8]) -> Option<()> {
        let mut json = serde_json::Deserializer::from_slice(json);
        Members(self).deserialize(&mut json).ok()?;
        json.end().ok()
    }

    /// The first of these that is there and not null.
    pub(super) fn first(&self, numbers: &[Number]) -> Option<Count> {
        numbers.iter().find_map(|number| self.counts.get(*number as usize).copied().flatten())
    }

    /// A part.
    pub(super) fn part(&self, part: Part) -> &Inside {
        self.parts.get(part as usize).unwrap_or(&Inside::Absent)
    }

    /// The first of these that is there and not null.
    pub(super) fn first_part(&self, parts: &[Part]) -> &Inside {
        let mut all = parts.iter().map(|part| self.part(*part));
        all.find(|inside| !matches!(inside, Inside::Absent)).unwrap_or(&Inside::Absent)
    }
}

/// Reads an object into its place: it is too large to be handed on.
struct Members<'a>(&'a mut Said);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Said { counts, parts } = self.0;
        // Of two members of a name the later one counts.
        while let Some(Named(member)) = members.next_key()? {
            match member {
                Member::Number(number) => {
                    let scale = if number == Number::Seconds { Scaled::MILLI } else { Scaled::ONE };
                    counts[number as usize] = members.next_value_seed(scale)?;
                }
                Member::Part(part) => members.next_value_seed(AnyPart(&mut parts[part as usize]))?,
                Member::Other => _ = members.next_value::<Passed>()?,
            }
        }
        Ok(())
    }
}

/// Reads whatever a part is into its place.
struct AnyPart<'a>(&'a mut Inside);

impl<'de> DeserializeSeed<'de> for AnyPart<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyPart<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        *self.0 = Inside::Absent;
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        *self.0 = Inside::Other;
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        *self.0 = Inside::Other;
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        *self.0 = Inside::Other;
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        *self.0 = Inside::Other;
        Ok(())
    }

    fn visit_str<E>(self, _value: &str) -> Result<(), E> {
        *self.0 = Inside::Other;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<(), A::Error> {
        *self.0 = Inside::Other;
        Passed.visit_seq(values).map(drop)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut counts = [None; INNER];
        while let Some(Named(member)) = members.next_key()? {
            let slot = match member {
                Member::Number(number) => counts.get_mut(number as usize),
                Member::Part(_) | Member::Other => None,
            };
            match slot {
                Some(slot) => *slot = members.next_value_seed(Scaled::ONE)?,
                None => _ = members.next_value::<Passed>()?,
            }
        }
        *self.0 = Inside::Numbers(counts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    const NAMES: [(&str, Number); NUMBERS] = [
        ("prompt_tokens", Number::PromptTokens),
        ("input_tokens", Number::InputTokens),
        ("completion_tokens", Number::CompletionTokens),
        ("output_tokens", Number::OutputTokens),
        ("total_tokens", Number::TotalTokens),
        ("reasoning_tokens", Number::ReasoningTokens),
        ("cached_tokens", Number::CachedTokens),
        ("cache_write_tokens", Number::CacheWriteTokens),
        ("cache_creation_tokens", Number::CacheCreationTokens),
        ("prompt_cache_hit_tokens", Number::PromptCacheHitTokens),
        ("cache_read_input_tokens", Number::CacheReadInputTokens),
        ("cache_creation_input_tokens", Number::CacheCreationInputTokens),
        ("seconds", Number::Seconds),
        ("promptTokenCount", Number::PromptTokenCount),
        ("toolUsePromptTokenCount", Number::ToolUsePromptTokenCount),
        ("candidatesTokenCount", Number::CandidatesTokenCount),
        ("thoughtsTokenCount", Number::ThoughtsTokenCount),
        ("cachedContentTokenCount", Number::CachedContentTokenCount),
        ("totalTokenCount", Number::TotalTokenCount),
    ];

    const PART_NAMES: [(&str, Part); PARTS] = [
        ("prompt_tokens_details", Part::PromptTokensDetails),
        ("input_tokens_details", Part::InputTokensDetails),
        ("input_token_details", Part::InputTokenDetails),
        ("completion_tokens_details", Part::CompletionTokensDetails),
        ("output_tokens_details", Part::OutputTokensDetails),
        ("output_token_details", Part::OutputTokenDetails),
        ("tokens", Part::Tokens),
        ("billed_units", Part::BilledUnits),
    ];

    /// What a tree of the same JSON says.
    fn expected(json: &[u8]) -> Option<Said> {
        let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(json) else { return None };
        let count = |map: &Map<String, Value>, name: &str, number: Number| {
            let value = serde_json::to_vec(map.get(name)?).unwrap();
            let scale = if number == Number::Seconds { Scaled::MILLI } else { Scaled::ONE };
            scale.deserialize(&mut serde_json::Deserializer::from_slice(&value)).unwrap()
        };
        let mut said = Said::default();
        for (name, number) in NAMES {
            said.counts[number as usize] = count(&map, name, number);
        }
        for (name, part) in PART_NAMES {
            said.parts[part as usize] = match map.get(name) {
                None | Some(Value::Null) => Inside::Absent,
                Some(Value::Object(inner)) => {
                    let inner = |at: usize| count(inner, NAMES[at].0, NAMES[at].1);
                    Inside::Numbers(std::array::from_fn(inner))
                }
                Some(_) => Inside::Other,
            };
        }
        Some(said)
    }

    fn read(json: &[u8]) -> Option<Said> {
        let mut said = Said::default();
        said.read(json).map(|()| said)
    }

    fn name() -> impl Strategy<Value = String> {
        let numbers = prop::sample::select(NAMES.map(|(name, _)| name).to_vec());
        let parts = prop::sample::select(PART_NAMES.map(|(name, _)| name).to_vec());
        prop_oneof![
            4 => numbers.prop_map(|name| format!("\"{name}\"")),
            3 => parts.prop_map(|name| format!("\"{name}\"")),
            1 => Just("\"prompt\\u005ftokens\"".to_owned()),
            1 => Just("\"other\"".to_owned()),
            1 => Just("\"\\ud800\"".to_owned()),
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        let whole = prop_oneof![0_u64..3_000, any::<u64>()].prop_map(|whole| whole.to_string());
        let odd = prop::sample::select(vec![
            "null",
            "true",
            "-1",
            "-0",
            "1.5",
            "1e3",
            "1e400",
            "01",
            "\"12\"",
            "\" 7 \"",
            "\"x\"",
            "\"\\ud83d\"",
            "[]",
            "[1,{\"a\":2}]",
            "{}",
            "nul",
            "",
            "\"\t\"",
            "18446744073709551616",
        ]);
        let leaf = prop_oneof![6 => whole, 2 => odd.prop_map(str::to_owned)];
        leaf.prop_recursive(3, 24, 5, |inner| prop::collection::vec((name(), inner), 0..5).prop_map(object))
    }

    fn object(members: Vec<(String, String)>) -> String {
        let members = members.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
        format!("{{{}}}", members.join(","))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn it_is_what_a_tree_of_it_says(members in prop::collection::vec((name(), value()), 0..9), junk in any::<(bool, prop::sample::Index, u8)>()) {
            let mut json = object(members).into_bytes();
            if junk.0 {
                let at = junk.1.index(json.len());
                json[at] = junk.2;
            }
            let expected = expected(&json);
            prop_assert_eq!(read(&json), expected.clone());
            // What is read the short way is the same.
            let mut said = Said::default();
            if plain::read(&json, &mut said).is_some() {
                prop_assert_eq!(Some(said), expected);
            }
        }
    }

    #[test]
    fn what_backends_write_is_read_the_short_way() {
        for json in [
            r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":null}"#,
            "{\n  \"promptTokenCount\": 10, \"promptTokensDetails\": [ {\"modality\": \"TEXT\", \"tokenCount\": 10} ]\n}",
            r#"{"input_tokens":3,"cache_creation":{"ephemeral_5m_input_tokens":0},"service_tier":"standard","x":[true,false,null,[]]}"#,
            "{}",
        ] {
            let mut said = Said::default();
            assert_eq!(plain::read(json.as_bytes(), &mut said), Some(()), "{json}");
            assert_eq!(Some(said), expected(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn every_name_is_known_and_only_an_object_says_anything() {
        for (name, number) in NAMES {
            assert_eq!(Member::of(name.as_bytes()), Member::Number(number));
        }
        for (name, part) in PART_NAMES {
            assert_eq!(Member::of(name.as_bytes()), Member::Part(part));
        }
        assert_eq!(Member::of(b"Prompt_tokens"), Member::Other);
        for json in ["[]", "1", "null", "{} x", "{\"a\":", "{\"a\":\"\u{1}\"}", ""] {
            assert_eq!(read(json.as_bytes()), None, "{json}");
        }
        assert_eq!(read(b"{\"a\":\"\xff\"}"), None, "also what says nothing has to be JSON");
        let deep = [b"{\"a\":".as_slice(), &[b'['; 200], &[b']'; 200], b"}"].concat();
        assert_eq!(read(&deep), None);
    }
}
