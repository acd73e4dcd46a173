//! JSON written down in more ways than one: white space, escapes, order, fields that stand twice.

use serde_json::Value;

use crate::random::Random;

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// With white space where the grammar has room for it.
    pub(crate) spaced: bool,
    /// With characters as `\u` escapes.
    pub(crate) escaped: bool,
    /// With fields in another order.
    pub(crate) shuffled: bool,
    /// With a field that stands twice, once with another value.
    pub(crate) doubled: bool,
}

impl Style {
    /// One of all styles; the plain one most often.
    pub(crate) fn any(random: &mut Random) -> Self {
        Self {
            spaced: random.once_in(4),
            escaped: random.once_in(8),
            shuffled: random.once_in(8),
            doubled: random.once_in(12),
        }
    }
}

/// `value` as text.
pub(crate) fn write(value: &Value, style: Style, random: &mut Random) -> String {
    let mut out = String::new();
    put(value, style, random, &mut out);
    out
}

fn put(value: &Value, style: Style, random: &mut Random, out: &mut String) {
    space(style, random, out);
    match value {
        Value::String(text) => put_text(text, style, random, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                put(item, style, random, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            if style.shuffled && !fields.is_empty() {
                let by = random.below(fields.len());
                fields.rotate_left(by);
            }
            let twice = (style.doubled && random.once_in(4)).then(|| random.below(fields.len()));
            out.push('{');
            for (at, (name, item)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                if twice == Some(at) {
                    put_field(name, &Value::Null, style, random, out);
                    out.push(',');
                }
                put_field(name, item, style, random, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
    space(style, random, out);
}

fn put_field(name: &str, value: &Value, style: Style, random: &mut Random, out: &mut String) {
    space(style, random, out);
    put_text(name, style, random, out);
    space(style, random, out);
    out.push(':');
    put(value, style, random, out);
}

fn put_text(text: &str, style: Style, random: &mut Random, out: &mut String) {
    if !style.escaped || random.once_in(2) {
        return out.push_str(&Value::from(text).to_string());
    }
    out.push('"');
    for unit in text.encode_utf16() {
        out.push_str(&format!("\\u{unit:04x}"));
    }
    out.push('"');
}

fn space(style: Style, random: &mut Random, out: &mut String) {
    if style.spaced && random.once_in(3) {
        out.push(*random.of(&[' ', '\n', '\t', '\r']).unwrap_or(&' '));
    }
}
