//! A sensor that makes its frames up: signals and scenes, for trying things out where there is no hardware.
//!
//! Everything is a function of the seed and of the number of the frame, or of the sample: the same settings give the same bytes on
//! every machine, whatever was dropped. Only additions, multiplications and square roots are used, which all processors
//! round alike.
//!
//! Frames are made while someone wants them, and on the agent's own thread: the settings bound how many values and pixels a second
//! that can be. What a busy moment held up is left out, not made up for.

mod dice;
mod scene;
mod signal;

use std::{pin::Pin, time::Duration};

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use tokio::time::MissedTickBehavior;

use self::{scene::Scene, signal::Signal};
use super::{Outlet, PixelFormat, RawImage, Sensor};
pub use scene::SceneSettings;
pub use signal::{ChannelSettings, SignalSettings, Wave};

/// A sensor that makes its frames up.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulateSettings {
    /// The same seed gives the same frames.
    pub seed: u64,
    /// What they show.
    pub of: Simulated,
}

/// What the frames of a simulation show.
#[derive(Clone, Debug, PartialEq)]
pub enum Simulated {
    /// Windows of a series of f32.
    Signal(SignalSettings),
    /// Images of a surface.
    Scene(SceneSettings),
}

/// The sensor.
pub struct Simulate {
    settings: SimulateSettings,
}

impl Simulate {
    /// A sensor of checked settings.
    pub fn new(settings: SimulateSettings) -> Self {
        Self { settings }
    }

    /// What is there: a simulation always is.
    ///
    /// # Errors
    /// Never.
    pub fn probe(settings: &SimulateSettings) -> Result<String, String> {
        Ok(match &settings.of {
            Simulated::Signal(signal) => format!("simulates {} channels", signal.channels.len()),
            Simulated::Scene(scene) => format!("simulates images of {} x {}", scene.width, scene.height),
        })
    }
}

impl Sensor for Simulate {
    fn largest_frame(&self) -> usize {
        match &self.settings.of {
            Simulated::Signal(signal) => signal.length(),
            Simulated::Scene(scene) => scene.image().length(),
        }
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        let seed = self.settings.seed;
        match self.settings.of {
            Simulated::Signal(settings) => {
                let header = signal_header(&settings);
                let period = f64::from(settings.window) / settings.rate_hz;
                let (length, signal) = (settings.length(), Signal::new(seed, settings));
                Box::pin(run(outlet, period, header, length, move |frame, room| signal.write(frame, room)))
            }
            Simulated::Scene(settings) => {
                let header = image_header(&settings.image());
                let (period, length) = (1.0 / settings.rate, settings.image().length());
                let scene = Scene::new(seed, settings);
                Box::pin(run(outlet, period, header, length, move |frame, room| scene.write(frame, room)))
            }
        }
    }
}

async fn run(outlet: Outlet, period_s: f64, header: FrameHeader, length: usize, write: impl Fn(u64, &mut [u8])) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(period_s));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for frame in 0.. {
        if !outlet.wanted() {
            outlet.until_wanted().await;
            ticks.reset();
        }
        ticks.tick().await;
        outlet.write(header, length, |room| write(frame, room));
        outlet.flush();
    }
}

fn signal_header(settings: &SignalSettings) -> FrameHeader {
    FrameHeader {
        kind: Kind::Series,
        format: Format::F32,
        width: settings.window,
        height: 1,
        stride: u32::try_from(settings.length()).unwrap_or(u32::MAX),
        channels: u32::try_from(settings.channels.len()).unwrap_or(u32::MAX),
        // Checked to be at most 1e6 hertz, so this fits.
        rate_mhz: (settings.rate_hz * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32,
        ..FrameHeader::new("", 0)
    }
}

fn image_header(image: &RawImage) -> FrameHeader {
    FrameHeader {
        kind: Kind::Image,
        format: image.pixel.into(),
        width: image.width,
        height: image.height,
        stride: image.stride(),
        ..FrameHeader::new("", 0)
    }
}

impl SceneSettings {
    /// The layout of its images.
    pub fn image(&self) -> RawImage {
        let pixel = if self.color { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
        RawImage { width: self.width, height: self.height, pixel }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
