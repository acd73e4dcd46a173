//! What bytes that came from elsewhere are as a frame, by a format that the configuration gives or a media type that came with them.
//!
//! Invariants: no image is parsed; the length of a raw one alone is compared with its layout. JSON is only checked to be whole. What is given
//! shares the memory it was read to; samples of a series lie in a block of their own.
//!
//! Failure modes: [`ContentError`], for what is not of its format.
//!
//! Limits: JSON is nested at most 128 deep, a series has at most 256 channels.

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use sanderling_protocol::series::{self, Series, SeriesError};
use serde::de::IgnoredAny;
use thiserror::Error;

use super::{Outlet, RawImage, buffer::Buffer};

/// The format of a frame's content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// Whatever it is.
    Bytes,
    /// A JSON text.
    Json,
    /// An image, compressed.
    Jpeg,
    /// An image, compressed.
    Png,
    /// An image of this layout.
    Raw(RawImage),
    /// Rows of numbers: samples of a series, one column a channel.
    Csv {
        /// Rows a second, in hertz, as the frame's header says; 0 where that is not known.
        rate_hz: f64,
    },
}

/// Why bytes are no frame.
#[derive(Debug, Error)]
pub(super) enum ContentError {
    #[error("it is empty")]
    Empty,
    #[error("it is not JSON: {0}")]
    Json(serde_json::Error),
    #[error("it holds no row of numbers")]
    NoRow,
    #[error(transparent)]
    Series(#[from] SeriesError),
    #[error("it is {length} bytes long; images as `raw` describes them take {expected}")]
    Raw {
        /// Its length.
        length: usize,
        /// That of an image.
        expected: usize,
    },
    #[error("a series of {length} bytes; frames of this sensor are at most {most}")]
    Long {
        /// Of all samples.
        length: usize,
        /// What is allowed.
        most: usize,
    },
}

/// Gives content of any format; holds the memory that it is taken apart in.
pub(super) struct Giver {
    max_frame: usize,
    series: Series,
}

impl Giver {
    /// For frames of at most so many bytes.
    pub(super) fn new(max_frame: usize) -> Self {
        Self { max_frame, series: Series::default() }
    }

    /// Gives `length` of the bytes that `buffer` holds, from `start` on, as one frame.
    ///
    /// # Errors
    /// [`ContentError`]; nothing was given then.
    pub(super) fn give(
        &mut self,
        content: Content,
        buffer: &Buffer,
        start: usize,
        length: usize,
        outlet: &Outlet,
    ) -> Result<(), ContentError> {
        let bytes = buffer.held().get(start..start.saturating_add(length)).unwrap_or(&[]);
        if bytes.is_empty() {
            return Err(ContentError::Empty);
        }
        let header = match content {
            Content::Bytes => header(Kind::Bytes, Format::None),
            Content::Json => {
                serde_json::from_slice::<IgnoredAny>(bytes).map_err(ContentError::Json)?;
                header(Kind::Json, Format::None)
            }
            Content::Jpeg => header(Kind::Image, Format::Jpeg),
            Content::Png => header(Kind::Image, Format::Png),
            Content::Raw(raw) => {
                if bytes.len() != raw.length() {
                    return Err(ContentError::Raw { length: bytes.len(), expected: raw.length() });
                }
                let header = header(Kind::Image, raw.pixel.into());
                FrameHeader { width: raw.width, height: raw.height, stride: raw.stride(), ..header }
            }
            Content::Csv { rate_hz } => {
                series::parse_into(bytes, &mut self.series)?;
                return give_samples(&self.series, rate_hz, self.max_frame, outlet);
            }
        };
        buffer.give(outlet, header, start, length);
        Ok(())
    }
}

fn give_samples(series: &Series, rate_hz: f64, most: usize, outlet: &Outlet) -> Result<(), ContentError> {
    let (samples, length) = (series.rows(), series.bytes.len());
    if samples == 0 {
        return Err(ContentError::NoRow);
    }
    if length > most {
        return Err(ContentError::Long { length, most });
    }
    let header = series_header(series.channels, samples, rate_hz);
    outlet.write(header, length, |room| room.copy_from_slice(&series.bytes));
    Ok(())
}

/// The header of a series of f32: so many samples of each channel.
pub(super) fn series_header(channels: usize, samples: usize, rate_hz: f64) -> FrameHeader {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    FrameHeader {
        width: number(samples),
        height: 1,
        stride: number(samples.saturating_mul(channels).saturating_mul(size_of::<f32>())),
        channels: number(channels),
        // Within the range of a u32 after this.
        rate_mhz: (rate_hz * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32,
        ..header(Kind::Series, Format::F32)
    }
}

/// A header of this kind and format, and nothing else.
pub(super) fn header(kind: Kind, format: Format) -> FrameHeader {
    FrameHeader { kind, format, ..FrameHeader::new("", 0) }
}

/// The format that a media type stands for. `raw` is what the configuration says of images without one of their own.
pub(super) fn of_media_type(media_type: &str, raw: Option<RawImage>) -> Option<Content> {
    let name = media_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if is("image/jpeg") {
        Some(Content::Jpeg)
    } else if is("image/png") {
        Some(Content::Png)
    } else if is("application/json") {
        Some(Content::Json)
    } else if is("text/csv") {
        Some(Content::Csv { rate_hz: 0.0 })
    } else if is("application/octet-stream") {
        Some(raw.map_or(Content::Bytes, Content::Raw))
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::sensors::{PixelFormat, Sensor, fake::Bench};

    /// Gives each of these once and keeps what came of it.
    struct Once {
        contents: Vec<(Content, Vec<u8>)>,
        results: std::rc::Rc<RefCell<Vec<String>>>,
    }

    impl Sensor for Once {
        fn largest_frame(&self) -> usize {
            100
        }

        fn run(self: Box<Self>, outlet: Outlet) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(async move {
                let mut giver = Giver::new(16);
                for (content, bytes) in &self.contents {
                    let mut buffer = Buffer::default();
                    buffer.room(outlet.pool()).unwrap()[..bytes.len()].copy_from_slice(bytes);
                    buffer.filled(bytes.len());
                    let given = giver.give(*content, &buffer, 0, bytes.len(), &outlet);
                    self.results.borrow_mut().push(given.map_or_else(|error| error.to_string(), |()| "given".into()));
                }
            })
        }
    }

    async fn given(contents: &[(Content, &[u8])]) -> (Vec<String>, Vec<(FrameHeader, Vec<u8>)>) {
        let results = std::rc::Rc::new(RefCell::default());
        let contents = contents.iter().map(|(content, bytes)| (*content, bytes.to_vec())).collect();
        let bench = Bench::default();
        let waits = results.clone();
        let count = |contents: &Vec<_>| contents.len();
        let expected = count(&contents);
        let once = Once { contents, results: results.clone() };
        bench
            .run(Box::new(once), async |_| {
                crate::sensors::fake::until(|| waits.borrow().len() == expected).await;
            })
            .await;
        (results.borrow().clone(), bench.frames())
    }

    #[tokio::test]
    async fn each_format_has_its_header() {
        let raw = RawImage { width: 2, height: 3, pixel: PixelFormat::Gray16 };
        let (results, frames) = given(&[
            (Content::Bytes, b"\xff"),
            (Content::Json, b"{\"a\":[1]}"),
            (Content::Jpeg, b"anything"),
            (Content::Raw(raw), &[7; 12]),
            (Content::Csv { rate_hz: 50.0 }, b"x,y\n1,2\n3,4\n"),
        ])
        .await;
        assert_eq!(results, ["given"; 5]);
        let kinds: Vec<_> = frames.iter().map(|(header, _)| (header.kind, header.format)).collect();
        let image = |format| (Kind::Image, format);
        let expected = [
            (Kind::Bytes, Format::None),
            (Kind::Json, Format::None),
            image(Format::Jpeg),
            image(Format::Gray16),
            (Kind::Series, Format::F32),
        ];
        assert_eq!(kinds, expected);
        let shape = |index: usize| (frames[index].0.width, frames[index].0.height, frames[index].0.stride);
        assert_eq!((shape(3), shape(4)), ((2, 3, 4), (2, 1, 16)));
        assert_eq!((frames[4].0.channels, frames[4].0.rate_mhz), (2, 50_000));
        assert_eq!(frames[4].1, [1f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat());
    }

    #[tokio::test]
    async fn what_is_not_of_its_format_is_refused_in_words() {
        let raw = RawImage { width: 2, height: 3, pixel: PixelFormat::Gray8 };
        let csv = Content::Csv { rate_hz: 0.0 };
        let (results, frames) = given(&[
            (Content::Bytes, b""),
            (Content::Json, b"{\"a\":"),
            (Content::Json, b"{} {}"),
            (Content::Json, "[".repeat(1000).as_bytes()),
            (Content::Raw(raw), &[7; 7]),
            (csv, b"titles"),
            (csv, b"1,2\n3"),
            (csv, b"1,2,3,4,5"),
        ])
        .await;
        assert!(frames.is_empty());
        let expected = ["empty", "not JSON", "not JSON", "not JSON", "take 6", "no row", "line 2", "at most 16"];
        for (result, expected) in results.iter().zip(expected) {
            assert!(result.contains(expected), "{result} for {expected}");
        }
    }

    #[test]
    fn media_types_are_known_with_their_parameters() {
        let raw = RawImage { width: 1, height: 1, pixel: PixelFormat::Gray8 };
        assert_eq!(of_media_type("Application/JSON; charset=utf-8", None), Some(Content::Json));
        assert_eq!(of_media_type("application/octet-stream", None), Some(Content::Bytes));
        assert_eq!(of_media_type("application/octet-stream", Some(raw)), Some(Content::Raw(raw)));
        assert_eq!(of_media_type("image/webp", None), None);
        assert_eq!(of_media_type("", None), None);
    }
}
