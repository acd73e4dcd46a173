//! What an MQTT broker answers, in words.

use std::fmt::Debug;

/// A reason code as the client names it, for people: `NotAuthorized` as `not authorized`.
pub(crate) fn in_words(code: &impl Debug) -> String {
    let name = format!("{code:?}");
    let mut text = String::with_capacity(name.len() + 4);
    for (at, character) in name.chars().enumerate() {
        if character.is_ascii_uppercase() && at > 0 {
            text.push(' ');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}
