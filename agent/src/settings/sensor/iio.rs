//! `kind = "iio"`.

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{IioMode, IioSettings};

const NAMES: &str = "1 to 64 characters, without /";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    device: String,
    channels: Option<Vec<String>>,
    window: Option<u32>,
    mode: Option<IioMode>,
    rate_hz: Option<f64>,
    trigger: Option<String>,
    buffer: Option<u32>,
    raw: Option<bool>,
    timestamp: Option<bool>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<IioSettings, SettingsError> {
        let channels = self.channels.unwrap_or_default();
        // They become parts of paths in sysfs.
        let named = channels.iter().map(|channel| ("channels", channel));
        let named = named.chain(self.trigger.iter().map(|trigger| ("trigger", trigger)));
        for (key, name) in named.chain([("device", &self.device)]) {
            if !(1..=64).contains(&name.len()) || name.contains(['/', '\0']) {
                return Err(table.value(key, format!("{name:?}"), NAMES));
            }
        }
        if channels.len() > 64 {
            return Err(table.value("channels", channels.len(), "at most 64; leave it out for all"));
        }
        let window = table.within("window", self.window.unwrap_or(256), 1..=1 << 20, " samples")?;
        table.fits("window", (window as usize).saturating_mul(channels.len().max(1) * size_of::<f32>()))?;
        if let Some(rate_hz) = self.rate_hz {
            table.within("rate_hz", rate_hz, 0.001..=4_000_000.0, " samples/s")?;
        }
        let buffer = self.buffer.unwrap_or_else(|| window.saturating_mul(4).clamp(128, 1 << 20));
        Ok(IioSettings {
            device: self.device,
            channels,
            window,
            mode: self.mode.unwrap_or_default(),
            rate_hz: self.rate_hz,
            trigger: self.trigger,
            buffer: table.within("buffer", buffer, 2..=1 << 22, " samples")?,
            raw: self.raw.unwrap_or(false),
            timestamp: self.timestamp.unwrap_or(true),
            max_frame: table.max_frame_bytes,
        })
    }
}
