//! Mutations of a JSON value: of its structure, and of what its fields say.

use serde_json::{Number, Value};

use crate::random::Random;

/// Fields on which trust rests; half of all mutations are aimed at them.
const TRUSTED: &[&str] = &[
    "version",
    "length",
    "expires",
    "threshold",
    "hashes",
    "sha256",
    "sha512",
    "keyids",
    "keyid",
    "sig",
    "signatures",
    "keys",
    "keyval",
    "public",
    "keytype",
    "scheme",
    "roles",
    "name",
    "paths",
    "terminating",
    "meta",
    "targets",
    "delegations",
    "custom",
    "_type",
    "spec_version",
    "consistent_snapshot",
    "path_hash_prefixes",
    "succinct_roles",
    "bit_length",
    "name_prefix",
];

/// Changes `value` in one way. Parts of `donors` may be put in.
pub(crate) fn mutate_json(value: &mut Value, donors: &[Value], random: &mut Random) {
    let mut places = Vec::new();
    list(value, String::new(), &mut places);
    if !random.once_in(2) {
        let aimed = |place: &String| place.split('/').any(|part| TRUSTED.contains(&part));
        let chosen: Vec<String> = places.iter().filter(|place| aimed(place)).cloned().collect();
        if !chosen.is_empty() {
            places = chosen;
        }
    }
    let donated = random.of(donors).map(|donor| part_of(donor, random));
    let Some(place) = random.of(&places).and_then(|place| value.pointer_mut(place)) else { return };
    if random.once_in(12) {
        *place = donated.unwrap_or_else(|| any(random));
        return;
    }
    match place {
        Value::Null => *place = any(random),
        Value::Bool(truth) => *truth = !*truth,
        Value::Number(number) => *place = another_number(number, random),
        Value::String(text) => mutate_text(text, random),
        Value::Array(items) => mutate_array(items, donated, random),
        Value::Object(_) => mutate_object(place, donated, random),
    }
}

/// The places of all values in `value`, as JSON pointers.
fn list(value: &Value, place: String, places: &mut Vec<String>) {
    let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| list(item, format!("{place}/{at}"), places));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, item)| list(item, format!("{place}/{}", escape(name)), places));
        }
        _ => {}
    }
    places.push(place);
}

fn part_of(donor: &Value, random: &mut Random) -> Value {
    let mut places = Vec::new();
    list(donor, String::new(), &mut places);
    random.of(&places).and_then(|place| donor.pointer(place)).cloned().unwrap_or_default()
}

fn any(random: &mut Random) -> Value {
    match random.below(8) {
        0 => Value::Null,
        1 => true.into(),
        2 => 0.into(),
        3 => random.bits().into(),
        4 => "".into(),
        5 => "x".repeat(random.few(300)).into(),
        6 => Value::Array(Vec::new()),
        _ => Value::Object(serde_json::Map::new()),
    }
}

fn another_number(number: &Number, random: &mut Random) -> Value {
    let value = number.as_u64().unwrap_or(1);
    let fraction = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
    match random.below(12) {
        0 | 1 => value.saturating_add(1).into(),
        2..=4 => value.saturating_sub(1).into(),
        5 => (value / 2).into(),
        6 => 0.into(),
        7 => u64::MAX.into(),
        8 => (-1).into(),
        9 => i64::MIN.into(),
        // The same number for a reader that takes fractions.
        10 => fraction(u32::try_from(value).map_or(0.5, f64::from)),
        _ => number.to_string().into(),
    }
}

fn mutate_text(text: &mut String, random: &mut Random) {
    if text.ends_with('Z') && random.once_in(2) {
        let times = ["1969-12-31T23:59:59Z", "2030-03-17T17:46:40Z", "9999-12-31T23:59:59Z", "2096-02-30T00:00:00Z"];
        *text = random.of(&times).copied().unwrap_or_default().to_owned();
        return;
    }
    let mut characters: Vec<char> = text.chars().collect();
    let at = random.below(characters.len());
    match random.below(10) {
        0..=3 => {
            let replacement = random.of(b"0123456789abcdef").copied().unwrap_or(b'0');
            if let Some(character) = characters.get_mut(at) {
                *character = char::from(replacement);
            }
        }
        4 => characters.truncate(at),
        5 => {
            let odd = ['0', '\u{0}', '/', '*', '\u{430}', '\u{1f600}', '"', '\\'];
            characters.insert(at, random.of(&odd).copied().unwrap_or('0'));
        }
        6 => characters = text.to_uppercase().chars().collect(),
        7 => characters.extend("00".chars()),
        8 => characters.clear(),
        _ => characters.reverse(),
    }
    *text = characters.into_iter().collect();
}

fn mutate_array(items: &mut Vec<Value>, donated: Option<Value>, random: &mut Random) {
    let at = random.below(items.len());
    let other = random.below(items.len());
    match random.below(7) {
        0 if !items.is_empty() => drop(items.remove(at)),
        1 if !items.is_empty() => {
            let copy = items[at].clone();
            items.insert(other, copy);
        }
        2 if !items.is_empty() => items.swap(at, other),
        3 => items.clear(),
        4 => items.extend(donated),
        5 => items.reverse(),
        _ => items.push(any(random)),
    }
}

fn mutate_object(place: &mut Value, donated: Option<Value>, random: &mut Random) {
    let Value::Object(fields) = place else { return };
    let names: Vec<String> = fields.keys().cloned().collect();
    let (name, other) = (random.of(&names).cloned(), random.of(&names).cloned());
    match (random.below(8), name, other) {
        (0, Some(name), _) => drop(fields.remove(&name)),
        (1, Some(name), _) => {
            let value = fields.remove(&name).unwrap_or_default();
            fields.insert(format!("{name}_"), value);
        }
        // Two fields change places.
        (2 | 3, Some(name), Some(other)) => {
            let (one, two) = (fields.get(&name).cloned(), fields.get(&other).cloned());
            fields.extend([(name, two.unwrap_or_default()), (other, one.unwrap_or_default())]);
        }
        (4, Some(name), _) => drop(fields.insert(name, donated.unwrap_or_default())),
        (5, Some(name), _) => {
            let copy = fields.get(&name).cloned().unwrap_or_default();
            fields.insert(format!("x-{name}"), copy);
        }
        (6, ..) => *place = Value::Array(fields.values().cloned().collect()),
        _ => drop(fields.insert("unknown".into(), any(random))),
    }
}
