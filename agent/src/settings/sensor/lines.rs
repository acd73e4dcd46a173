//! What kinds that are read by lines have in common: `delimiter`, `max_line`, `format`, `rate_hz`.

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{Content, LineSettings};

/// The longest line unless the table says otherwise, in bytes.
const DEFAULT_LINE: usize = 4096;
const LONGEST_DELIMITER: usize = 16;

/// What ends a line.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Delimiter {
    Text(String),
    Bytes(Vec<u8>),
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LineFormat {
    #[default]
    Bytes,
    Json,
    Csv,
}

/// The keys as they stand in the table.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) delimiter: Option<Delimiter>,
    pub(super) max_line: Option<usize>,
    pub(super) format: Option<LineFormat>,
    pub(super) rate_hz: Option<f64>,
}

impl Keys {
    /// The first of them that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let keys = [
            (self.delimiter.is_some(), "delimiter"),
            (self.max_line.is_some(), "max_line"),
            (self.format.is_some(), "format"),
            (self.rate_hz.is_some(), "rate_hz"),
        ];
        keys.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    pub(super) fn check(self, table: &Table<'_>) -> Result<LineSettings, SettingsError> {
        let delimiter = match self.delimiter {
            None => b"\n".to_vec(),
            Some(Delimiter::Text(text)) => text.into_bytes(),
            Some(Delimiter::Bytes(bytes)) => bytes,
        };
        if !(1..=LONGEST_DELIMITER).contains(&delimiter.len()) {
            let allowed = format!("1 to {LONGEST_DELIMITER} bytes, as text or as a list of numbers");
            return Err(table.value("delimiter", format!("{} bytes long", delimiter.len()), allowed));
        }
        let max_line = self.max_line.unwrap_or(DEFAULT_LINE.min(table.max_frame_bytes));
        table.within("max_line", max_line, 1..=table.max_frame_bytes, " bytes (`limits.max_frame_bytes`)")?;
        let content = match self.format.unwrap_or_default() {
            LineFormat::Bytes => Content::Bytes,
            LineFormat::Json => Content::Json,
            LineFormat::Csv => Content::Csv { rate_hz: rate(self.rate_hz, table)? },
        };
        if self.rate_hz.is_some() && !matches!(content, Content::Csv { .. }) {
            return Err(table.value("rate_hz", "given", "only with `format = \"csv\"`"));
        }
        Ok(LineSettings { delimiter, max_line, content })
    }
}

/// Rows a second of a series; 0 where that is not known.
pub(super) fn rate(rate_hz: Option<f64>, table: &Table<'_>) -> Result<f64, SettingsError> {
    rate_hz.map_or(Ok(0.0), |rate| table.within("rate_hz", rate, 0.001..=4_000_000.0, " samples/s"))
}
