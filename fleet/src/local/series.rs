//! CSV files as series of samples: one column a channel, one row a point in time.
//!
//! The rules are those of the agent's replay sensor: fields are separated by commas, semicolons, tabs or spaces; empty
//! lines and lines that start with `#` are skipped, and so is a first line that is not of numbers.

use thiserror::Error;

/// A file has at most this many columns.
const MOST_CHANNELS: usize = 256;

/// Why a CSV file is no series.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum SeriesError {
    /// A field is no number.
    #[error("line {line}, column {column} is not a finite number")]
    Number {
        /// The line, from 1 on.
        line: usize,
        /// The column, from 1 on.
        column: usize,
    },
    /// Rows differ in length.
    #[error("line {line} has {found} columns, the ones before it have {expected}")]
    Columns {
        /// The line, from 1 on.
        line: usize,
        /// Its columns.
        found: usize,
        /// Those of the first row.
        expected: usize,
    },
    /// Too many columns.
    #[error("it has {found} columns; at most {MOST_CHANNELS} are read")]
    Channels {
        /// The columns of the first row.
        found: usize,
    },
    /// Too few rows for one frame.
    #[error("its {rows} rows do not fill one window of {window}; lower --csv-window")]
    Short {
        /// The rows found.
        rows: usize,
        /// Those needed.
        window: usize,
    },
}

/// Samples of all channels, interleaved, as little-endian f32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Series {
    /// The bytes of the samples.
    pub(crate) bytes: Vec<u8>,
    /// Columns.
    pub(crate) channels: usize,
}

/// Reads a text that is to be cut into windows of `window` rows, at least one of them.
///
/// # Errors
/// As [`SeriesError`] says, with the line.
pub(crate) fn parse(text: &str, window: usize) -> Result<Series, SeriesError> {
    let mut series = Series::default();
    let mut first = true;
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match row(line, number, &mut series) {
            // A line of titles.
            Err(SeriesError::Number { .. }) if first => series = Series::default(),
            other => other?,
        }
        first = false;
    }
    let rows = series.bytes.len() / 4 / series.channels.max(1);
    if rows < window.max(1) { Err(SeriesError::Short { rows, window }) } else { Ok(series) }
}

fn row(line: &str, number: usize, series: &mut Series) -> Result<(), SeriesError> {
    let mut found = 0;
    for field in fields(line) {
        found += 1;
        let value = field.parse().ok().filter(|value: &f32| value.is_finite());
        let value = value.ok_or(SeriesError::Number { line: number, column: found })?;
        series.bytes.extend_from_slice(&value.to_le_bytes());
    }
    if series.channels == 0 {
        if found > MOST_CHANNELS {
            return Err(SeriesError::Channels { found });
        }
        series.channels = found;
    }
    if found != series.channels {
        return Err(SeriesError::Columns { line: number, found, expected: series.channels });
    }
    Ok(())
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    let mark = [',', ';', '\t'].into_iter().find(|mark| line.contains(*mark)).unwrap_or(' ');
    line.split(mark).map(str::trim).filter(move |field| mark != ' ' || !field.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_rows_with_or_without_titles() {
        let wanted: Vec<u8> = [1f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
        for text in ["1,2\n3,4\n", "x,y\n1, 2\r\n3 ,4", "# made by hand\n\n1;2\n3;4\n", "1\t2\n3\t4", "1  2\n 3 4 "] {
            assert_eq!(parse(text, 2), Ok(Series { bytes: wanted.clone(), channels: 2 }), "{text:?}");
        }
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let error = |text: &str| parse(text, 1).unwrap_err();
        assert_eq!(error("1,2\n3,x"), SeriesError::Number { line: 2, column: 2 });
        assert_eq!(error("a,b\n1,\n"), SeriesError::Number { line: 2, column: 2 });
        assert_eq!(error("1,2\n3"), SeriesError::Columns { line: 2, found: 1, expected: 2 });
        assert_eq!(error("1\nnan"), SeriesError::Number { line: 2, column: 1 });
        assert_eq!(error(&format!("1{}", ",1".repeat(299))), SeriesError::Channels { found: 300 });
        assert_eq!(parse("1\n2", 3), Err(SeriesError::Short { rows: 2, window: 3 }));
        assert_eq!(error(""), SeriesError::Short { rows: 0, window: 1 });
    }
}
