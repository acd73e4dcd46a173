//! Results for people or for scripts.

use serde_json::Value;

/// Prints lines, or JSON where that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Say {
    /// Whether results are printed as JSON.
    pub(crate) json: bool,
}

impl Say {
    /// One result: in words, or as a value on a line of its own.
    pub(crate) fn line(self, words: String, value: impl FnOnce() -> Value) {
        if self.json { println!("{}", value()) } else { println!("{words}") }
    }

    /// A result that is a value already.
    pub(crate) fn result(self, words: &[String], value: &impl serde::Serialize) -> serde_json::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(value)?);
        } else {
            words.iter().for_each(|line| println!("{line}"));
        }
        Ok(())
    }
}

/// The text with control characters as escapes: what guests and devices say stays one line, and steers no terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, character| {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
        plain
    })
}
