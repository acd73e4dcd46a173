//! `kind = "replay"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{PixelFormat, RawImage, ReplaySettings, SeriesSettings};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
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

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<ReplaySettings, SettingsError> {
        let files = match (self.path, self.files) {
            (Some(path), None) => vec![path],
            (None, Some(files)) if !files.is_empty() => files,
            (None, Some(_)) => return Err(table.value("files", "empty", "at least one file")),
            (Some(_), Some(_)) => return Err(table.value("files", "given beside `path`", "one of `path` and `files`")),
            (None, None) => {
                return Err(table.value("path", "missing", "`path` (a folder or file) or `files` (a list)"));
            }
        };
        let rate = self.rate.unwrap_or(10.0);
        if !(0.001..=100_000.0).contains(&rate) {
            return Err(table.value("rate", rate, "0.001 to 100000 frames/s"));
        }
        self.raw.as_ref().map_or(Ok(()), |raw| image(raw, table))?;
        self.csv.as_ref().map_or(Ok(()), |csv| series(csv, table))?;
        Ok(ReplaySettings {
            files,
            rate,
            repeat: self.repeat.unwrap_or(true),
            max_frame: table.max_frame_bytes,
            raw: self.raw,
            csv: self.csv.unwrap_or_default(),
        })
    }
}

/// A layout that images can have.
pub(super) fn image(image: &RawImage, table: &Table<'_>) -> Result<(), SettingsError> {
    let sides = 1..=16_384;
    if !sides.contains(&image.width) || !sides.contains(&image.height) {
        let size = format!("{} x {}", image.width, image.height);
        return Err(table.value("raw", size, "width and height of 1 to 16384"));
    }
    let halved = match image.pixel {
        PixelFormat::Nv12 => image.width % 2 + image.height % 2,
        PixelFormat::Yuyv => image.width % 2,
        _ => 0,
    };
    if halved != 0 {
        return Err(table.value("raw", "of odd size", "even widths for yuyv, even widths and heights for nv12"));
    }
    table.fits("raw", image.length())
}

fn series(series: &SeriesSettings, table: &Table<'_>) -> Result<(), SettingsError> {
    if !(1..=1 << 20).contains(&series.window) {
        return Err(table.value("csv.window", series.window, "1 to 1048576 samples"));
    }
    if !(0.001..=4_000_000.0).contains(&series.rate_hz) {
        return Err(table.value("csv.rate_hz", series.rate_hz, "0.001 to 4000000 samples/s"));
    }
    table.fits("csv.window", series.window as usize * size_of::<f32>())
}
