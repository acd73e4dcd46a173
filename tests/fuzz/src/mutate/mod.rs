//! Mutations of messages: of bytes, of the structure of JSON, and of how JSON is written down.

mod bytes;
mod json;
mod write;

pub(crate) use bytes::mutate_bytes;
pub(crate) use json::mutate_json;
pub(crate) use write::{Style, write};

use serde_json::Value;

use crate::random::Random;

/// A mutation of `message`: of its JSON where it is some and the dice say so, else of its bytes. `others` are messages from which
/// parts are taken.
pub fn mutate(message: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if !random.once_in(3)
        && let Ok(mut value) = serde_json::from_slice::<Value>(message)
    {
        let donors: Vec<Value> =
            random.of(others).and_then(|other| serde_json::from_slice(other).ok()).into_iter().collect();
        for _ in 0..random.few(3) {
            mutate_json(&mut value, &donors, random);
        }
        let style = Style::any(random);
        return write(&value, style, random).into_bytes();
    }
    let mut bytes = message.to_vec();
    for _ in 0..random.few(6) {
        let other = random.of(others).cloned().unwrap_or_default();
        mutate_bytes(&mut bytes, &other, random);
    }
    bytes
}
