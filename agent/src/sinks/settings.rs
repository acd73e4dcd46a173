//! What a sink is made from. [`crate::settings`] reads and checks it.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::Value;

/// A file of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// The file; those that were rotated lie beside it, as `{path}.1` (the newest), `{path}.2` and so on.
    pub path: PathBuf,
    /// A file is at most this long, in bytes.
    pub max_bytes: u64,
    /// How many rotated files are kept.
    pub keep: u32,
    /// When it is put on disk.
    pub sync: FileSync,
}

/// When a file is put on disk, so that a power cut does not take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSync {
    /// When the system sees fit, most often within half a minute: costs the least of flash.
    #[default]
    Never,
    /// At the latest a second after a record was written.
    Interval,
}

/// A Unix socket that local programs read records from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// The socket that is made, with mode 0660.
    pub path: PathBuf,
    /// More readers than these are turned away.
    pub max_clients: usize,
    /// What they are given.
    pub format: SocketFormat,
}

/// What the readers of a socket are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketFormat {
    /// The lines of a sink of kind `file`.
    #[default]
    Lines,
    /// Records with their length before them, payloads as they are.
    Frames,
}

/// A line that is pulsed.
#[derive(Clone, Debug, PartialEq)]
pub struct GpioSettings {
    /// Which line.
    pub at: LineAt,
    /// Whether active is a low level.
    pub active_low: bool,
    /// How long a pulse is.
    pub pulse: Duration,
    /// How long after the capture of its frame a record's pulse begins; after the record itself where the frame is not known.
    pub delay: Duration,
    /// The line rests at least this long between two pulses.
    pub min_gap: Duration,
    /// Which records are given a pulse; `None`: all.
    pub when: Option<Condition>,
}

/// A line of a GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineAt {
    /// By number.
    Number {
        /// The chip's device file.
        chip: PathBuf,
        /// The line's offset on it.
        line: u32,
    },
    /// By the name that the device tree gives it.
    Name {
        /// The chip to look on; `None`: all.
        chip: Option<PathBuf>,
        /// The line's name.
        name: String,
    },
}

impl fmt::Display for LineAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { chip, line } => write!(f, "line {line} of {}", chip.display()),
            Self::Name { chip: Some(chip), name } => write!(f, "line {name:?} of {}", chip.display()),
            Self::Name { chip: None, name } => write!(f, "line {name:?}"),
        }
    }
}

/// A test of a value in records of JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Where the value is: a JSON pointer.
    pub pointer: String,
    /// What it must be.
    pub test: Test,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// This text, number or boolean.
    Is(Value),
    /// A number between these, themselves excluded.
    Between {
        /// Above this.
        above: f64,
        /// Below this.
        below: f64,
    },
}

impl Condition {
    /// Whether a record fits; `None` where it is no JSON.
    pub fn fits(&self, payload: &[u8]) -> Option<bool> {
        let record: Value = serde_json::from_slice(payload).ok()?;
        let Some(value) = record.pointer(&self.pointer) else { return Some(false) };
        Some(match &self.test {
            // 1 and 1.0 are one number.
            Test::Is(wanted) => value == wanted || value.as_f64().is_some_and(|value| Some(value) == wanted.as_f64()),
            Test::Between { above, below } => value.as_f64().is_some_and(|value| value > *above && value < *below),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn is(pointer: &str, value: impl Into<Value>) -> Condition {
        Condition { pointer: pointer.into(), test: Test::Is(value.into()) }
    }

    #[test]
    fn a_record_fits_by_what_is_at_its_pointer() {
        let record = br#"{"label":"defect","score":0.9,"boxes":[{"ok":true}],"n":3}"#;
        for condition in [is("/label", "defect"), is("/boxes/0/ok", true), is("/n", 3.0)] {
            assert_eq!(condition.fits(record), Some(true), "{condition:?}");
        }
        for condition in [is("/label", "good"), is("/labels", "defect"), is("/n", 4.0), is("/score", "0.9")] {
            assert_eq!(condition.fits(record), Some(false), "{condition:?}");
        }
        let between =
            |above, below| Condition { pointer: "/score".into(), test: Test::Between { above, below } }.fits(record);
        assert_eq!(between(0.5, f64::INFINITY), Some(true));
        assert_eq!(between(0.9, f64::INFINITY), Some(false));
        assert_eq!(between(f64::NEG_INFINITY, 0.5), Some(false));
        assert_eq!(is("", "x").fits(b"\"x\""), Some(true));
        assert_eq!(is("/label", "defect").fits(b"\xff\x00"), None);
    }
}
