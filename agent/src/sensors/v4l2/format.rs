//! What cameras call their pixels, and how an image lies in a buffer.

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use serde::Deserialize;
use thiserror::Error;

use crate::sensors::{PixelFormat, RawImage};

/// What the images of a camera are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraPixel {
    /// GREY: one byte a pixel.
    Gray8,
    /// Y16: two bytes a pixel.
    Gray16,
    /// YUYV: two bytes a pixel.
    Yuyv,
    /// NV12: a byte and a half a pixel.
    Nv12,
    /// RGB3: three bytes a pixel, red first.
    Rgb8,
    /// BGR3: three bytes a pixel, blue first.
    Bgr8,
    /// MJPG or JPEG: each image a JPEG.
    Mjpeg,
}

/// The kernel's name for a format: four letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FourCc(pub(super) u32);

impl FourCc {
    pub(super) const fn new(letters: &[u8; 4]) -> Self {
        Self(u32::from_le_bytes(*letters))
    }
}

impl std::fmt::Display for FourCc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.0.to_le_bytes().iter().map(|byte| char::from(*byte)).collect();
        f.write_str(text.trim_end().escape_default().to_string().as_str())
    }
}

impl CameraPixel {
    /// All, in the order in which they are tried where the settings say nothing: what modules need not have decoded first.
    pub(crate) const ALL: [Self; 7] =
        [Self::Yuyv, Self::Nv12, Self::Gray8, Self::Rgb8, Self::Bgr8, Self::Gray16, Self::Mjpeg];

    /// What the kernel calls it.
    pub(super) fn codes(self) -> &'static [FourCc] {
        const GREY: &[FourCc] = &[FourCc::new(b"GREY")];
        const Y16: &[FourCc] = &[FourCc::new(b"Y16 ")];
        const YUYV: &[FourCc] = &[FourCc::new(b"YUYV")];
        const NV12: &[FourCc] = &[FourCc::new(b"NV12")];
        const RGB3: &[FourCc] = &[FourCc::new(b"RGB3")];
        const BGR3: &[FourCc] = &[FourCc::new(b"BGR3")];
        const MJPEG: &[FourCc] = &[FourCc::new(b"MJPG"), FourCc::new(b"JPEG")];
        match self {
            Self::Gray8 => GREY,
            Self::Gray16 => Y16,
            Self::Yuyv => YUYV,
            Self::Nv12 => NV12,
            Self::Rgb8 => RGB3,
            Self::Bgr8 => BGR3,
            Self::Mjpeg => MJPEG,
        }
    }

    /// The layout of its pixels; none where they are compressed.
    pub(crate) fn raw(self) -> Option<PixelFormat> {
        Some(match self {
            Self::Gray8 => PixelFormat::Gray8,
            Self::Gray16 => PixelFormat::Gray16,
            Self::Yuyv => PixelFormat::Yuyv,
            Self::Nv12 => PixelFormat::Nv12,
            Self::Rgb8 => PixelFormat::Rgb8,
            Self::Bgr8 => PixelFormat::Bgr8,
            Self::Mjpeg => return None,
        })
    }
}

/// Why a buffer holds no image.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum ImageError {
    #[error("an image of {found} bytes, where {needed} are needed: it was cut on its way from the camera")]
    Short { found: usize, needed: usize },
    #[error("a JPEG image that does not begin like one: it was damaged on its way from the camera")]
    NoJpeg,
    #[error("a JPEG image of {found} bytes; frames of this sensor are at most {most}, see `max_frame`")]
    Long { found: usize, most: usize },
}

/// How an image lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Rows of pixels.
    Rows {
        /// Bytes of pixels in a row.
        row: usize,
        /// Rows, those of all planes together.
        rows: usize,
        /// Bytes from one row to the next.
        stride: usize,
    },
    /// A JPEG of at most so many bytes.
    Jpeg { most: usize },
}

impl Shape {
    /// Of raw images, whose rows the driver says to be `stride` apart.
    pub(super) fn rows(image: &RawImage, stride: u32) -> Self {
        let row = image.stride() as usize;
        // Of NV12, the second plane has half as many rows of the same length.
        let rows = image.length().checked_div(row).unwrap_or(0);
        // Some drivers leave it at zero where there are no gaps.
        Self::Rows { row, rows, stride: (stride as usize).max(row) }
    }

    /// The bytes of the image that begins `bytes`, without gaps.
    pub(super) fn length(self, bytes: &[u8]) -> Result<usize, ImageError> {
        match self {
            Self::Rows { row, rows, stride } => {
                // Behind the last row there may be no gap.
                let needed = rows.saturating_sub(1).saturating_mul(stride).saturating_add(row);
                if bytes.len() < needed {
                    return Err(ImageError::Short { found: bytes.len(), needed });
                }
                Ok(row.saturating_mul(rows))
            }
            Self::Jpeg { most } if bytes.len() > most => Err(ImageError::Long { found: bytes.len(), most }),
            Self::Jpeg { .. } if !bytes.starts_with(&[0xff, 0xd8, 0xff]) => Err(ImageError::NoJpeg),
            Self::Jpeg { .. } => Ok(bytes.len()),
        }
    }

    /// Copies the image without gaps; `room` is as long as [`Shape::length`] says.
    pub(super) fn copy(self, bytes: &[u8], room: &mut [u8]) {
        match self {
            Self::Rows { row, stride, .. } if row < stride => {
                for (to, from) in room.chunks_exact_mut(row.max(1)).zip(bytes.chunks(stride)) {
                    put(from, to);
                }
            }
            _ => put(bytes, room),
        }
    }
}

/// Fills `to` with the beginning of `from`, which is as long at least.
fn put(from: &[u8], to: &mut [u8]) {
    if let Some(from) = from.get(..to.len()) {
        to.copy_from_slice(from);
    }
}

/// The header of the frames.
pub(super) fn header(pixel: CameraPixel, width: u32, height: u32) -> FrameHeader {
    let raw = pixel.raw().map(|pixel| RawImage { width, height, pixel });
    FrameHeader {
        kind: Kind::Image,
        format: raw.map_or(Format::Jpeg, |raw| raw.pixel.into()),
        width,
        height,
        stride: raw.map_or(0, |raw| raw.stride()),
        ..FrameHeader::new("", 0)
    }
}
