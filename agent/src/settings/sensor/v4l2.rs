//! `kind = "v4l2"`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{CameraPixel, PixelFormat, RawImage, V4l2Settings};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    device: Option<PathBuf>,
    width: Option<u32>,
    height: Option<u32>,
    fps: Option<f64>,
    pixel: Option<Vec<CameraPixel>>,
    buffers: Option<u32>,
    controls: Option<BTreeMap<String, i32>>,
    max_frame: Option<usize>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<V4l2Settings, SettingsError> {
        let device = self.device.unwrap_or_else(|| "/dev/video0".into());
        if !device.is_absolute() {
            return Err(table.value("device", device.display(), "a path that begins with /, such as /dev/video0"));
        }
        let width = table.within("width", self.width.unwrap_or(640), 1..=16_384, " pixels")?;
        let height = table.within("height", self.height.unwrap_or(480), 1..=16_384, " pixels")?;
        if let Some(fps) = self.fps {
            table.within("fps", fps, 0.1..=1000.0, " images/s")?;
        }
        let pixel = pixels(self.pixel, width, height, table)?;
        let controls: Vec<_> = self.controls.unwrap_or_default().into_iter().collect();
        if controls.len() > 64 {
            return Err(table.value("controls", controls.len(), "at most 64"));
        }
        Ok(V4l2Settings {
            device,
            width,
            height,
            fps: self.fps,
            pixel,
            buffers: table.within("buffers", self.buffers.unwrap_or(4), 2..=32, "")?,
            controls,
            max_frame: table.max_frame(self.max_frame)?,
        })
    }
}

/// The formats asked for; where none are, those that fit the size and the largest frame.
fn pixels(
    given: Option<Vec<CameraPixel>>,
    width: u32,
    height: u32,
    table: &Table<'_>,
) -> Result<Vec<CameraPixel>, SettingsError> {
    let is_even = |pixel: PixelFormat| match pixel {
        PixelFormat::Nv12 => width.is_multiple_of(2) && height.is_multiple_of(2),
        PixelFormat::Yuyv => width.is_multiple_of(2),
        _ => true,
    };
    let length = |pixel| RawImage { width, height, pixel }.length();
    let Some(given) = given else {
        let fits = |pixel: PixelFormat| is_even(pixel) && table.fits("width", length(pixel)).is_ok();
        return Ok(CameraPixel::ALL.into_iter().filter(|pixel| pixel.raw().is_none_or(fits)).collect());
    };
    if given.is_empty() {
        return Err(table.value("pixel", "empty", "at least one format; leave it out for any"));
    }
    for pixel in given.iter().filter_map(|pixel| pixel.raw()) {
        if !is_even(pixel) {
            let allowed = "even widths for yuyv, even widths and heights for nv12";
            return Err(table.value("width", format!("{width} x {height}"), allowed));
        }
        table.fits("width", length(pixel))?;
    }
    Ok(given)
}
