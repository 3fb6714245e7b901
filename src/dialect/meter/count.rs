//! One number of a report, read from JSON as it stands there.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::dialect::meter::report::CEILING;

/// One number of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// 0 to [`CEILING`].
    pub(super) value: u64,
    /// It was not what a count looks like (a string, a fraction), or had to be clamped.
    pub(super) odd: bool,
    /// It had to be clamped, so it says nothing.
    pub(super) void: bool,
}

impl Count {
    /// The length in milliseconds of so many seconds, the whole of `json`. `None` for null, and for what is no JSON.
    pub(super) fn milliseconds(json: &[u8]) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_slice(json);
        let count = Scaled::MILLI.deserialize(&mut json).ok()?;
        json.end().ok()?;
        count
    }

    fn void(value: u64) -> Self {
        Self { value, odd: true, void: true }
    }

    fn of_whole(whole: u64, scale: u32) -> Self {
        let whole = whole.saturating_mul(u64::from(scale));
        if whole > CEILING { Self::void(CEILING) } else { Self { value: whole, odd: false, void: false } }
    }

    fn of_float(float: f64, scale: u32) -> Self {
        let float = float * f64::from(scale);
        if float < 0.0 || float.is_nan() {
            Self::void(0)
        } else if float > CEILING as f64 {
            Self::void(CEILING)
        } else {
            // In range by the two lines above, so the cast is exact.
            Self { value: float.ceil() as u64, odd: scale == 1 && float.fract() != 0.0, void: false }
        }
    }

    fn of_text(text: &str, scale: u32) -> Self {
        let number = text.trim().parse::<Number>().ok();
        let whole = number.as_ref().and_then(Number::as_u64).map(|whole| Self::of_whole(whole, scale));
        let float = || number.as_ref().and_then(Number::as_f64).map(|float| Self::of_float(float, scale));
        whole.or_else(float).map_or(Self::void(0), |count| Self { odd: true, ..count })
    }
}

/// Reads a value times a scale. `None` for null; whatever is no number in range is clamped and void.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaled(u32);

impl Scaled {
    /// As it is.
    pub(super) const ONE: Self = Self(1);
    /// In thousandths.
    pub(super) const MILLI: Self = Self(1_000);

    /// A whole number.
    #[inline]
    pub(super) fn whole(self, whole: u64) -> Count {
        Count::of_whole(whole, self.0)
    }
}

impl<'de> DeserializeSeed<'de> for Scaled {
    type Value = Option<Count>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scaled {
    type Value = Option<Count>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Self::Value, E> {
        Ok(Some(Count::void(0)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(Count::of_whole(value, self.0)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(u64::try_from(value).map_or(Count::void(0), |value| Count::of_whole(value, self.0))))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(Count::of_float(value, self.0)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(Count::of_text(value, self.0)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<Self::Value, A::Error> {
        Passed.visit_seq(values).map(|Passed| Some(Count::void(0)))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        Passed.visit_map(members).map(|Passed| Some(Count::void(0)))
    }
}

/// A value that says nothing, but must be JSON like all others: serde's own way to ignore one looks at neither UTF-8 nor ranges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Passed {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _value: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// The same of a tree.
    fn expected(value: &Value, scale: u32) -> Option<Count> {
        match value {
            Value::Null => None,
            Value::Number(number) => {
                let whole = number.as_u64().map(|whole| Count::of_whole(whole, scale));
                whole.or_else(|| number.as_f64().map(|float| Count::of_float(float, scale)))
            }
            Value::String(text) => Some(Count::of_text(text, scale)),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Some(Count::void(0)),
        }
    }

    #[test]
    fn numbers_are_taken_as_they_are_and_all_else_is_void() {
        let count = |json: &str| Scaled::ONE.deserialize(&mut serde_json::Deserializer::from_str(json)).unwrap();
        let sound = |value| Some(Count { value, odd: false, void: false });
        assert_eq!((count("7"), count("7.0"), count("7e0"), count("-0")), (sound(7), sound(7), sound(7), sound(0)));
        assert_eq!(count("7.2"), Some(Count { value: 8, odd: true, void: false }));
        assert_eq!(count("\" 7 \""), Some(Count { value: 7, odd: true, void: false }));
        assert_eq!(count("null"), None);
        for json in ["-1", "-1.5", "true", "\"\"", "\"seven\"", "[7]", "{\"a\":7}"] {
            assert_eq!(count(json), Some(Count::void(0)), "{json}");
        }
        for json in ["1099511627777", "18446744073709551615", "18446744073709551616", "1e300", "\"1e300\""] {
            assert_eq!(count(json), Some(Count::void(CEILING)), "{json}");
        }
        assert_eq!(Count::milliseconds(b" 1.5 "), sound(1_500));
        assert_eq!((Count::milliseconds(b"1.5x"), Count::milliseconds(b"null")), (None, None));
    }

    proptest! {
        #[test]
        fn it_is_what_a_tree_says(whole: u64, negative: i64, float: f64, text in "[ 0-9.eE+-]{0,8}", scale in prop::sample::select(vec![1, 1_000])) {
            let values = [Value::from(whole), Value::from(negative), Value::from(float), Value::from(text)];
            for value in values {
                let json = value.to_string();
                let read = Scaled(scale).deserialize(&mut serde_json::Deserializer::from_str(&json)).unwrap();
                prop_assert_eq!(read, expected(&value, scale), "{}", json);
            }
        }
    }
}
