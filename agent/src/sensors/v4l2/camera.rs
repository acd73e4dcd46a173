//! Setting a camera: the port to the kernel, and what is asked of it in which order.

use std::io;

use super::{
    CameraError, V4l2Settings,
    format::{self, CameraPixel, FourCc, Shape},
};
use crate::sensors::RawImage;
use sanderling_guest::frame::FrameHeader;

/// The port to the kernel before images flow.
pub(super) trait Camera {
    /// The formats that it offers.
    fn formats(&self) -> io::Result<Vec<FourCc>>;

    /// The sizes of a format, in words.
    fn sizes(&self, format: FourCc) -> io::Result<Vec<String>>;

    /// Asks for images like this, and says what they will be.
    fn set_image(&mut self, asked: Image) -> io::Result<Image>;

    /// Asks for so many images a second, and says how many they will be.
    fn set_rate(&mut self, fps: f64) -> io::Result<f64>;

    /// Its controls.
    fn controls(&self) -> io::Result<Vec<Control>>;

    /// Sets a control.
    fn set_control(&mut self, id: u32, value: i32) -> io::Result<()>;
}

/// The port to the kernel while images flow.
pub(super) trait Frames {
    /// Waits until there is an image, or an error to be had.
    async fn ready(&self) -> io::Result<()>;

    /// The next image, where there is one. Its buffer is the sensor's until it is queued.
    fn dequeue(&self) -> io::Result<Option<Filled>>;

    /// What is in its buffer.
    fn bytes<'a>(&'a self, filled: &'a Filled) -> &'a [u8];

    /// Gives its buffer back to the camera.
    fn queue(&self, filled: Filled) -> io::Result<()>;
}

/// What images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) format: FourCc,
    /// Bytes from one row to the next; only the kernel says it.
    pub(super) stride: u32,
}

/// A buffer with an image. Whoever has one may read it, and nobody else may.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) index: u32,
    /// Bytes of the image.
    pub(super) used: usize,
    /// When it was captured, by the monotonic clock.
    pub(super) mono_ns: Option<u64>,
    /// The driver says that its content is not to be trusted.
    pub(super) damaged: bool,
}

/// A control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) id: u32,
    /// As `v4l2-ctl -l` prints it.
    pub(super) name: String,
    pub(super) min: i32,
    pub(super) max: i32,
    /// A switch or a menu, as those are that say who decides on the value of another.
    pub(super) is_switch: bool,
}

/// What was agreed on with a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) header: FrameHeader,
    pub(super) shape: Shape,
    pub(super) fps: Option<f64>,
    pub(super) buffers: u32,
}

/// Sets a camera as the settings say.
pub(super) fn configure(camera: &mut impl Camera, settings: &V4l2Settings) -> Result<Plan, CameraError> {
    let (pixel, image) = choose(camera, settings)?;
    let fps = match settings.fps {
        Some(fps) => Some(camera.set_rate(fps).map_err(CameraError::of("`fps` cannot be set; leave it out"))?),
        None => None,
    };
    set_controls(camera, &settings.controls)?;
    let shape = match pixel.raw() {
        Some(pixel) => Shape::rows(&RawImage { width: image.width, height: image.height, pixel }, image.stride),
        None => Shape::Jpeg { most: settings.largest() },
    };
    let header = format::header(pixel, image.width, image.height);
    Ok(Plan { header, shape, fps, buffers: settings.buffers })
}

/// The first of the formats asked for that the camera makes in the size asked for.
fn choose(camera: &mut impl Camera, settings: &V4l2Settings) -> Result<(CameraPixel, Image), CameraError> {
    let offered = camera.formats().map_err(CameraError::of("its formats cannot be listed"))?;
    for pixel in &settings.pixel {
        for format in pixel.codes().iter().filter(|format| offered.contains(format)) {
            let asked = Image { width: settings.width, height: settings.height, format: *format, stride: 0 };
            let given = camera.set_image(asked).map_err(CameraError::of("its format cannot be set"))?;
            // The kernel answers with the nearest that there is.
            if (given.width, given.height, given.format) == (asked.width, asked.height, asked.format) {
                return Ok((*pixel, given));
            }
        }
    }
    let of = |format: &FourCc| match camera.sizes(*format) {
        Ok(sizes) if !sizes.is_empty() => format!("{format} in {}", sizes.join(", ")),
        _ => format.to_string(),
    };
    let offered: Vec<String> = offered.iter().map(of).collect();
    let pixels: Vec<String> = settings.pixel.iter().map(|pixel| format!("{pixel:?}").to_lowercase()).collect();
    let wanted = format!("{} x {} in {}", settings.width, settings.height, pixels.join(", "));
    let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join("; ") };
    Err(CameraError::Format { wanted, offered })
}

/// Sets controls, switches first: exposure can be set once it is not the camera's own to set.
fn set_controls(camera: &mut impl Camera, wanted: &[(String, i32)]) -> Result<(), CameraError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let controls = camera.controls().map_err(CameraError::of("its controls cannot be listed"))?;
    let mut chosen = Vec::with_capacity(wanted.len());
    for (name, value) in wanted {
        let Some(control) = controls.iter().find(|control| control.name == *name) else {
            let offered: Vec<&str> = controls.iter().map(|control| control.name.as_str()).collect();
            let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
            return Err(CameraError::NoControl { wanted: name.clone(), offered });
        };
        if !(control.min..=control.max).contains(value) {
            let (name, min, max) = (name.clone(), control.min, control.max);
            return Err(CameraError::ControlRange { name, value: *value, min, max });
        }
        chosen.push((control, *value));
    }
    chosen.sort_by_key(|(control, _)| !control.is_switch);
    for (control, value) in chosen {
        let name = || control.name.clone();
        camera.set_control(control.id, value).map_err(|source| CameraError::Control { name: name(), value, source })?;
    }
    Ok(())
}

/// A control's name as `v4l2-ctl` prints it: small letters and digits, and lines for everything between them.
pub(super) fn control_name(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.iter().take_while(|byte| **byte != 0) {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte.to_ascii_lowercase()));
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    out.trim_matches('_').to_owned()
}
