//! `[sensor.<name>]`: where frames come from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{MAX_SENSORS, SettingsError, load::Origin};
use crate::sensors::{PixelFormat, RawImage, ReplaySettings, SeriesSettings, SocketSettings};

/// One sensor.
#[derive(Clone, Debug, PartialEq)]
pub enum SensorSettings {
    /// `kind = "replay"`: files, one after the other.
    Replay(ReplaySettings),
    /// `kind = "socket"`: a Unix socket that local programs write frames to.
    Socket(SocketSettings),
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
    /// A folder or a file …
    path: Option<PathBuf>,
    /// … or several, in this order.
    files: Option<Vec<PathBuf>>,
    rate: Option<f64>,
    #[serde(rename = "loop")]
    repeat: Option<bool>,
    raw: Option<RawImage>,
    csv: Option<SeriesSettings>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSocket {
    /// Relative to `[paths] runtime`.
    path: PathBuf,
    max_frame: Option<usize>,
}

/// Checks all sensors.
pub(super) fn check(
    raw: BTreeMap<String, RawSensor>,
    max_frame_bytes: usize,
    runtime: &Path,
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
        let context = Context { name: &name, max_frame_bytes, runtime, origin };
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
    max_frame_bytes: usize,
    runtime: &'a Path,
    origin: &'a Origin,
}

impl Context<'_> {
    fn replay(&self, raw: RawReplay) -> Result<ReplaySettings, SettingsError> {
        let files = match (raw.path, raw.files) {
            (Some(path), None) => vec![path],
            (None, Some(files)) if !files.is_empty() => files,
            (None, Some(_)) => return Err(self.value("files", "empty", "at least one file")),
            (Some(_), Some(_)) => return Err(self.value("files", "given beside `path`", "one of `path` and `files`")),
            (None, None) => return Err(self.value("path", "missing", "`path` (a folder or file) or `files` (a list)")),
        };
        let rate = raw.rate.unwrap_or(10.0);
        if !(0.001..=100_000.0).contains(&rate) {
            return Err(self.value("rate", rate, "0.001 to 100000 frames/s"));
        }
        raw.raw.as_ref().map_or(Ok(()), |image| self.image(image))?;
        raw.csv.as_ref().map_or(Ok(()), |series| self.series(series))?;
        Ok(ReplaySettings {
            files,
            rate,
            repeat: raw.repeat.unwrap_or(true),
            max_frame: self.max_frame_bytes,
            raw: raw.raw,
            csv: raw.csv.unwrap_or_default(),
        })
    }

    fn socket(&self, raw: RawSocket) -> Result<SocketSettings, SettingsError> {
        let max_frame = raw.max_frame.unwrap_or(self.max_frame_bytes);
        if !(1..=self.max_frame_bytes).contains(&max_frame) {
            let allowed = format!("1 to {} (`limits.max_frame_bytes`)", self.max_frame_bytes);
            return Err(self.value("max_frame", max_frame, allowed));
        }
        let path = self.runtime.join(raw.path);
        // sockaddr_un has room for 108 bytes, a terminating zero included.
        if path.as_os_str().len() >= 108 {
            return Err(self.value("path", path.display(), "a path of 1 to 107 bytes, as Unix sockets have"));
        }
        Ok(SocketSettings { path, max_frame })
    }

    fn image(&self, image: &RawImage) -> Result<(), SettingsError> {
        let sides = 1..=16_384;
        if !sides.contains(&image.width) || !sides.contains(&image.height) {
            let size = format!("{} x {}", image.width, image.height);
            return Err(self.value("raw", size, "width and height of 1 to 16384"));
        }
        let halved = match image.pixel {
            PixelFormat::Nv12 => image.width % 2 + image.height % 2,
            PixelFormat::Yuyv => image.width % 2,
            _ => 0,
        };
        if halved != 0 {
            return Err(self.value("raw", "of odd size", "even widths for yuyv, even widths and heights for nv12"));
        }
        self.fits("raw", image.length())
    }

    fn series(&self, series: &SeriesSettings) -> Result<(), SettingsError> {
        if !(1..=1 << 20).contains(&series.window) {
            return Err(self.value("csv.window", series.window, "1 to 1048576 samples"));
        }
        if !(0.001..=4_000_000.0).contains(&series.rate_hz) {
            return Err(self.value("csv.rate_hz", series.rate_hz, "0.001 to 4000000 samples/s"));
        }
        self.fits("csv.window", series.window as usize * size_of::<f32>())
    }

    fn fits(&self, key: &str, bytes: usize) -> Result<(), SettingsError> {
        if bytes > self.max_frame_bytes {
            let allowed = format!("at most {} bytes a frame (`limits.max_frame_bytes`)", self.max_frame_bytes);
            return Err(self.value(key, format!("{bytes} bytes a frame"), allowed));
        }
        Ok(())
    }

    fn value(&self, key: &str, value: impl ToString, allowed: impl ToString) -> SettingsError {
        self.origin.value(&["sensor", self.name, key], value, allowed)
    }
}
