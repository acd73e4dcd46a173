//! Samples through a device's buffer.
//!
//! The character device is opened first, so that a program that has it open is noticed before anything is set; the buffer is
//! stopped when the sensor ends or nobody wants its frames.
//!
//! Bytes come as the kernel has them, a scan at a time or torn anywhere; what does not make a scan yet is kept.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    time::Duration,
};

use super::{
    IioError, IioSettings, header,
    layout::{Element, Layout},
    tree::Device,
};
use crate::{
    backoff::Backoff,
    frames::Block,
    sensors::{Outlet, ready::Ready},
};

/// Bytes that are read at once.
const STEP: usize = 16 << 10;
/// A device that gives nothing for so long, or for three windows, is looked at again.
const SILENCE: Duration = Duration::from_secs(10);

/// An open device, whose buffer runs until it is dropped.
struct Running {
    device: Device,
    file: File,
    layout: Layout,
    rate_hz: Option<f64>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.device.enable(false) {
            tracing::debug!("{error}");
        }
    }
}

pub(super) async fn run(
    device: Device,
    settings: &IioSettings,
    largest: usize,
    outlet: &Outlet,
    backoff: &mut Backoff,
) -> Result<(), IioError> {
    let wanted = settings.clone();
    let opened = tokio::task::spawn_blocking(move || start(device, &wanted)).await;
    let running = opened.map_err(|_| IioError::Gone)??;
    let mut windows = Windows::new(&running, settings, largest)?;
    let mut bytes = vec![0; STEP.max(running.layout.bytes)].into_boxed_slice();
    let mut torn = 0;
    let path = running.device.node().to_owned();
    let failed = |source| IioError::File { path: path.clone(), source };
    let silence = SILENCE.max(running.rate_hz.map_or(Duration::ZERO, |hz| {
        Duration::from_secs_f64((3.0 * f64::from(settings.window) / hz.max(0.001)).clamp(0.0, 1e6))
    }));
    let ready = Ready::new(&running.file).map_err(failed)?;
    while outlet.wanted() {
        let guard = tokio::time::timeout(silence, ready.readable()).await;
        let mut guard = guard.map_err(|_| IioError::Silent { seconds: silence.as_secs() })?.map_err(failed)?;
        let Some(room) = bytes.get_mut(torn..) else { return Err(IioError::Gone) };
        match (&running.file).read(room) {
            Ok(0) => return Err(IioError::Gone),
            Ok(count) => torn = windows.take(&mut bytes, torn + count, outlet, backoff),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
                return Err(IioError::Gone);
            }
            Err(error) => return Err(failed(error)),
        }
        // A device that is faster than this reads must not keep the others from their turn.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Opens the device, sets it and starts its buffer.
fn start(device: Device, settings: &IioSettings) -> Result<Running, IioError> {
    if !device.has_buffer() {
        return Err(IioError::NoBuffer { device: device.name });
    }
    let path = device.node().to_owned();
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let opened = File::options().read(true).custom_flags(nonblocking).open(&path);
    let file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::ResourceBusy => IioError::Busy { path: path.clone() },
        _ => IioError::File { path: path.clone(), source },
    })?;
    // Nothing can be set while it runs, as it may after a crash.
    device.enable(false)?;
    let rate_hz = device.prepare(settings)?;
    let channels = device.scanned(&settings.channels)?;
    let timestamp = settings.timestamp && device.has_timestamp();
    device.select(&channels, timestamp)?;
    let mut elements = Vec::with_capacity(channels.len());
    for channel in &channels {
        let (scale, offset) = device.scaling(&channel.name);
        elements.push(Element { kind: device.kind(&channel.name)?, scale, offset });
    }
    let timestamp = timestamp.then(|| device.kind("timestamp")).transpose()?;
    let layout = Layout::new(&elements, timestamp, settings.raw)
        .map_err(|source| IioError::Layout { path: path.clone(), source })?;
    device.size_buffer(settings.buffer, settings.window)?;
    device.enable(true)?;
    Ok(Running { device, file, layout, rate_hz })
}

/// Makes windows of scans.
struct Windows<'a> {
    layout: &'a Layout,
    header: sanderling_guest::frame::FrameHeader,
    length: usize,
    wall_time: Option<bool>,
    block: Option<Block>,
    filled: usize,
}

impl<'a> Windows<'a> {
    fn new(running: &'a Running, settings: &IioSettings, largest: usize) -> Result<Self, IioError> {
        let layout = &running.layout;
        let length = layout.row().saturating_mul(settings.window as usize);
        if length > largest {
            let why = format!("a window of {length} bytes, where {largest} are allowed; lower `window`");
            let source = io::Error::new(io::ErrorKind::InvalidInput, why);
            return Err(IioError::File { path: running.device.node().to_owned(), source });
        }
        let header = header(settings.window, layout.channels, layout.output, running.rate_hz);
        let wall_time = running.device.timestamps_are_wall_time();
        Ok(Self { layout, header, length, wall_time, block: None, filled: 0 })
    }

    /// Takes the scans that are whole, gives the windows that they fill, and moves what remains to the front.
    fn take(&mut self, bytes: &mut [u8], end: usize, outlet: &Outlet, backoff: &mut Backoff) -> usize {
        let scan = self.layout.bytes.max(1);
        let whole = end - end % scan;
        for scan in bytes.get(..whole).unwrap_or_default().chunks_exact(scan) {
            if self.scan(scan, outlet) {
                outlet.well();
                backoff.reset();
            }
        }
        outlet.flush();
        bytes.copy_within(whole..end, 0);
        end - whole
    }

    /// Takes one scan. `true` when it filled a window.
    fn scan(&mut self, scan: &[u8], outlet: &Outlet) -> bool {
        let (row, length) = (self.layout.row(), self.length);
        if self.block.is_none() {
            self.block = outlet.pool().take(length);
        }
        let Some(block) = &mut self.block else { return false };
        let end = self.filled + row;
        if let Some(room) = block.bytes_mut().and_then(|bytes| bytes.get_mut(self.filled..end)) {
            self.layout.decode(scan, room);
        }
        self.filled = end;
        if end < length {
            return false;
        }
        let mut header = self.header;
        match (self.layout.timestamp(scan), self.wall_time) {
            (Some(time), Some(true)) => header.captured_unix_ns = time,
            (Some(time), Some(false)) => header.captured_mono_ns = u64::try_from(time).unwrap_or(0),
            _ => {}
        }
        outlet.give(header, block, 0, length);
        self.block = None;
        self.filled = 0;
        true
    }
}
