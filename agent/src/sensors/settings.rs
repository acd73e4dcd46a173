//! What a sensor is made from. [`crate::settings`] reads and checks it.

use std::path::PathBuf;

use sanderling_guest::frame::Format;
use serde::Deserialize;

/// A sensor that replays files.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplaySettings {
    /// Files and folders, in this order; a folder stands for its files in the order of their names. `.png`, `.jpg` and
    /// `.jpeg` are given as they are, `.csv` as windows of a series, `.json` as JSON, everything else as raw bytes or as `raw` says.
    pub files: Vec<PathBuf>,
    /// Frames a second.
    pub rate: f64,
    /// Whether it starts again after the last file.
    pub repeat: bool,
    /// A file (or a window of a series) that gives more bytes than this is left out and reported.
    pub max_frame: usize,
    /// What the pixels of raw files are.
    pub raw: Option<RawImage>,
    /// How CSV files are cut into frames.
    pub csv: SeriesSettings,
}

/// The layout of raw images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawImage {
    /// Pixels a row, 1 to 16384.
    pub width: u32,
    /// Rows, 1 to 16384.
    pub height: u32,
    /// The layout of a pixel.
    pub pixel: PixelFormat,
}

/// The layout of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    /// One byte a pixel.
    Gray8,
    /// Three bytes a pixel, red first.
    Rgb8,
    /// Three bytes a pixel, blue first.
    Bgr8,
    /// Two bytes a pixel, Y0 U Y1 V.
    Yuyv,
    /// A plane of Y, then one of interleaved U and V at half the size.
    Nv12,
    /// Two bytes a pixel, little-endian.
    Gray16,
}

/// How CSV files are cut into frames. One column a channel; a first line that is not of numbers is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesSettings {
    /// Samples of each channel in one frame.
    pub window: u32,
    /// Samples a second, in hertz, as the frame's header says; the pace of frames is set by `rate` alone.
    pub rate_hz: f64,
}

impl Default for SeriesSettings {
    fn default() -> Self {
        Self { window: 1024, rate_hz: 1000.0 }
    }
}

/// A sensor that local programs write frames to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// The Unix socket that is made, with mode 0660.
    pub path: PathBuf,
    /// The largest content of a frame, in bytes; a writer that exceeds it is disconnected.
    pub max_frame: usize,
}

impl RawImage {
    /// Bytes of one image; saturates.
    pub(crate) fn length(&self) -> usize {
        let pixels = (self.width as usize).saturating_mul(self.height as usize);
        match self.pixel {
            PixelFormat::Gray8 => pixels,
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => pixels.saturating_mul(3),
            PixelFormat::Yuyv | PixelFormat::Gray16 => pixels.saturating_mul(2),
            PixelFormat::Nv12 => pixels.saturating_add(pixels / 2),
        }
    }

    /// Bytes from one row to the next.
    pub(super) fn stride(&self) -> u32 {
        match self.pixel {
            PixelFormat::Gray8 | PixelFormat::Nv12 => self.width,
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => self.width.saturating_mul(3),
            PixelFormat::Yuyv | PixelFormat::Gray16 => self.width.saturating_mul(2),
        }
    }
}

impl From<PixelFormat> for Format {
    fn from(format: PixelFormat) -> Self {
        match format {
            PixelFormat::Gray8 => Self::Gray8,
            PixelFormat::Rgb8 => Self::Rgb8,
            PixelFormat::Bgr8 => Self::Bgr8,
            PixelFormat::Yuyv => Self::Yuyv,
            PixelFormat::Nv12 => Self::Nv12,
            PixelFormat::Gray16 => Self::Gray16,
        }
    }
}
