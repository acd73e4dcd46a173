//! `kind = "simulate"`.

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{ChannelSettings, PixelFormat, SceneSettings, SignalSettings, SimulateSettings, Simulated};

const MOST_CHANNELS: usize = 32;
/// Values or pixels that are made in a second, on the thread that feeds the modules.
const MOST_VALUES: f64 = 1e6;
const MOST_PIXELS: f64 = 2e7;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    seed: Option<u32>,
    signal: Option<RawSignal>,
    scene: Option<RawScene>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSignal {
    rate_hz: Option<f64>,
    window: Option<u32>,
    channels: Option<Vec<ChannelSettings>>,
    anomalies_per_min: Option<f64>,
    anomaly_s: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScene {
    width: Option<u32>,
    height: Option<u32>,
    pixel: Option<PixelFormat>,
    rate: Option<f64>,
    defects: Option<f64>,
    objects: Option<u32>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<SimulateSettings, SettingsError> {
        let of = match (self.signal, self.scene) {
            (Some(raw), None) => Simulated::Signal(signal(raw, table)?),
            (None, Some(raw)) => Simulated::Scene(scene(raw, table)?),
            (Some(_), Some(_)) => return Err(table.value("scene", "given beside `signal`", "one of the two")),
            (None, None) => return Err(table.value("signal", "missing", "a table `signal` or a table `scene`")),
        };
        Ok(SimulateSettings { seed: u64::from(self.seed.unwrap_or(0)), of })
    }
}

fn signal(raw: RawSignal, table: &Table<'_>) -> Result<SignalSettings, SettingsError> {
    let settings = SignalSettings {
        rate_hz: raw.rate_hz.unwrap_or(1000.0),
        window: raw.window.unwrap_or(1000),
        channels: raw.channels.unwrap_or_else(|| vec![ChannelSettings::default()]),
        anomalies_per_min: raw.anomalies_per_min.unwrap_or(0.0),
        anomaly_s: raw.anomaly_s.unwrap_or(0.5),
    };
    let count = settings.channels.len();
    if !(1..=MOST_CHANNELS).contains(&count) {
        return Err(table.value("signal.channels", count, format!("1 to {MOST_CHANNELS} channels")));
    }
    table.within("signal.rate_hz", settings.rate_hz, 0.001..=MOST_VALUES, " samples/s")?;
    if settings.rate_hz * count as f64 > MOST_VALUES {
        let found = format!("{} with {count} channels", settings.rate_hz);
        return Err(table.value("signal.rate_hz", found, format!("at most {MOST_VALUES} values/s in all channels")));
    }
    table.within("signal.window", settings.window, 1..=1 << 20, " samples")?;
    if settings.rate_hz / f64::from(settings.window) > 1000.0 {
        let least = (settings.rate_hz / 1000.0).ceil();
        return Err(table.value("signal.window", settings.window, format!("at least {least}: 1000 frames/s")));
    }
    table.fits("signal.window", settings.length())?;
    table.within("signal.anomaly_s", settings.anomaly_s, 0.001..=60.0, " s")?;
    let most = 60.0 / settings.anomaly_s;
    table.within("signal.anomalies_per_min", settings.anomalies_per_min, 0.0..=most, " (60 / `anomaly_s`)")?;
    for channel in &settings.channels {
        let values = [channel.hz, channel.amplitude, channel.offset, channel.drift, channel.noise];
        if values.iter().any(|value| value.abs() > 1e9 || value.is_nan()) {
            return Err(table.value("signal.channels", format!("{channel:?}"), "numbers from -1e9 to 1e9"));
        }
    }
    Ok(settings)
}

fn scene(raw: RawScene, table: &Table<'_>) -> Result<SceneSettings, SettingsError> {
    let color = match raw.pixel {
        None | Some(PixelFormat::Gray8) => false,
        Some(PixelFormat::Rgb8) => true,
        Some(other) => {
            return Err(table.value("scene.pixel", format!("{other:?}").to_lowercase(), "\"gray8\" or \"rgb8\""));
        }
    };
    let settings = SceneSettings {
        width: raw.width.unwrap_or(640),
        height: raw.height.unwrap_or(480),
        color,
        rate: raw.rate.unwrap_or(10.0),
        defects: raw.defects.unwrap_or(0.1),
        objects: raw.objects.unwrap_or(0),
    };
    table.within("scene.width", settings.width, 16..=4096, " pixels")?;
    table.within("scene.height", settings.height, 16..=4096, " pixels")?;
    table.fits("scene.width", settings.image().length())?;
    table.within("scene.rate", settings.rate, 0.001..=1000.0, " frames/s")?;
    let pixels = f64::from(settings.width) * f64::from(settings.height);
    if pixels * settings.rate > MOST_PIXELS {
        let most = MOST_PIXELS / pixels;
        return Err(table.value("scene.rate", settings.rate, format!("at most {most:.1} frames/s of this size")));
    }
    table.within("scene.defects", settings.defects, 0.0..=1.0, "")?;
    table.within("scene.objects", settings.objects, 0..=16, "")?;
    Ok(settings)
}
