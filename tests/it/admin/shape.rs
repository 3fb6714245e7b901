//! The shape of a JSON text: names, their order, and the types of what stands behind them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// What of a JSON text an answer must share with the vendor's own sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    Null,
    Bool,
    /// Without a fraction.
    Integer,
    Fraction,
    Text,
    /// Of its entries each shape once.
    List(Vec<Shape>),
    Object(Vec<(String, Shape)>),
}

impl Shape {
    pub fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Of the files that were copied from the vendors' pages.
    pub fn of_vendor(name: &str) -> Self {
        let path = format!("{}/tests/golden/vendor/{name}.json", env!("CARGO_MANIFEST_DIR"));
        Self::of(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Integer)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Integer)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Fraction)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut shapes = Vec::new();
        while let Some(shape) = entries.next_element()? {
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        Ok(Shape::List(shapes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        let mut shapes = Vec::new();
        while let Some(member) = members.next_entry()? {
            shapes.push(member);
        }
        Ok(Shape::Object(shapes))
    }
}

#[test]
fn names_order_and_types_make_the_shape() {
    let shape = Shape::of(r#"{"b":1,"a":[{"x":null},{"x":null}],"c":"t"}"#);
    assert_eq!(shape, Shape::of(r#"{"b":-7,"a":[{"x":null}],"c":""}"#));
    for other in [
        r#"{"a":[{"x":null}],"b":1,"c":"t"}"#,
        r#"{"b":1.5,"a":[{"x":null}],"c":"t"}"#,
        r#"{"b":1,"a":[{"x":0}],"c":"t"}"#,
        r#"{"b":1,"a":[],"c":"t"}"#,
        r#"{"b":1,"a":[{"x":null}]}"#,
    ] {
        assert_ne!(shape, Shape::of(other), "{other}");
    }
}
