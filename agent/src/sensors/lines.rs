//! Lines of a stream as frames: what serial devices and commands give.
//!
//! A line is what ends with the delimiter; a carriage return before a delimiter that is a newline belongs to it. Empty lines are passed over,
//! and in CSV those that start with `#` and a first one that is not of numbers.
//!
//! Failure modes: a line that is too long, or not of its format, is refused and counted, and the next is taken. The beginning of a line
//! whose end does not come is refused at the end of the stream.
//!
//! Limits: what is held of a line is at most [`LineSettings::max_line`] bytes and what one read brings more.

use super::{
    Outlet,
    buffer::Buffer,
    content::{Content, ContentError, Giver},
};

/// How a stream is cut into frames.
#[derive(Clone, Debug, PartialEq)]
pub struct LineSettings {
    /// What ends a line; 1 to 16 bytes.
    pub delimiter: Vec<u8>,
    /// The longest line, in bytes, without its end.
    pub max_line: usize,
    /// What a line is: [`Content::Bytes`], [`Content::Json`] or [`Content::Csv`], whose row gives one sample of each channel.
    pub content: Content,
}

impl LineSettings {
    /// The largest content of a frame: a number takes two bytes of CSV at least, and four in a series.
    pub(super) fn largest_frame(&self) -> usize {
        match self.content {
            Content::Csv { .. } => self.max_line.saturating_mul(2).saturating_add(4),
            _ => self.max_line,
        }
    }
}

/// Where in the stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a line.
    Line,
    /// In what is passed over up to the next delimiter.
    Rest,
}

/// Cuts one stream.
pub(super) struct Lines {
    settings: LineSettings,
    giver: Giver,
    at: At,
    /// So many of the held bytes hold no delimiter, nor the beginning of one.
    searched: usize,
    /// No line was taken yet.
    first: bool,
}

impl Lines {
    /// For a stream that is read from its beginning.
    pub(super) fn from_the_beginning(settings: LineSettings) -> Self {
        let giver = Giver::new(settings.largest_frame());
        Self { settings, giver, at: At::Line, searched: 0, first: true }
    }

    /// For a stream that was there before: what comes before the first delimiter may be the end of a line, and is passed over.
    #[cfg(feature = "serial")]
    pub(super) fn in_the_midst(settings: LineSettings) -> Self {
        Self { at: At::Rest, ..Self::from_the_beginning(settings) }
    }

    /// Gives the lines that are whole in `buffer`.
    pub(super) fn give(&mut self, buffer: &mut Buffer, outlet: &Outlet) {
        let mark = self.settings.delimiter.len().max(1);
        loop {
            let held = buffer.held();
            let unseen = held.get(self.searched..).unwrap_or(&[]);
            match find(unseen, &self.settings.delimiter) {
                Some(at) => {
                    let length = self.searched + at;
                    if self.at == At::Line {
                        self.line(buffer, length, outlet);
                    }
                    self.at = At::Line;
                    buffer.pass(length + mark);
                    self.searched = 0;
                }
                None => {
                    // The delimiter may have begun.
                    self.searched = held.len().saturating_sub(mark - 1);
                    if self.at == At::Line && self.searched > self.settings.max_line {
                        self.at = At::Rest;
                        self.too_long(outlet);
                    }
                    if self.at == At::Rest {
                        buffer.pass(std::mem::take(&mut self.searched));
                    }
                    return;
                }
            }
        }
    }

    /// The stream has ended.
    pub(super) fn end(&mut self, buffer: &mut Buffer, outlet: &Outlet) {
        let left = buffer.held().len();
        if left > 0 && self.at == At::Line {
            outlet.refused(format!("a line that is torn: the stream ended after {left} bytes of it"));
        }
        buffer.pass(left);
        self.searched = 0;
    }

    fn line(&mut self, buffer: &Buffer, length: usize, outlet: &Outlet) {
        let mut line = buffer.held().get(..length).unwrap_or(&[]);
        if self.settings.delimiter == b"\n" {
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        let is_csv = matches!(self.settings.content, Content::Csv { .. });
        if line.is_empty() || is_csv && line.starts_with(b"#") {
            return;
        }
        let first = std::mem::take(&mut self.first);
        if line.len() > self.settings.max_line {
            return self.too_long(outlet);
        }
        match self.giver.give(self.settings.content, buffer, 0, line.len(), outlet) {
            Ok(()) => {}
            // Titles.
            Err(ContentError::NoRow) if first => {}
            Err(error) => outlet.refused(format!("a line was left out: {error}")),
        }
    }

    fn too_long(&self, outlet: &Outlet) {
        outlet.refused(format!(
            "a line was left out: it is longer than {} bytes, see `max_line`",
            self.settings.max_line
        ));
    }
}

fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    match delimiter {
        [] => None,
        [byte] => bytes.iter().position(|found| found == byte),
        _ => bytes.windows(delimiter.len()).position(|window| window == delimiter),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::{cell::RefCell, pin::Pin};

    use super::*;
    use crate::sensors::{
        Sensor,
        fake::{Bench, until},
    };

    pub(in crate::sensors) fn settings(content: Content, max_line: usize) -> LineSettings {
        LineSettings { delimiter: b"\n".to_vec(), max_line, content }
    }

    struct Pieces {
        lines: RefCell<Lines>,
        pieces: Vec<Vec<u8>>,
    }

    impl Sensor for Pieces {
        fn largest_frame(&self) -> usize {
            1000
        }

        fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(async move {
                let mut buffer = Buffer::default();
                let mut lines = self.lines.borrow_mut();
                for piece in &self.pieces {
                    buffer.room(outlet.pool()).unwrap()[..piece.len()].copy_from_slice(piece);
                    buffer.filled(piece.len());
                    lines.give(&mut buffer, &outlet);
                    let most = lines.settings.max_line + lines.settings.delimiter.len();
                    assert!(buffer.held().len() <= most, "no more is held than a line");
                }
                lines.end(&mut buffer, &outlet);
                assert!(buffer.held().is_empty());
                outlet.failed("done".into());
            })
        }
    }

    /// The lines given, and what was said of those refused.
    async fn cut(lines: Lines, text: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<String>) {
        let bench = Bench::default();
        let pieces = Pieces { lines: lines.into(), pieces: text.chunks(piece).map(<[u8]>::to_vec).collect() };
        let said = RefCell::default();
        bench
            .run(Box::new(pieces), async |bench| {
                until(|| bench.report().error.is_some_and(|error| error.contains("done"))).await;
                *said.borrow_mut() = bench.refused();
            })
            .await;
        let frames = bench.frames().into_iter().map(|(_, content)| content).collect();
        (frames, said.into_inner())
    }

    #[tokio::test]
    async fn lines_are_the_same_however_they_come_in() {
        for piece in 1..12 {
            let lines = Lines::from_the_beginning(settings(Content::Bytes, 10));
            let (frames, said) = cut(lines, b"one\r\n\ntwo\n0123456789\nthree\n", piece).await;
            assert_eq!(frames, [&b"one"[..], b"two", b"0123456789", b"three"], "{piece}");
            assert_eq!(said, None);
            let other = LineSettings { delimiter: b"\r\n;".to_vec(), ..settings(Content::Bytes, 10) };
            let (frames, _) = cut(Lines::from_the_beginning(other), b"a\r\nb\r\n;\n\r\r\n;c\r\n;", piece).await;
            assert_eq!(frames, [&b"a\r\nb"[..], b"\n\r", b"c"], "{piece}");
        }
    }

    #[tokio::test]
    async fn what_is_too_long_or_torn_is_refused_and_the_next_line_taken() {
        for piece in [1, 3, 10_000] {
            let lines = Lines::from_the_beginning(settings(Content::Bytes, 4));
            let text = format!("good\n{}\nfine\ntorn", "far too long a line ".repeat(100));
            let (frames, said) = cut(lines, text.as_bytes(), piece).await;
            assert_eq!(frames, [b"good", b"fine"], "{piece}");
            let said = said.unwrap();
            assert!(said.contains("torn") && said.contains("(2 refused"), "{said}");
        }
    }

    #[tokio::test]
    async fn each_line_is_held_to_its_format() {
        let json = Lines::from_the_beginning(settings(Content::Json, 100));
        let (frames, said) = cut(json, b"{\"a\":1}\n{\"a\":\n[2]\n", 5).await;
        assert_eq!(frames, [&b"{\"a\":1}"[..], b"[2]"]);
        assert!(said.unwrap().contains("not JSON"));
        let csv = Lines::from_the_beginning(settings(Content::Csv { rate_hz: 10.0 }, 100));
        let (frames, said) = cut(csv, b"x y\n# remark\n1 2\n3 4\n", 5).await;
        assert_eq!(frames, [[1f32, 2.0].map(f32::to_le_bytes).concat(), [3f32, 4.0].map(f32::to_le_bytes).concat()]);
        assert_eq!(said, None, "titles and remarks are no errors");
    }

    #[cfg(feature = "serial")]
    #[tokio::test]
    async fn the_end_of_a_line_whose_beginning_was_missed_is_no_frame() {
        for piece in [1, 4, 100] {
            let lines = Lines::in_the_midst(settings(Content::Bytes, 4));
            let (frames, said) = cut(lines, b"an end that is longer than a line\nwhole\nnew\n", piece).await;
            assert_eq!(frames, [b"new"]);
            assert!(said.unwrap().contains("longer than 4"), "{piece}");
        }
    }
}
