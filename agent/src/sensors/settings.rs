//! What can be set for each kind of sensor: the payload of the agent's sensor settings.

use std::path::PathBuf;

use sanderling_guest::frame::Format;
use serde::Deserialize;

use crate::frames;

/// A sensor that replays files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// Files and folders, in this order; a folder stands for its files in the order of their names. `.png`, `.jpg` and
    /// `.jpeg` are given as they are, `.csv` as windows of a series, `.json` as JSON, everything else as raw bytes or as `raw` says.
    pub files: Vec<PathBuf>,
    /// Frames a second.
    #[serde(default = "ten")]
    pub rate: f64,
    /// Whether it starts again after the last file.
    #[serde(default = "yes", rename = "loop")]
    pub repeat: bool,
    /// A file (or a window of a series) that gives more bytes than this is left out and reported.
    #[serde(default = "four_mib")]
    pub max_frame: usize,
    /// What the pixels of raw files are.
    #[serde(default)]
    pub raw: Option<RawImage>,
    /// How CSV files are cut into frames.
    #[serde(default)]
    pub series: SeriesSettings,
}

/// The layout of raw images.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawImage {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The layout of a pixel.
    pub format: PixelFormat,
}

/// The layout of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketSettings {
    /// The Unix socket that is made, with mode 0660.
    pub path: PathBuf,
    /// The largest content of a frame, in bytes; a writer that exceeds it is disconnected.
    #[serde(default = "four_mib")]
    pub max_frame: usize,
}

fn ten() -> f64 {
    10.0
}

fn yes() -> bool {
    true
}

fn four_mib() -> usize {
    4 << 20
}

/// The largest `max_frame` that can be set, in bytes.
pub(super) const MOST: usize = frames::LARGEST / 2;

impl ReplaySettings {
    /// Checks ranges.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if self.files.is_empty() {
            return Err("`files` is empty; name at least one file or folder".into());
        }
        if !(0.001..=100_000.0).contains(&self.rate) {
            return Err(format!("`rate` is {}; allowed is 0.001 to 100000 frames a second", self.rate));
        }
        if !(1..=1 << 20).contains(&self.series.window) {
            return Err(format!("`series.window` is {}; allowed is 1 to 1048576 samples", self.series.window));
        }
        if !(0.0..=4_000_000.0).contains(&self.series.rate_hz) {
            return Err(format!("`series.rate_hz` is {}; allowed is 0 to 4000000", self.series.rate_hz));
        }
        if let Some(raw) = &self.raw {
            raw.check()?;
        }
        check_max_frame(self.max_frame)
    }
}

impl SocketSettings {
    /// Checks ranges.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        // sockaddr_un has room for 108 bytes, a terminating zero included.
        let length = self.path.as_os_str().len();
        if !(1..108).contains(&length) {
            return Err(format!("`path` is {length} bytes long; a Unix socket's is 1 to 107"));
        }
        check_max_frame(self.max_frame)
    }
}

impl RawImage {
    fn check(&self) -> Result<(), String> {
        for (key, value) in [("raw.width", self.width), ("raw.height", self.height)] {
            if !(1..=65_536).contains(&value) {
                return Err(format!("`{key}` is {value}; allowed is 1 to 65536 pixels"));
            }
        }
        Ok(())
    }

    /// Bytes of one image; saturates.
    pub(super) fn length(&self) -> usize {
        let pixels = (self.width as usize).saturating_mul(self.height as usize);
        match self.format {
            PixelFormat::Gray8 => pixels,
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => pixels.saturating_mul(3),
            PixelFormat::Yuyv | PixelFormat::Gray16 => pixels.saturating_mul(2),
            PixelFormat::Nv12 => pixels.saturating_add(pixels / 2),
        }
    }

    /// Bytes from one row to the next.
    pub(super) fn stride(&self) -> u32 {
        match self.format {
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

fn check_max_frame(max_frame: usize) -> Result<(), String> {
    if (1..=MOST).contains(&max_frame) {
        Ok(())
    } else {
        Err(format!("`max_frame` is {max_frame}; allowed is 1 to {MOST} bytes"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_minimal_replay_and_refuses_unknown_keys() {
        let settings: ReplaySettings = toml::from_str("files = ['/srv/frames']").unwrap();
        assert_eq!((settings.rate, settings.repeat, settings.max_frame), (10.0, true, 4 << 20));
        assert_eq!(settings.check(), Ok(()));
        assert!(toml::from_str::<ReplaySettings>("files = []\nspeed = 1").is_err());
        let settings: ReplaySettings = toml::from_str("files = ['a']\nloop = false").unwrap();
        assert!(!settings.repeat);
    }

    #[test]
    fn names_the_key_that_is_out_of_range() {
        let replay = |text: &str| toml::from_str::<ReplaySettings>(text).unwrap().check().unwrap_err();
        assert!(replay("files = []").contains("`files`"));
        assert!(replay("files = ['a']\nrate = 0.0").contains("`rate`"));
        assert!(replay("files = ['a']\nrate = nan").contains("`rate`"));
        assert!(replay("files = ['a']\nmax_frame = 0").contains("`max_frame`"));
        assert!(replay("files = ['a']\nseries = { window = 0 }").contains("`series.window`"));
        assert!(replay("files = ['a']\nraw = { width = 0, height = 1, format = 'gray8' }").contains("`raw.width`"));
        let socket: SocketSettings = toml::from_str(&format!("path = '/{}'", "x".repeat(107))).unwrap();
        assert!(socket.check().unwrap_err().contains("`path`"));
    }
}
