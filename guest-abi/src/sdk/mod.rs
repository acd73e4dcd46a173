//! Writing a guest in Rust: implement [`Guest`], name it in [`guest!`](crate::guest), build for `wasm32-unknown-unknown`.
//!
//! Everything here also compiles natively, where a [`testing::Host`] stands in for the gateway, so that a guest is
//! tested with `cargo test`.

mod host;
pub mod nn;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

use alloc::{string::String, vec, vec::Vec};
use core::cell::RefCell;

use crate::frame::{FrameHeader, HEADER};

/// A guest: made once by `start`, given one frame after the other.
pub trait Guest: Sized {
    /// Reads the configuration, loads the models.
    ///
    /// # Errors
    /// A [`Fault`] is reported with the module, which is then started again a few times and at last quarantined.
    fn start() -> Result<Self, Fault>;

    /// Looks at one frame and emits what it finds.
    ///
    /// # Errors
    /// As [`Guest::start`].
    fn frame(&mut self, frame: &mut Frame) -> Result<(), Fault>;

    /// Called when the module is stopped.
    fn stop(&mut self) {}
}

/// A failed call of the host: one of [`crate::errno`], positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// The guest's own fault code, positive; the host reports it with the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub i32);

impl Fault {
    /// The code for a configuration that does not fit.
    pub const CONFIG: Self = Self(1001);
    /// The code for an inference call that failed.
    pub const INFERENCE: Self = Self(1002);
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self(errno.0.max(1))
    }
}

impl From<nn::NnError> for Fault {
    fn from(_: nn::NnError) -> Self {
        Self::INFERENCE
    }
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// Something is wrong.
    Error = 0,
    /// Something may be wrong.
    Warn = 1,
    /// Something worth knowing.
    Info = 2,
    /// For whoever works on the guest.
    Debug = 3,
    /// Everything.
    Trace = 4,
}

/// Wall and monotonic time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since 1970.
    pub unix_ns: i64,
    /// Nanoseconds since some moment, never going back.
    pub mono_ns: u64,
}

/// The current frame. Its content stays with the host until it is asked for.
#[derive(Debug)]
pub struct Frame {
    header: FrameHeader,
    buffer: Vec<u8>,
    filled: bool,
}

impl Frame {
    const fn empty() -> Self {
        Self { header: FrameHeader::new("", 0), buffer: Vec::new(), filled: false }
    }

    /// Sequence number, time, format and sensor.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The content, copied from the host at the first call for each frame.
    ///
    /// # Errors
    /// [`crate::errno::ENODATA`] outside of a frame.
    pub fn bytes(&mut self) -> Result<&[u8], Errno> {
        if !self.filled {
            self.buffer.resize(self.header.len as usize, 0);
            let read = check(host::frame_read(0, &mut self.buffer))?;
            self.buffer.truncate(read);
            self.filled = true;
        }
        Ok(&self.buffer)
    }

    /// The content as the samples of a series of f32.
    ///
    /// # Errors
    /// As [`Frame::bytes`].
    pub fn samples(&mut self) -> Result<impl Iterator<Item = f32> + '_, Errno> {
        Ok(self.bytes()?.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }

    fn next(&mut self) -> Result<(), Errno> {
        let mut bytes = [0; HEADER];
        check(host::frame_info(&mut bytes))?;
        self.header = FrameHeader::from_bytes(&bytes).ok_or(Errno(crate::errno::EINVAL))?;
        self.filled = false;
        Ok(())
    }
}

/// Queues a record on a channel that the deployment grants.
///
/// # Errors
/// `EACCES` without the grant, `EAGAIN` above the rate, `E2BIG` above 64 KiB.
pub fn emit(channel: &str, record: &[u8]) -> Result<(), Errno> {
    check(host::emit(channel.as_bytes(), record)).map(|_| ())
}

/// Queues a record as JSON; see [`emit`].
///
/// # Errors
/// As [`emit`], and `EINVAL` for a value that JSON cannot say.
pub fn emit_json(channel: &str, record: &impl serde::Serialize) -> Result<(), Errno> {
    emit(channel, &serde_json::to_vec(record).map_err(|_| Errno(crate::errno::EINVAL))?)
}

/// Has a part of the current image encoded as JPEG by the host, and queues that on a channel; needs the grant `evidence` beside that of the
/// channel. The rectangle is x, y, width and height in pixels of the frame; without a size it is the whole frame. The quality is 1 to 100, and is
/// lowered to a quarter at most where the image does not fit a record else. Gives the quality that was used.
///
/// # Errors
/// `EACCES` without a grant, `EAGAIN` above the rate, `EINVAL` for a rectangle that does not fit the frame, `ENODATA` where the frame
/// is no image, `E2BIG` where it does not fit a record.
pub fn emit_evidence(channel: &str, rect: [u32; 4], quality: u8) -> Result<u8, Errno> {
    let mut bytes = [0; crate::image::RECT];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(rect) {
        *to = word.to_le_bytes();
    }
    let used = check(host::emit_evidence(channel.as_bytes(), &bytes, quality))?;
    Ok(u8::try_from(used).unwrap_or(quality))
}

/// Adds to a counter, which is reported with the module.
///
/// # Errors
/// `EINVAL` for a negative value and for what is no name (1 to 64 characters of A-Z a-z 0-9 . _ -) or that of a gauge, `ENOSPC` beyond 64 names.
pub fn count(name: &str, value: f64) -> Result<(), Errno> {
    check(host::metric_add(name.as_bytes(), value)).map(|_| ())
}

/// Sets a gauge, which is reported with the module.
///
/// # Errors
/// As [`count`], but for negative values.
pub fn gauge(name: &str, value: f64) -> Result<(), Errno> {
    check(host::metric_set(name.as_bytes(), value)).map(|_| ())
}

/// Writes a line to the device's log, rate-limited by the host.
pub fn log(level: Level, line: &str) {
    host::log(level as i32, line.as_bytes());
}

/// The deployment's `config`, as JSON text; `null` where it has none.
///
/// # Errors
/// None that a guest can cause; what the host says is passed on.
pub fn config_text() -> Result<String, Errno> {
    let length = check(host::config(&mut []))?;
    let mut text = vec![0; length];
    check(host::config(&mut text))?;
    String::from_utf8(text).map_err(|_| Errno(crate::errno::EINVAL))
}

/// The deployment's `config` in a type of the guest's own; a deployment without one counts as `{}`. What does not fit is logged in words.
///
/// # Errors
/// [`Fault::CONFIG`].
pub fn config<T: serde::de::DeserializeOwned>() -> Result<T, Fault> {
    let text = config_text()?;
    serde_json::from_str(if text == "null" { "{}" } else { &text }).map_err(|error| {
        log(Level::Error, &alloc::format!("the module's config: {error}"));
        Fault::CONFIG
    })
}

/// The device's time.
pub fn now() -> Now {
    let mut bytes = [0; 16];
    host::now(&mut bytes);
    let (unix, mono) = bytes.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    Now { unix_ns: word(unix).cast_signed(), mono_ns: word(mono) }
}

/// Makes the current frame a tensor in the guest's memory; see [`crate::image`].
///
/// # Errors
/// `ENODATA` where the frame is no image, `EINVAL` for an operation that does not fit it or a tensor of the wrong length.
pub fn image_tensor(op: &crate::image::ImageOp, tensor: &mut [u8]) -> Result<(), Errno> {
    check(host::image_tensor(&op.to_bytes(), tensor)).map(|_| ())
}

fn check(result: i32) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno(result.saturating_neg()))
}

/// Holds a guest between calls of the host. Only [`guest!`](crate::guest) makes one.
#[doc(hidden)]
pub struct Slot<G>(RefCell<Option<(G, Frame)>>);

impl<G: Guest> Slot<G> {
    #[doc(hidden)]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    #[doc(hidden)]
    pub fn start(&self) -> i32 {
        match G::start() {
            Ok(guest) => {
                self.0.replace(Some((guest, Frame::empty())));
                0
            }
            Err(Fault(code)) => code.max(1),
        }
    }

    #[doc(hidden)]
    pub fn frame(&self) -> i32 {
        let mut slot = self.0.borrow_mut();
        let Some((guest, frame)) = slot.as_mut() else { return Fault::from(Errno(crate::errno::ENODATA)).0 };
        match frame.next().map_err(Fault::from).and_then(|()| guest.frame(frame)) {
            Ok(()) => 0,
            Err(Fault(code)) => code.max(1),
        }
    }

    #[doc(hidden)]
    pub fn stop(&self) {
        if let Some((guest, _)) = self.0.borrow_mut().as_mut() {
            guest.stop();
        }
    }
}

impl<G: Guest> Default for Slot<G> {
    fn default() -> Self {
        Self::new()
    }
}

/// Exports a type that implements [`Guest`] as the module's guest.
#[macro_export]
macro_rules! guest {
    ($guest:ty) => {
        ::std::thread_local! {
            static SANDERLING_GUEST: $crate::sdk::Slot<$guest> = const { $crate::sdk::Slot::new() };
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn sanderling_abi() -> i32 {
            $crate::ABI
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn sanderling_start() -> i32 {
            SANDERLING_GUEST.with($crate::sdk::Slot::start)
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn sanderling_frame() -> i32 {
            SANDERLING_GUEST.with($crate::sdk::Slot::frame)
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn sanderling_stop() {
            SANDERLING_GUEST.with($crate::sdk::Slot::stop)
        }
    };
}
