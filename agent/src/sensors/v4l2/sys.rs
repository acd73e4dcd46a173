//! The kernel's side of a camera: its ioctls and its memory.
//!
//! This file holds the `unsafe` of the cameras: ioctls with the structures of [`super::abi`], and the mapping of the kernel's
//! buffers.
//!
//! Invariants: a buffer is read only between [`Frames::dequeue`] and [`Frames::queue`], while the kernel leaves it alone. Whatever index
//! or size the kernel says is held to what was mapped.

#![allow(unsafe_code)]

use std::{
    cell::Cell,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    ptr::NonNull,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    ioctl::{Opcode, Updater, ioctl},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

use super::{
    CameraError,
    abi::{
        BUFFER_ERROR, Buffer, CAN_CAPTURE, CAN_CAPTURE_PLANES, CAN_SET_RATE, CAN_STREAM, CAPTURE, CONTROL_DISABLED,
        CONTROL_READ_ONLY, Capability, DQBUF, ENUM_FMT, ENUM_FRAMESIZES, FIELD_ANY, FormatDescription, FrameSize,
        HAS_DEVICE_CAPS, ImageFormat, MEMORY_MMAP, NEXT_CONTROL, Plain, QBUF, QUERYBUF, QUERYCAP, QUERYCTRL,
        QueryControl, REQBUFS, RequestBuffers, S_CTRL, S_FMT, S_PARM, SIZE_DISCRETE, STREAMOFF, STREAMON, SetControl,
        StreamParameters, TIMESTAMP_MASK, TIMESTAMP_MONOTONIC,
    },
    camera::{Camera, Control, Filled, Frames, Image, control_name},
    format::FourCc,
};
use crate::sensors::ready::Ready;

/// A driver that goes on listing is not believed.
const MOST_LISTED: u32 = 256;

/// A camera, open. Stops when it is dropped.
pub(super) struct Device {
    file: File,
    card: String,
    maps: Vec<Map>,
}

/// A buffer of the kernel's, mapped.
struct Map {
    start: NonNull<u8>,
    length: usize,
    // Whether the sensor has it, and the kernel leaves it alone.
    is_ours: Cell<bool>,
}

// SAFETY: the mapping belongs to the process, not to the thread that made it; a `Cell` may go from thread to thread.
unsafe impl Send for Map {}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this start and length, once, and slices of it do not outlive the device.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl Device {
    /// Opens a camera, which disturbs nobody who reads it.
    pub(super) fn open(path: &Path) -> Result<Self, CameraError> {
        use std::os::unix::fs::OpenOptionsExt;
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let opened = File::options().read(true).write(true).custom_flags(nonblocking).open(path);
        let file = opened.map_err(|source| {
            let hint = match source.kind() {
                io::ErrorKind::NotFound => "; is it plugged in? `v4l2-ctl --list-devices` lists what is",
                io::ErrorKind::PermissionDenied => {
                    "; the agent's user must be in the group of this file, mostly `video`"
                }
                io::ErrorKind::ResourceBusy => "; another program has it",
                _ => "",
            };
            CameraError::Open { device: path.to_owned(), source, hint }
        })?;
        let mut device = Self { file, card: String::new(), maps: Vec::new() };
        let no_camera = |why: &str| CameraError::NoCamera { device: path.to_owned(), why: why.to_owned() };
        let mut about = Capability::default();
        device.call::<QUERYCAP, _>(&mut about).map_err(|error| no_camera(&error.to_string()))?;
        let caps = if about.capabilities & HAS_DEVICE_CAPS == 0 { about.capabilities } else { about.device_caps };
        if caps & CAN_CAPTURE == 0 {
            let planes = caps & CAN_CAPTURE_PLANES != 0;
            return Err(no_camera(if planes { "it is multi-planar" } else { "it does not capture video" }));
        }
        if caps & CAN_STREAM == 0 {
            return Err(no_camera("it does not stream"));
        }
        let card = about.card.split(|byte| *byte == 0).next().unwrap_or_default();
        device.card = String::from_utf8_lossy(card).into_owned();
        Ok(device)
    }

    /// What it calls itself.
    pub(super) fn card(&self) -> &str {
        &self.card
    }

    fn call<const CODE: Opcode, T: Plain>(&self, value: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: every code of `abi` was made of the structure that it is called with, laid out as the kernel has it, so
            // that the kernel writes nowhere else; whatever it writes is a valid value.
            let done = unsafe { ioctl(&self.file, Updater::<CODE, T>::new(value)) };
            match done {
                Err(rustix::io::Errno::INTR) => {}
                done => return done.map_err(io::Error::from),
            }
        }
    }

    /// Has the kernel make buffers, maps and queues them, and starts the camera.
    pub(super) fn start(&mut self, count: u32) -> io::Result<()> {
        let mut request = RequestBuffers { count, kind: CAPTURE, memory: MEMORY_MMAP, ..RequestBuffers::default() };
        self.call::<REQBUFS, _>(&mut request)?;
        for index in 0..request.count.min(MOST_LISTED) {
            let mut buffer = described(index);
            self.call::<QUERYBUF, _>(&mut buffer)?;
            self.maps.push(map(self.file.as_fd(), buffer.offset, buffer.length)?);
            self.call::<QBUF, _>(&mut described(index))?;
        }
        if self.maps.is_empty() {
            return Err(io::Error::other("the kernel gives no buffers"));
        }
        self.call::<STREAMON, _>(&mut { CAPTURE })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if !self.maps.is_empty() {
            // What cannot be stopped is stopped when it is closed, in a moment.
            let _ = self.call::<STREAMOFF, _>(&mut { CAPTURE });
        }
    }
}

fn described(index: u32) -> Buffer {
    Buffer { index, kind: CAPTURE, memory: MEMORY_MMAP, ..Buffer::default() }
}

fn map(file: BorrowedFd<'_>, offset: u32, length: u32) -> io::Result<Map> {
    let length = length as usize;
    // SAFETY: a new mapping at an address that the kernel chooses; nothing else of this process lies there.
    let start =
        unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, u64::from(offset)) }?;
    let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a buffer was mapped to no address"))?;
    Ok(Map { start, length, is_ours: Cell::new(false) })
}

impl Camera for Device {
    fn formats(&self) -> io::Result<Vec<FourCc>> {
        let list = |index| {
            let mut format = FormatDescription { index, kind: CAPTURE, ..FormatDescription::default() };
            self.call::<ENUM_FMT, _>(&mut format).map(|()| FourCc(format.pixel_format))
        };
        listed(list)
    }

    fn sizes(&self, format: FourCc) -> io::Result<Vec<String>> {
        let list = |index| {
            let mut size = FrameSize { index, pixel_format: format.0, ..FrameSize::default() };
            self.call::<ENUM_FRAMESIZES, _>(&mut size)?;
            let [a, b, _, c, d, _] = size.sizes;
            match size.kind {
                SIZE_DISCRETE => Ok(format!("{a} x {b}")),
                // The one entry there is.
                _ if index == 0 => Ok(format!("{a} to {b} x {c} to {d}")),
                _ => Err(rustix::io::Errno::INVAL.into()),
            }
        };
        listed(list)
    }

    fn set_image(&mut self, asked: Image) -> io::Result<Image> {
        let mut format = ImageFormat {
            kind: CAPTURE,
            #[cfg(target_pointer_width = "64")]
            padding: 0,
            width: asked.width,
            height: asked.height,
            pixel_format: asked.format.0,
            field: FIELD_ANY,
            bytes_per_line: 0,
            size_image: 0,
            color: [0; 6],
            rest: [0; 38],
        };
        self.call::<S_FMT, _>(&mut format)?;
        let (width, height, stride) = (format.width, format.height, format.bytes_per_line);
        Ok(Image { width, height, format: FourCc(format.pixel_format), stride })
    }

    fn set_rate(&mut self, fps: f64) -> io::Result<f64> {
        // The setting is checked to lie between 0.1 and 1000.
        let denominator = (fps * 1000.0).round() as u32;
        let mut parameters = StreamParameters {
            kind: CAPTURE,
            capability: CAN_SET_RATE,
            mode: 0,
            numerator: 1000,
            denominator,
            rest: [0; 46],
        };
        self.call::<S_PARM, _>(&mut parameters)?;
        if parameters.numerator == 0 || parameters.denominator == 0 {
            return Ok(fps);
        }
        Ok(f64::from(parameters.denominator) / f64::from(parameters.numerator))
    }

    fn controls(&self) -> io::Result<Vec<Control>> {
        let mut controls = Vec::new();
        let mut last = 0;
        let next = |_| {
            let mut control = QueryControl { id: last | NEXT_CONTROL, ..QueryControl::default() };
            self.call::<QUERYCTRL, _>(&mut control)?;
            last = control.id;
            Ok(control)
        };
        for control in listed(next)? {
            // Integers, switches, menus and bit masks: what is set by one number of 32 bits.
            let settable = matches!(control.kind, 1 | 2 | 3 | 8 | 9);
            if settable && control.flags & (CONTROL_DISABLED | CONTROL_READ_ONLY) == 0 {
                let name = control_name(&control.name);
                let is_switch = matches!(control.kind, 2 | 3 | 9);
                controls.push(Control { id: control.id, name, min: control.min, max: control.max, is_switch });
            }
        }
        Ok(controls)
    }

    fn set_control(&mut self, id: u32, value: i32) -> io::Result<()> {
        self.call::<S_CTRL, _>(&mut SetControl { id, value })
    }
}

/// Entry by entry, until the kernel says that there are no more. What it does not list at all is empty.
fn listed<T>(mut entry: impl FnMut(u32) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for index in 0..MOST_LISTED {
        match entry(index) {
            Ok(next) => found.push(next),
            Err(error) => match rustix::io::Errno::from_io_error(&error) {
                Some(rustix::io::Errno::INVAL | rustix::io::Errno::NOTTY) => break,
                _ => return Err(error),
            },
        }
    }
    Ok(found)
}

/// A camera whose images flow.
pub(super) struct Live<'a> {
    device: &'a Device,
    ready: Ready<'a>,
}

impl<'a> Live<'a> {
    pub(super) fn new(device: &'a Device) -> io::Result<Self> {
        Ok(Self { device, ready: Ready::new(&device.file)? })
    }
}

impl Frames for Live<'_> {
    async fn ready(&self) -> io::Result<()> {
        loop {
            let mut guard = self.ready.readable().await?;
            let mut polled = [PollFd::new(&self.device.file, PollFlags::IN)];
            // An error is an event too: the next call says which.
            if poll(&mut polled, Some(&Timespec::default()))? > 0 {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    fn dequeue(&self) -> io::Result<Option<Filled>> {
        let mut buffer = described(0);
        match self.device.call::<DQBUF, _>(&mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let map = usize::try_from(buffer.index).ok().and_then(|index| self.device.maps.get(index));
        let map = map.ok_or_else(|| io::Error::other("the kernel filled a buffer that there is not"))?;
        map.is_ours.set(true);
        let is_monotonic = buffer.flags & TIMESTAMP_MASK == TIMESTAMP_MONOTONIC;
        let mono_ns = buffer.seconds.checked_mul(1_000_000_000).zip(buffer.microseconds.checked_mul(1000));
        let mono_ns = mono_ns.and_then(|(seconds, rest)| u64::try_from(seconds.checked_add(rest)?).ok());
        Ok(Some(Filled {
            index: buffer.index,
            used: (buffer.used as usize).min(map.length),
            mono_ns: mono_ns.filter(|_| is_monotonic),
            damaged: buffer.flags & BUFFER_ERROR != 0,
        }))
    }

    fn bytes<'b>(&'b self, filled: &'b Filled) -> &'b [u8] {
        let map = usize::try_from(filled.index).ok().and_then(|index| self.device.maps.get(index));
        let Some(map) = map.filter(|map| map.is_ours.get()) else { return &[] };
        // SAFETY: mapped for as long as the device lives, and no longer than that is the slice. The kernel leaves the buffer alone
        // until it is queued, for which `filled`, that the slice borrows, must be given up.
        unsafe { std::slice::from_raw_parts(map.start.as_ptr(), filled.used.min(map.length)) }
    }

    fn queue(&self, filled: Filled) -> io::Result<()> {
        if let Some(map) = usize::try_from(filled.index).ok().and_then(|index| self.device.maps.get(index)) {
            map.is_ours.set(false);
        }
        self.device.call::<QBUF, _>(&mut described(filled.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_camera_is_refused_with_a_hint() {
        let error = Device::open(Path::new("/dev/video999")).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("/dev/video999") && error.contains("plugged in")));
        let error = Device::open(Path::new("/dev/null")).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("/dev/null is no camera")));
    }
}
