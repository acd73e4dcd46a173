//! A sensor of cameras: Video4Linux2, single-planar capture, with the kernel's buffers mapped into memory.
//!
//! Images are given as the camera makes them, row behind row without gaps; Motion-JPEG is given as JPEG and decoded in the worker.
//! Each is copied once, from the kernel's buffer into a block of the pool, and the buffer goes back to the camera at once, so
//! that no module ever holds one. The time of capture is the kernel's.
//!
//! Failure modes: a camera that is away, that another program has, that does not make what the settings ask for, that goes or that falls
//! silent is reported, with what it offers, closed, and tried again with growing pauses. An image that was torn on its way is
//! counted and left out.
//!
//! Invariants: width, height and pixels are those of the settings, or there is no frame. The camera is closed while
//! nobody wants its frames.
//!
//! Limits: no multi-planar devices (`V4L2_CAP_VIDEO_CAPTURE_MPLANE` alone); on 32-bit machines Linux 5.6 or later.

mod abi;
mod camera;
mod format;
mod sys;

use std::{io, path::PathBuf, pin::Pin, time::Duration};

use sanderling_guest::frame::FrameHeader;
use thiserror::Error;

use self::{
    camera::{Filled, Frames, Plan},
    sys::{Device, Live},
};
use super::{Outlet, Sensor};
use crate::backoff::Backoff;
pub use format::CameraPixel;

/// A camera that gives nothing for so long, or for five frames, is opened anew.
const SILENCE: Duration = Duration::from_secs(5);

/// A camera.
#[derive(Clone, Debug, PartialEq)]
pub struct V4l2Settings {
    /// Its node, such as `/dev/video0` or a link in `/dev/v4l/by-id`.
    pub device: PathBuf,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Images a second that it is set to; without one it keeps its own.
    pub fps: Option<f64>,
    /// What the images are to be: the first of these that it makes in this size.
    pub pixel: Vec<CameraPixel>,
    /// The kernel's buffers.
    pub buffers: u32,
    /// What of its controls is set, by name as `v4l2-ctl -l` prints it.
    pub controls: Vec<(String, i32)>,
    /// A compressed image that is larger, in bytes, is left out.
    pub max_frame: usize,
}

/// Why there are no images.
#[derive(Debug, Error)]
enum CameraError {
    #[error("{device} cannot be opened: {source}{hint}", device = device.display())]
    Open { device: PathBuf, source: io::Error, hint: &'static str },
    #[error("{device} is no camera that can be read here: {why}", device = device.display())]
    NoCamera { device: PathBuf, why: String },
    #[error("the camera does not make {wanted}; it offers {offered}")]
    Format { wanted: String, offered: String },
    #[error("the camera has no control {wanted:?}; it has {offered}")]
    NoControl { wanted: String, offered: String },
    #[error("control {name:?} is {value}; allowed: {min} to {max}")]
    ControlRange { name: String, value: i32, min: i32, max: i32 },
    #[error("control {name:?} cannot be set to {value}: {source}")]
    Control { name: String, value: i32, source: io::Error },
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("the camera gave no image for {0} s")]
    Silent(u64),
    #[error("the camera is gone")]
    Gone,
}

impl CameraError {
    /// What an error of the device means.
    fn of(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(code) if code == rustix::io::Errno::NODEV.raw_os_error() => Self::Gone,
            _ => Self::Io { what, source },
        }
    }
}

/// The sensor.
pub struct V4l2 {
    settings: V4l2Settings,
}

impl V4l2 {
    /// A sensor of checked settings.
    pub fn new(settings: V4l2Settings) -> Self {
        Self { settings }
    }

    /// Looks whether the camera is there and can be read; sets nothing, and disturbs no program that has it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn probe(settings: &V4l2Settings) -> Result<String, String> {
        Device::open(&settings.device).map(|device| device.card().to_owned()).map_err(|error| error.to_string())
    }
}

impl V4l2Settings {
    /// The largest frame, in bytes.
    pub(crate) fn largest(&self) -> usize {
        let pixels = (self.width as usize).saturating_mul(self.height as usize);
        let of = |pixel: &CameraPixel| match pixel.raw() {
            Some(pixel) => super::RawImage { width: self.width, height: self.height, pixel }.length(),
            // More than two bytes a pixel are no compression.
            None => pixels.saturating_mul(2).max(64 << 10).min(self.max_frame),
        };
        self.pixel.iter().map(of).max().unwrap_or(0)
    }
}

impl Sensor for V4l2 {
    fn largest_frame(&self) -> usize {
        self.settings.largest()
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let mut backoff = Backoff::default();
            loop {
                outlet.until_wanted().await;
                if let Err(error) = once(&self.settings, &outlet, &mut backoff).await {
                    outlet.failed(error.to_string());
                    backoff.wait().await;
                }
            }
        })
    }
}

/// Opens the camera and gives its images until it fails or nobody wants them.
async fn once(settings: &V4l2Settings, outlet: &Outlet, backoff: &mut Backoff) -> Result<(), CameraError> {
    let wanted = settings.clone();
    // A camera may think about each setting for a while.
    let started = tokio::task::spawn_blocking(move || start(&wanted)).await;
    let (device, plan) = started.map_err(|_| CameraError::Gone)??;
    let ended = match Live::new(&device) {
        Ok(live) => pump(live, &plan, outlet, backoff).await,
        Err(source) => Err(CameraError::Io { what: "the camera cannot be waited for", source }),
    };
    // So does it about being stopped. Where this is not waited for, it is stopped all the same.
    let _ = tokio::task::spawn_blocking(move || drop(device)).await;
    ended
}

fn start(settings: &V4l2Settings) -> Result<(Device, Plan), CameraError> {
    let mut device = Device::open(&settings.device)?;
    let plan = camera::configure(&mut device, settings)?;
    device.start(settings.buffers).map_err(CameraError::of("the camera does not start"))?;
    Ok((device, plan))
}

/// Gives images until they end.
async fn pump(frames: impl Frames, plan: &Plan, outlet: &Outlet, backoff: &mut Backoff) -> Result<(), CameraError> {
    let slow = plan.fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f64((5.0 / fps).clamp(0.0, 1e6)));
    let silence = SILENCE.max(slow);
    while outlet.wanted() {
        let ready = tokio::time::timeout(silence, frames.ready()).await;
        ready.map_err(|_| CameraError::Silent(silence.as_secs()))?.map_err(CameraError::of("waiting for an image"))?;
        // At most as many as there are buffers before others have their turn.
        for _ in 0..plan.buffers {
            let next = frames.dequeue().map_err(CameraError::of("taking an image"))?;
            let Some(filled) = next else { break };
            match give(&frames, &filled, plan, outlet) {
                Ok(()) => {
                    outlet.well();
                    backoff.reset();
                }
                Err(why) => outlet.refused(why),
            }
            frames.queue(filled).map_err(CameraError::of("giving a buffer back"))?;
        }
        outlet.flush();
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Gives one image, or says why it is none.
fn give(frames: &impl Frames, filled: &Filled, plan: &Plan, outlet: &Outlet) -> Result<(), String> {
    if filled.damaged {
        return Err(
            "an image was damaged on its way from the camera: look at its cable and at the load of its bus".into()
        );
    }
    let bytes = frames.bytes(filled);
    let length = plan.shape.length(bytes).map_err(|error| error.to_string())?;
    let header = FrameHeader { captured_mono_ns: filled.mono_ns.unwrap_or(0), ..plan.header };
    outlet.write(header, length, |room| plan.shape.copy(bytes, room));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
