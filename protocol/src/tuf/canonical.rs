//! Strict JSON in, canonical JSON out.
//!
//! Signatures are made over the OLPC canonical form of the `signed` value: keys sorted by code point, no white
//! space, integers only, and in strings nothing escaped but `"` and `\`. That is what python-tuf and securesystemslib sign.
//! Invariant: an object that names a field twice is never read, so that signature and reader see the same value.
//! Limit: integers of 64 bits; nesting of 128, by serde_json.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text was not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// This field stands twice in one object.
    Duplicate(String),
    /// The text is not JSON, says the parser.
    NotJson(String),
}

/// Reads one JSON value, refusing fields that stand twice.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, ParseError> {
    let duplicate = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(&duplicate).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|cause| match duplicate.into_inner() {
        Some(field) => ParseError::Duplicate(field),
        None => ParseError::NotJson(cause.to_string()),
    })
}

/// The canonical form, or `None` where a number is not a 64-bit integer.
pub(crate) fn encode(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Some(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_f64() => return None,
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => write_object(fields, out)?,
    }
    Some(())
}

fn write_object(fields: &Map<String, Value>, out: &mut Vec<u8>) -> Option<()> {
    // serde_json sorts only as long as nobody in the build turns on `preserve_order`.
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
    out.push(b'{');
    for (at, (name, value)) in sorted.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Some(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[derive(Clone, Copy)]
struct Strict<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if map.contains_key(&name) {
                self.0.replace(Some(name));
                return Err(A::Error::custom("a field stands twice"));
            }
            let value = fields.next_value_seed(self)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(encode(&parse(text.as_bytes()).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn writes_the_examples_of_securesystemslib() {
        assert_eq!(canonical(r#""""#), r#""""#);
        assert_eq!(canonical("[1, 2, 3]"), "[1,2,3]");
        assert_eq!(canonical("[ ]"), "[]");
        assert_eq!(canonical(r#"{"A": [99]}"#), r#"{"A":[99]}"#);
        assert_eq!(canonical(r#"{"y" : 2, "x" : 3}"#), r#"{"x":3,"y":2}"#);
        assert_eq!(
            canonical(r#"{"x" : 3, "y" : null, "a": [true, false, -7]}"#),
            r#"{"a":[true,false,-7],"x":3,"y":null}"#
        );
    }

    #[test]
    fn escapes_only_quote_and_backslash() {
        assert_eq!(canonical(r#""a\"b\\c\nd\u0001\u00e9""#), "\"a\\\"b\\\\c\nd\u{1}é\"");
    }

    #[test]
    fn sorts_by_code_point() {
        assert_eq!(canonical(r#"{"é":1,"z":2,"Z":3,"😀":4,"￿":5}"#), r#"{"Z":3,"z":2,"é":1,"￿":5,"😀":4}"#);
    }

    #[test]
    fn has_no_form_for_fractions() {
        assert_eq!(encode(&parse(b"[1.5]").unwrap()), None);
        assert_eq!(encode(&parse(b"1e2").unwrap()), None);
    }

    #[test]
    fn refuses_a_field_that_stands_twice_at_any_depth() {
        let text = br#"{"a":[{"b":1,"c":{},"b":1}]}"#;
        assert_eq!(parse(text), Err(ParseError::Duplicate("b".into())));
        assert_eq!(parse(br#"{"a":1,"\u0061":1}"#), Err(ParseError::Duplicate("a".into())));
    }

    #[test]
    fn refuses_what_follows_the_value_and_endless_nesting() {
        assert!(matches!(parse(b"{} {}"), Err(ParseError::NotJson(_))));
        assert!(matches!(parse("[".repeat(100_000).as_bytes()), Err(ParseError::NotJson(_))));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            if let Ok(value) = parse(&bytes) {
                encode(&value);
            }
        }
    }
}
