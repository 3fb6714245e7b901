//! The smallest value that a JSON schema takes, for the arguments of a tool and for structured answers.

use serde_json::{Map, Number, Value};

/// How deep a schema is followed; beyond it values are null.
const DEPTH: u32 = 24;
/// How many values are made in all; beyond it they are null, so that a small schema cannot ask for a huge value.
const VALUES: u32 = 512;
/// The longest list and string made because a schema asks for it.
const LONGEST: u64 = 64;
/// The longest name or given value copied from a schema, in bytes.
const SHORT: usize = 256;

/// The smallest value of `schema`: required members only, first choice of everything. Understands JSON schema and the
/// OpenAPI subset with upper-case types that gemini takes.
pub(super) fn smallest(schema: &Value) -> Value {
    Maker { root: schema, left: VALUES }.value(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    left: u32,
}

impl<'a> Maker<'a> {
    fn value(&mut self, schema: &'a Value, depth: u32) -> Value {
        if depth > DEPTH || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        let known = schema.get("const").or_else(|| schema.get("default"));
        if let Some(known) = known.or_else(|| schema.get("enum")?.get(0)).filter(|known| is_short(known)) {
            return known.clone();
        }
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let target = path.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.value(target, depth + 1));
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(first) = schema.get(choice).and_then(|choices| choices.get(0)) {
                return self.value(first, depth + 1);
            }
        }
        if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
            return self.merged(all, depth);
        }
        self.typed(schema, depth)
    }

    fn merged(&mut self, all: &'a [Value], depth: u32) -> Value {
        let mut merged = Map::new();
        for part in all {
            match self.value(part, depth + 1) {
                Value::Object(members) => merged.extend(members),
                other => return other,
            }
        }
        Value::Object(merged)
    }

    fn typed(&mut self, schema: &'a Value, depth: u32) -> Value {
        match kind(schema).as_str() {
            "object" => self.object(schema, depth),
            "array" => {
                let length = bound(schema, "minItems");
                let items = schema.get("items").unwrap_or(&Value::Null);
                (0..length).map(|_| self.value(items, depth + 1)).collect()
            }
            "string" => Value::String(string(schema)),
            "integer" => number(schema, true),
            "number" => number(schema, false),
            "boolean" => Value::Bool(false),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &'a Value, depth: u32) -> Value {
        let mut members = Map::new();
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str).filter(|name| name.len() <= SHORT) {
            let member = schema.get("properties").and_then(|properties| properties.get(name));
            let value = self.value(member.unwrap_or(&Value::Null), depth + 1);
            members.insert(name.to_owned(), value);
        }
        Value::Object(members)
    }
}

/// Whether a value a schema gives may be copied however often the schema asks for it.
fn is_short(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= SHORT,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => true,
    }
}

fn kind(schema: &Value) -> String {
    let named = match schema.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    };
    match named {
        Some(name) => name.to_ascii_lowercase(),
        None if schema.get("properties").is_some() => "object".to_owned(),
        None => "null".to_owned(),
    }
}

/// A length a schema asks for; gemini writes it as a string.
fn bound(schema: &Value, member: &str) -> u64 {
    let value = schema.get(member);
    let length = value.and_then(Value::as_u64).or_else(|| value?.as_str()?.parse().ok());
    length.unwrap_or(0).min(LONGEST)
}

fn string(schema: &Value) -> String {
    let text = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("date") => "2025-01-01",
        Some("time") => "00:00:00Z",
        Some("email") => "a@example.com",
        Some("uri" | "url") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("ipv4") => "192.0.2.1",
        _ => "a",
    };
    let missing = bound(schema, "minLength").saturating_sub(text.len() as u64);
    let padding = usize::try_from(missing).unwrap_or_default();
    format!("{text}{}", "a".repeat(padding))
}

fn number(schema: &Value, integer: bool) -> Value {
    let at = |member: &str| schema.get(member).and_then(Value::as_f64);
    let step = at("multipleOf").filter(|step| *step > 0.0).unwrap_or(1.0);
    let low = match (at("minimum"), at("exclusiveMinimum")) {
        (_, Some(above)) => (above / step).floor() * step + step,
        (Some(low), None) => (low / step).ceil() * step,
        (None, None) => f64::NEG_INFINITY,
    };
    let high = match (at("maximum"), at("exclusiveMaximum")) {
        (_, Some(below)) => (below / step).ceil() * step - step,
        (Some(high), None) => high,
        (None, None) => f64::INFINITY,
    };
    // The bounds of a broken schema may be crossed; then the lower one holds.
    let chosen = 0_f64.min(high).max(low);
    let whole = chosen.ceil();
    if (integer || whole == chosen) && whole.abs() < 9e15 {
        return Value::from(whole as i64);
    }
    Number::from_f64(chosen).map_or(Value::from(0), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_smallest_value_has_what_is_required_and_no_more() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": { "type": "string" }, "unit": { "type": "string", "enum": ["celsius", "kelvin"] },
                "days": { "type": "integer", "minimum": 3 }, "when": { "$ref": "#/$defs/when" }, "note": { "type": "string" },
                "tags": { "type": "array", "minItems": 2, "items": { "type": ["null", "boolean"] } },
            },
            "required": ["city", "unit", "days", "when", "tags"],
            "$defs": { "when": { "anyOf": [{ "type": "string", "format": "date" }, { "type": "null" }] } },
        });
        let expected =
            json!({ "city": "a", "unit": "celsius", "days": 3, "when": "2025-01-01", "tags": [false, false] });
        assert_eq!(smallest(&schema), expected);
    }

    #[test]
    fn the_types_of_gemini_are_understood() {
        let schema = json!({ "type": "OBJECT", "properties": { "n": { "type": "NUMBER" } }, "required": ["n"] });
        assert_eq!(smallest(&schema), json!({ "n": 0 }));
    }

    #[test]
    fn numbers_stay_in_their_bounds() {
        for (schema, expected) in [
            (json!({ "type": "integer", "exclusiveMinimum": 4 }), json!(5)),
            (json!({ "type": "integer", "maximum": -2 }), json!(-2)),
            (json!({ "type": "integer", "minimum": -9, "maximum": -2 }), json!(-2)),
            (json!({ "type": "integer", "minimum": 5, "multipleOf": 4 }), json!(8)),
            (json!({ "type": "number", "minimum": 0.5, "multipleOf": 0.25 }), json!(0.5)),
        ] {
            assert_eq!(smallest(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn a_schema_cannot_ask_for_a_huge_value_or_an_endless_one() {
        let endless = json!({ "type": "object", "properties": { "a": { "$ref": "#" } }, "required": ["a"] });
        assert!(smallest(&endless).to_string().len() < 500);
        let mut wide = json!({ "type": "string", "minLength": 1_000_000 });
        for _ in 0..10 {
            wide = json!({ "type": "array", "minItems": 1_000_000, "items": wide });
        }
        assert!(smallest(&wide).to_string().len() < 300_000);
        let heavy =
            json!({ "type": "array", "minItems": 64, "items": { "type": "string", "default": "x".repeat(10_000) } });
        assert!(smallest(&heavy).to_string().len() < 1_000);
    }
}
