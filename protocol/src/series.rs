//! CSV files as series of samples, the same on a device and on the machine where a module is tried: one column a channel, one row a point
//! in time.
//!
//! Fields are separated by commas, semicolons, tabs or spaces. Empty lines and lines that start with `#` are skipped, and so is a
//! first line that is not of numbers.
//!
//! Failure modes: rows of different lengths, fields that are no finite numbers; the error names the line.

use thiserror::Error;

/// A file has at most this many columns.
const MOST_CHANNELS: usize = 256;

/// Why a CSV file is no series.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SeriesError {
    /// Not text.
    #[error("line {line} is not UTF-8")]
    Text {
        /// The line, from 1 on.
        line: usize,
    },
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
    #[error("{found} columns; at most {MOST_CHANNELS} are read")]
    Channels {
        /// The columns of the first row.
        found: usize,
    },
}

/// Samples of all channels, interleaved, as little-endian f32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The bytes of the samples.
    pub bytes: Vec<u8>,
    /// Columns.
    pub channels: usize,
}

impl Series {
    /// Points in time.
    pub fn rows(&self) -> usize {
        self.bytes.len() / size_of::<f32>() / self.channels.max(1)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.channels = 0;
    }
}

/// Reads a CSV file.
///
/// # Errors
/// As [`SeriesError`] says, with the line.
pub fn parse(file: &[u8]) -> Result<Series, SeriesError> {
    let mut series = Series::default();
    parse_into(file, &mut series)?;
    Ok(series)
}

/// Reads a CSV file in place of what `series` held, whose memory is used again.
///
/// # Errors
/// As [`SeriesError`] says, with the line.
pub fn parse_into(file: &[u8], series: &mut Series) -> Result<(), SeriesError> {
    series.clear();
    let mut first = true;
    for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let line = std::str::from_utf8(line).map_err(|_| SeriesError::Text { line: number })?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match row(line, number, series) {
            // A line of titles.
            Err(SeriesError::Number { .. }) if first => series.clear(),
            other => other?,
        }
        first = false;
    }
    Ok(())
}

/// The columns of the first row of numbers; 0 where there is none.
pub fn channels(head: &[u8]) -> usize {
    // The last line may be cut.
    let whole = head.iter().rposition(|byte| *byte == b'\n').and_then(|end| head.get(..end)).unwrap_or(head);
    parse(whole).map_or(0, |series| series.channels)
}

fn row(line: &str, number: usize, series: &mut Series) -> Result<(), SeriesError> {
    let mut found = 0;
    for field in fields(line) {
        found += 1;
        let value: f32 = field
            .parse()
            .ok()
            .filter(|value: &f32| value.is_finite())
            .ok_or(SeriesError::Number { line: number, column: found })?;
        series.bytes.extend_from_slice(&value.to_le_bytes());
    }
    if series.channels == 0 {
        if found > MOST_CHANNELS {
            return Err(SeriesError::Channels { found });
        }
        series.channels = found;
    }
    if found == series.channels {
        Ok(())
    } else {
        Err(SeriesError::Columns { line: number, found, expected: series.channels })
    }
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    let mark = [',', ';', '\t'].into_iter().find(|mark| line.contains(*mark)).unwrap_or(' ');
    line.split(mark).map(str::trim).filter(move |field| mark != ' ' || !field.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn values(series: &Series) -> Vec<f32> {
        series.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    #[test]
    fn reads_rows_with_or_without_titles() {
        for text in ["1,2\n3,4\n", "x,y\n1, 2\r\n3 ,4", "# made by hand\n\n1;2\n3;4\n", "1\t2\n3\t4", "1  2\n 3 4 "] {
            let series = parse(text.as_bytes()).unwrap();
            assert_eq!((series.channels, series.rows()), (2, 2), "{text:?}");
            assert_eq!(values(&series), [1.0, 2.0, 3.0, 4.0], "{text:?}");
        }
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let error = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(error("1,2\n3,x"), SeriesError::Number { line: 2, column: 2 });
        assert_eq!(error("a,b\n1,\n"), SeriesError::Number { line: 2, column: 2 });
        assert_eq!(error("1,2\n3"), SeriesError::Columns { line: 2, found: 1, expected: 2 });
        assert_eq!(error("1\nnan"), SeriesError::Number { line: 2, column: 1 });
        assert_eq!(error("1\n1e39"), SeriesError::Number { line: 2, column: 1 });
        assert_eq!(parse(b"1\n\xff"), Err(SeriesError::Text { line: 2 }));
        assert_eq!(error(&format!("1{}", ",1".repeat(299))), SeriesError::Channels { found: 300 });
        assert_eq!(error("titles\nonly\n"), SeriesError::Number { line: 2, column: 1 });
        assert_eq!(parse(b"").map(|series| series.rows()), Ok(0));
    }

    #[test]
    fn counts_channels_from_the_head_of_a_file() {
        assert_eq!(channels(b"a,b,c\n1,2,3\n4,5,"), 3);
        assert_eq!(channels(b"no numbers"), 0);
    }
}
