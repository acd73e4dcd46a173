//! Signals: each channel a wave with an offset, a drift and noise, and now and then an anomaly.

use serde::Deserialize;

use super::dice::{dice, normal, sine, unit};

/// During an anomaly, wave and noise of a channel are so many times as large.
const GAIN: f64 = 4.0;

/// Windows of a simulated series.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalSettings {
    /// Samples a second.
    pub rate_hz: f64,
    /// Samples of each channel in one frame.
    pub window: u32,
    /// The channels.
    pub channels: Vec<ChannelSettings>,
    /// How many anomalies there are in a minute, on average, in each channel.
    pub anomalies_per_min: f64,
    /// How long one lasts, in seconds: wave and noise are four times as large then.
    pub anomaly_s: f64,
}

/// One channel of a simulated series.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelSettings {
    /// The shape of the wave.
    pub wave: Wave,
    /// Its frequency.
    pub hz: f64,
    /// Its largest value.
    pub amplitude: f64,
    /// What is added to it.
    pub offset: f64,
    /// What is added more with each second.
    pub drift: f64,
    /// The standard deviation of the noise.
    pub noise: f64,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self { wave: Wave::Sine, hz: 1.0, amplitude: 1.0, offset: 0.0, drift: 0.0, noise: 0.0 }
    }
}

/// The shape of a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wave {
    /// A sine.
    Sine,
    /// Half of the time up, half of the time down.
    Square,
    /// None: offset, drift and noise alone.
    Flat,
}

impl SignalSettings {
    /// Bytes of one frame; saturates.
    pub(crate) fn length(&self) -> usize {
        (self.window as usize).saturating_mul(self.channels.len()).saturating_mul(size_of::<f32>())
    }
}

/// The signal.
pub(super) struct Signal {
    seed: u64,
    settings: SignalSettings,
    // Samples that an anomaly takes: time is cut into slots of this length, and each has one or none.
    slot: u64,
    // The share of slots that have one.
    share: f64,
}

impl Signal {
    pub(super) fn new(seed: u64, settings: SignalSettings) -> Self {
        let slot = (settings.anomaly_s * settings.rate_hz).max(1.0) as u64;
        let share = settings.anomalies_per_min / 60.0 * settings.anomaly_s;
        Self { seed, settings, slot, share }
    }

    /// Writes a frame, its channels interleaved.
    pub(super) fn write(&self, frame: u64, room: &mut [u8]) {
        let first = frame.wrapping_mul(u64::from(self.settings.window));
        let rows = room.chunks_exact_mut((self.settings.channels.len() * size_of::<f32>()).max(1));
        for (row, sample) in rows.zip(first..) {
            let places = row.as_chunks_mut().0.iter_mut();
            for ((place, channel), settings) in places.zip(0..).zip(&self.settings.channels) {
                *place = (self.value(settings, channel, sample) as f32).to_le_bytes();
            }
        }
    }

    fn value(&self, channel: &ChannelSettings, number: u64, sample: u64) -> f64 {
        let seconds = sample as f64 / self.settings.rate_hz;
        let turns = channel.hz * seconds;
        let wave = match channel.wave {
            Wave::Sine => sine(turns),
            Wave::Square if turns - turns.floor() < 0.5 => 1.0,
            Wave::Square => -1.0,
            Wave::Flat => 0.0,
        };
        // Of each channel, a sequence for its noise and one for its anomalies.
        let noise = normal(dice(dice(self.seed, 2 * number), sample));
        let odd = unit(dice(dice(self.seed, 2 * number + 1), sample / self.slot)) < self.share;
        let gain = if odd { GAIN } else { 1.0 };
        channel.offset + channel.drift * seconds + gain * (channel.amplitude * wave + channel.noise * noise)
    }
}
