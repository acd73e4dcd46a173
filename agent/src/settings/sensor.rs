//! `[sensor.<name>]`: where frames come from.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{MAX_SENSORS, SettingsError, load::Origin};

/// One sensor.
#[derive(Clone, Debug, PartialEq)]
pub enum SensorSettings {
    /// `kind = "replay"`: files, one after the other.
    Replay(ReplaySettings),
    /// `kind = "socket"`: a Unix socket that a local program writes length-prefixed frames to.
    Socket(SocketSettings),
}

/// `kind = "replay"`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplaySettings {
    /// `path` or `files`.
    pub files: ReplayFiles,
    /// Time from one frame to the next; `rate` is its reciprocal in frames/s.
    pub period: Duration,
    /// `loop`: start again after the last.
    pub repeat: bool,
    /// `raw`: what `*.raw` files hold; without it such a file is an error.
    pub raw: Option<RawImage>,
    /// `csv`: how `*.csv` files are cut into frames; without it such a file is an error.
    pub csv: Option<Series>,
}

/// The files of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayFiles {
    /// `path`: every file of a folder that can be replayed, in name order; or one file.
    Path(PathBuf),
    /// `files`: these, in this order.
    List(Vec<PathBuf>),
}

/// `kind = "socket"`.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketSettings {
    /// Where the socket is made; relative to `[paths] runtime`.
    pub path: PathBuf,
    /// `max_frame`: the longest frame taken, in bytes; at most `[limits] max_frame_bytes`, which is the default.
    pub max_frame: u32,
    /// What a frame holds: `content`, or `raw`, or `series`.
    pub content: FrameContent,
}

/// What the frames of a socket hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FrameContent {
    /// `content = "bytes"`, the default.
    Bytes,
    /// `content = "json"`.
    Json,
    /// `content = "png"`.
    Png,
    /// `content = "jpeg"`.
    Jpeg,
    /// `raw = { … }`.
    Raw(RawImage),
    /// `series = { … }`: f32 samples, little-endian, interleaved by channel.
    Series(Series),
}

/// An image without header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawImage {
    /// Pixels in a row, 1 to 16384.
    pub width: u32,
    /// Rows, 1 to 16384.
    pub height: u32,
    /// How a pixel is stored.
    pub pixel: Pixel,
}

/// How pixels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pixel {
    /// One byte.
    Gray8,
    /// Two bytes, little-endian.
    Gray16,
    /// Three bytes, red first.
    Rgb8,
    /// Three bytes, blue first.
    Bgr8,
    /// Two pixels in four bytes: Y, U, Y, V.
    Yuyv,
    /// A plane of Y, then one of U and V at half the resolution.
    Nv12,
}

/// Samples in windows.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Samples of each channel in a frame, 1 to 1048576.
    pub window: u32,
    /// Samples per second.
    pub rate_hz: f64,
    /// Channels; for CSV the columns that are taken, from the left.
    #[serde(default = "one")]
    pub channels: u32,
}

fn one() -> u32 {
    1
}

impl RawImage {
    /// The length of an image in bytes.
    pub fn bytes(&self) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        match self.pixel {
            Pixel::Gray8 => pixels,
            Pixel::Gray16 | Pixel::Yuyv => pixels * 2,
            Pixel::Rgb8 | Pixel::Bgr8 => pixels * 3,
            Pixel::Nv12 => pixels + pixels / 2,
        }
    }
}

impl Series {
    /// The length of a frame of f32 samples in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.window) * u64::from(self.channels) * 4
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum RawSensor {
    Replay(RawReplay),
    Socket(RawSocket),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReplay {
    path: Option<PathBuf>,
    files: Option<Vec<PathBuf>>,
    rate: Option<f64>,
    #[serde(rename = "loop")]
    repeat: Option<bool>,
    raw: Option<RawImage>,
    csv: Option<Series>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSocket {
    path: PathBuf,
    max_frame: Option<u32>,
    content: Option<Content>,
    raw: Option<RawImage>,
    series: Option<Series>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Bytes,
    Json,
    Png,
    Jpeg,
}

/// Checks all sensors.
pub(super) fn check(
    raw: BTreeMap<String, RawSensor>,
    max_frame_bytes: u32,
    origin: &Origin,
) -> Result<BTreeMap<String, SensorSettings>, SettingsError> {
    if raw.len() > MAX_SENSORS {
        return Err(origin.value(&["sensor"], format!("{} tables", raw.len()), format!("at most {MAX_SENSORS}")));
    }
    let mut sensors = BTreeMap::new();
    for (name, sensor) in raw {
        // Shorter than names elsewhere: the frame header has 32 bytes for it.
        if name.len() > 32 || !sanderling_protocol::deployment::is_name(&name) {
            return Err(origin.value(
                &["sensor", &name],
                "a bad name",
                "names of 1 to 32 characters of A-Z a-z 0-9 . _ -",
            ));
        }
        let context = Context { name: &name, max_frame_bytes, origin };
        let checked = match sensor {
            RawSensor::Replay(raw) => SensorSettings::Replay(context.replay(raw)?),
            RawSensor::Socket(raw) => SensorSettings::Socket(context.socket(raw)?),
        };
        sensors.insert(name, checked);
    }
    Ok(sensors)
}

struct Context<'a> {
    name: &'a str,
    max_frame_bytes: u32,
    origin: &'a Origin,
}

impl Context<'_> {
    fn replay(&self, raw: RawReplay) -> Result<ReplaySettings, SettingsError> {
        let files = match (raw.path, raw.files) {
            (Some(path), None) => ReplayFiles::Path(path),
            (None, Some(files)) if !files.is_empty() => ReplayFiles::List(files),
            (None, Some(_)) => return Err(self.value("files", "empty", "at least one file")),
            (Some(_), Some(_)) => return Err(self.value("files", "given beside `path`", "one of `path` and `files`")),
            (None, None) => return Err(self.value("path", "missing", "`path` (a folder or file) or `files` (a list)")),
        };
        let rate = raw.rate.unwrap_or(1.0);
        if !(0.001..=100_000.0).contains(&rate) {
            return Err(self.value("rate", rate, "0.001 to 100000 frames/s"));
        }
        raw.raw.as_ref().map_or(Ok(()), |image| self.image(image))?;
        raw.csv.as_ref().map_or(Ok(()), |series| self.series("csv", series))?;
        let period = Duration::from_secs_f64(1.0 / rate);
        Ok(ReplaySettings { files, period, repeat: raw.repeat.unwrap_or(false), raw: raw.raw, csv: raw.csv })
    }

    fn socket(&self, raw: RawSocket) -> Result<SocketSettings, SettingsError> {
        let max_frame = raw.max_frame.unwrap_or(self.max_frame_bytes);
        if !(1..=self.max_frame_bytes).contains(&max_frame) {
            let allowed = format!("1 to {} (`limits.max_frame_bytes`)", self.max_frame_bytes);
            return Err(self.value("max_frame", max_frame, allowed));
        }
        let content = match (raw.content, raw.raw, raw.series) {
            (None | Some(Content::Bytes), None, None) => FrameContent::Bytes,
            (Some(Content::Json), None, None) => FrameContent::Json,
            (Some(Content::Png), None, None) => FrameContent::Png,
            (Some(Content::Jpeg), None, None) => FrameContent::Jpeg,
            (None, Some(image), None) => {
                self.image(&image)?;
                FrameContent::Raw(image)
            }
            (None, None, Some(series)) => {
                self.series("series", &series)?;
                FrameContent::Series(series)
            }
            _ => return Err(self.value("content", "said twice", "one of `content`, `raw` and `series`")),
        };
        Ok(SocketSettings { path: raw.path, max_frame, content })
    }

    fn image(&self, image: &RawImage) -> Result<(), SettingsError> {
        let sides = 1..=16_384;
        if !sides.contains(&image.width) || !sides.contains(&image.height) {
            let size = format!("{} x {}", image.width, image.height);
            return Err(self.value("raw", size, "width and height of 1 to 16384"));
        }
        let halved = match image.pixel {
            Pixel::Nv12 => image.width % 2 + image.height % 2,
            Pixel::Yuyv => image.width % 2,
            _ => 0,
        };
        if halved != 0 {
            return Err(self.value("raw", "of odd size", "even widths for yuyv, even widths and heights for nv12"));
        }
        self.fits("raw", image.bytes())
    }

    fn series(&self, key: &str, series: &Series) -> Result<(), SettingsError> {
        let limits = [("window", series.window, 1 << 20), ("channels", series.channels, 64)];
        for (field, value, max) in limits {
            if !(1..=max).contains(&value) {
                return Err(self.value(&format!("{key}.{field}"), value, format!("1 to {max}")));
            }
        }
        if !(0.001..=10_000_000.0).contains(&series.rate_hz) {
            return Err(self.value(&format!("{key}.rate_hz"), series.rate_hz, "0.001 to 10000000 samples/s"));
        }
        self.fits(key, series.bytes())
    }

    fn fits(&self, key: &str, bytes: u64) -> Result<(), SettingsError> {
        if bytes > u64::from(self.max_frame_bytes) {
            let allowed = format!("at most {} bytes a frame (`limits.max_frame_bytes`)", self.max_frame_bytes);
            return Err(self.value(key, format!("{bytes} bytes a frame"), allowed));
        }
        Ok(())
    }

    fn value(&self, key: &str, value: impl ToString, allowed: impl ToString) -> SettingsError {
        self.origin.value(&["sensor", self.name, key], value, allowed)
    }
}
