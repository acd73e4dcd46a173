//! A sensor of Linux's Industrial I/O: accelerometers, ADCs, light, pressure …
//!
//! Where the device has a buffer, samples come through its character device in the kernel's own pace ([`buffered`]); where it has none,
//! its `in_*_raw` files are polled ([`polled`]). Both go by the files in sysfs and need no library
//! (docs/decisions/0029-iio-without-libiio.md). A frame is a window of a series: scaled to the units of IIO as f32, or the
//! device's own numbers as i16 or i32.
//!
//! Failure modes: a device that is away, that another program has open, that does not have what the settings ask for or that gives
//! nothing for a while is reported, closed, and tried again with growing pauses.
//!
//! Limits: one device a sensor; windows of at most 1 Mi samples; the first buffer of a device.

mod buffered;
mod layout;
mod polled;
mod tree;

use std::{io, path::PathBuf, pin::Pin};

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use serde::Deserialize;
use thiserror::Error;

use self::{
    layout::{LayoutError, Output},
    tree::Device,
};
use super::{Outlet, Sensor};
use crate::backoff::Backoff;

/// A sensor of Industrial I/O.
#[derive(Clone, Debug, PartialEq)]
pub struct IioSettings {
    /// Its folder's name, such as `iio:device0`, or what its file `name` says.
    pub device: String,
    /// Its channels without `in_`, such as `accel_x`; none: all that it has.
    pub channels: Vec<String>,
    /// Samples of each channel in one frame.
    pub window: u32,
    /// Through its buffer or from its files.
    pub mode: IioMode,
    /// Samples a second that the device is set to; without one it keeps its own. When polled, the pace.
    pub rate_hz: Option<f64>,
    /// The trigger that is set, by name.
    pub trigger: Option<String>,
    /// Samples that the kernel buffers.
    pub buffer: u32,
    /// Whether samples stay what the device says.
    pub raw: bool,
    /// Whether the time of a frame is the device's own, where it has one.
    pub timestamp: bool,
    /// The largest frame that is allowed, in bytes.
    pub max_frame: usize,
}

/// How samples are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IioMode {
    /// Through the buffer where there is one, else polled.
    #[default]
    Auto,
    /// Through the buffer.
    Buffer,
    /// From the files `in_*_raw`.
    Poll,
}

/// Where the kernel shows its devices.
#[derive(Clone, Debug)]
struct Roots {
    sysfs: PathBuf,
    dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sysfs: "/sys/bus/iio/devices".into(), dev: "/dev".into() }
    }
}

/// Why a device gives no samples.
#[derive(Debug, Error)]
enum IioError {
    #[error("there is no IIO device {wanted:?}; there are {found}")]
    NoDevice { wanted: String, found: String },
    #[error("{device} has no channel {wanted:?}; it has {found}")]
    NoChannel { device: String, wanted: String, found: String },
    #[error("{device} has no buffer; set `mode = \"poll\"` or \"auto\"")]
    NoBuffer { device: String },
    #[error("there is no trigger {wanted:?}; there are {found}")]
    NoTrigger { wanted: String, found: String },
    #[error("{device} has nothing that sets its rate; leave `rate_hz` out")]
    NoRate { device: String },
    #[error("polling needs `rate_hz`, up to 1000; {device} has no buffer or is not to use it")]
    NoPace { device: String },
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: another program has it open; end that one", path = path.display())]
    Busy { path: PathBuf },
    #[error("{path}: {source}", path = path.display())]
    Layout { path: PathBuf, source: LayoutError },
    #[error(
        "no sample for {seconds} s: is there a trigger that fires? `cat current_trigger` in its folder `trigger` says which"
    )]
    Silent { seconds: u64 },
    #[error("the device is gone")]
    Gone,
}

/// The sensor.
pub struct Iio {
    settings: IioSettings,
    roots: Roots,
}

impl Iio {
    /// A sensor of checked settings.
    pub fn new(settings: IioSettings) -> Self {
        Self { settings, roots: Roots::default() }
    }

    /// Looks whether the device and its channels are there; sets and opens nothing.
    ///
    /// # Errors
    /// What is missing.
    pub fn probe(settings: &IioSettings) -> Result<String, String> {
        probe(settings, &Roots::default()).map_err(|error| error.to_string())
    }
}

fn probe(settings: &IioSettings, roots: &Roots) -> Result<String, IioError> {
    let device = Device::find(&settings.device, roots)?;
    let buffered = settings.mode != IioMode::Poll && device.has_buffer();
    if settings.mode == IioMode::Buffer && !buffered {
        return Err(IioError::NoBuffer { device: device.name });
    }
    let (channels, how) = if buffered {
        (device.scanned(&settings.channels)?.len(), "through its buffer")
    } else {
        (device.readable(&settings.channels)?.len(), "polled")
    };
    Ok(format!("{} with {channels} channels, {how}", device.name))
}

impl Sensor for Iio {
    fn largest_frame(&self) -> usize {
        // Before the device is there its channels may be unknown; the window of all that it may have is the bound.
        let channels = match (self.settings.channels.len(), Device::find(&self.settings.device, &self.roots)) {
            // A channel may be repeated, as those of a quaternion are.
            (0, Err(_)) => return self.settings.max_frame,
            (0, Ok(device)) => device.channel_count(),
            (named, _) => named,
        };
        let row = channels.saturating_mul(4 * size_of::<f32>());
        row.saturating_mul(self.settings.window as usize).min(self.settings.max_frame)
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let largest = self.largest_frame();
            run(self.settings, self.roots, largest, outlet).await;
        })
    }
}

async fn run(settings: IioSettings, roots: Roots, largest: usize, outlet: Outlet) {
    let mut backoff = Backoff::default();
    loop {
        outlet.until_wanted().await;
        let ended = once(&settings, &roots, largest, &outlet, &mut backoff).await;
        if let Err(error) = ended {
            outlet.failed(error.to_string());
            backoff.wait().await;
        }
    }
}

/// Opens the device and gives its frames until it fails or nobody wants them.
async fn once(
    settings: &IioSettings,
    roots: &Roots,
    largest: usize,
    outlet: &Outlet,
    backoff: &mut Backoff,
) -> Result<(), IioError> {
    let device = Device::find(&settings.device, roots)?;
    match settings.mode {
        IioMode::Auto if !device.has_buffer() => polled::run(&device, settings, largest, outlet, backoff).await,
        IioMode::Poll => polled::run(&device, settings, largest, outlet, backoff).await,
        IioMode::Auto | IioMode::Buffer => buffered::run(device, settings, largest, outlet, backoff).await,
    }
}

/// The header of a window.
fn header(window: u32, channels: usize, output: Output, rate_hz: Option<f64>) -> FrameHeader {
    let format = match output {
        Output::F32 => Format::F32,
        Output::I16 => Format::I16,
        Output::I32 => Format::I32,
    };
    let length = channels.saturating_mul(output.bytes()).saturating_mul(window as usize);
    FrameHeader {
        kind: Kind::Series,
        format,
        width: window,
        height: 1,
        stride: u32::try_from(length).unwrap_or(u32::MAX),
        channels: u32::try_from(channels).unwrap_or(u32::MAX),
        rate_mhz: (rate_hz.unwrap_or(0.0) * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32,
        ..FrameHeader::new("", 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
