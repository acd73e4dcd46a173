//! Images: compressed frames to pixels ([`decode_frame`]), and pixels to tensors ([`Preparer`]).
//!
//! Purpose: a guest never touches pixels in the interpreter; the host crops, resizes, converts and normalises.
//!
//! Invariants: nothing is read outside of a frame's content, whatever its header claims; nothing is allocated before the
//! sizes that a header or an operation claims were held against the limits. Buffers and the resizer are reused, so a
//! steady stream of frames of one size allocates nothing but the resizer's coefficients.
//!
//! The order of an operation: the frame is cropped (pixels outside of the crop do not bleed in), resized as 8-bit
//! pixels in its own colours, then converted, normalised and laid out. YUYV and NV12 become gray or RGB before they are
//! resized (BT.601, limited range, as video devices deliver it), gray16 becomes its high byte. The result for gray8 and
//! rgb8 is that of Pillow's `crop`, `resize`, `convert` within 1/255.
//!
//! Failure modes: an [`ImageError`] for a frame that is no image or is shorter than it claims, for a crop outside of
//! it, and for buffers above the limit.

mod convert;
mod decode;
mod resize;
mod source;
mod tensor;
#[cfg(test)]
mod tests;

use sanderling_guest::{
    frame::FrameHeader,
    image::{Color, ImageOp},
};
use thiserror::Error;

pub use decode::{DecodeError, DecodeLimits, decode_frame};
use resize::Scaler;
use source::Source;
use tensor::Tables;

/// Why a frame does not become a tensor.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// The frame is not an image of raw pixels.
    #[error("the frame is not an image of raw pixels; set `decode` of this input to gray8 or rgb8 if it is compressed")]
    NotPixels,
    /// The content is shorter than the header's dimensions need.
    #[error("a frame of {width} x {height} pixels with {stride} bytes a row does not fit its {len} bytes of content")]
    Short {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes from row to row.
        stride: u32,
        /// Bytes of content.
        len: usize,
    },
    /// The crop reaches outside of the frame.
    #[error("the crop {crop:?} (x, y, width, height) reaches outside of the frame of {width} x {height} pixels")]
    Crop {
        /// x, y, width, height.
        crop: [u32; 4],
        /// Of the frame.
        width: u32,
        /// Of the frame.
        height: u32,
    },
    /// The place for the tensor has another size.
    #[error("the tensor takes {needed} bytes, but its place has {given}")]
    Length {
        /// Bytes of the tensor.
        needed: usize,
        /// Bytes of the place.
        given: usize,
    },
    /// The buffers would grow above the limit.
    #[error("the operation needs {needed} bytes of buffers, {limit} are allowed; crop, or raise native_memory_mib")]
    TooLarge {
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The resizer refused, which the checks before it should make impossible.
    #[error("the image cannot be resized: {0}")]
    Resize(String),
}

/// Turns frames into tensors; owns the buffers for it.
pub struct Preparer {
    scaler: Scaler,
    converted: Vec<u8>,
    tables: Tables,
    limit: usize,
}

impl Preparer {
    /// A preparer whose buffers together stay below `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { scaler: Scaler::default(), converted: Vec::new(), tables: Tables::default(), limit }
    }

    /// Writes the tensor that `op` makes of a frame to `out`, which has exactly [`ImageOp::tensor_len`] bytes.
    ///
    /// # Errors
    /// As [`ImageError`] says; `out` is then unspecified.
    pub fn prepare(
        &mut self,
        header: &FrameHeader,
        content: &[u8],
        op: &ImageOp,
        out: &mut [u8],
    ) -> Result<(), ImageError> {
        if out.len() != op.tensor_len() {
            return Err(ImageError::Length { needed: op.tensor_len(), given: out.len() });
        }
        let source = Source::new(header, content)?;
        let crop = source.crop(op.crop)?;
        let working = source.working(op.color == Color::Gray);
        let size = (op.width as usize, op.height as usize);
        let direct = source.direct();
        let converted = if direct.is_some() { 0 } else { crop.width * crop.height * working.channels() };
        let needed = Scaler::needs(&crop, size, working.channels()).saturating_add(converted);
        if needed > self.limit {
            return Err(ImageError::TooLarge { needed, limit: self.limit });
        }
        let small = match direct {
            Some(image) => self.scaler.scale(image, &crop, working.channels(), size, op.filter)?,
            None => {
                source.convert(&crop, working, &mut self.converted);
                let (image, whole) = source::View::tight(&self.converted, &crop);
                self.scaler.scale(image, &whole, working.channels(), size, op.filter)?
            }
        };
        self.tables.write(small, working, op, out);
        Ok(())
    }
}

/// Red, green and blue to gray: 0.299 R + 0.587 G + 0.114 B, rounded, in the integers that Pillow uses.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000;
    // The weights sum to 65,536, so the high part is at most 255.
    (sum >> 16).min(255) as u8
}
