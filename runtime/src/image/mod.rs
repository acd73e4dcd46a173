//! Images: compressed frames to pixels ([`decode_frame`]), pixels to tensors ([`Preparer`]), and to JPEG for evidence.
//!
//! Purpose: a guest never touches pixels in the interpreter; the host crops, resizes, converts and normalises.
//!
//! Invariants: nothing is read outside of a frame's content, whatever its header claims; nothing is allocated before the
//! sizes that a header or an operation claims were held against the limits. What depends on an operation and on the kind of a
//! frame is worked out once, and kept for the last [`MAX_PLANS`] of them; so a steady stream of frames allocates nothing.
//!
//! The order of an operation: the frame is cropped (pixels outside of the crop do not bleed in), resized, columns
//! first and then rows, and only then converted, normalised and laid out. So no pixel is converted that the tensor does not have.
//! Of YUYV and NV12 luma and chroma are resized each in its own resolution, and become RGB at the tensor's size (BT.601, limited
//! range, as video devices deliver it); along an axis that keeps its size, and with the filter nearest, chroma is repeated, so
//! that an operation which changes no size converts pixel by pixel. Gray16 becomes its high byte. The module `reference`, which
//! is built for tests alone, says the same in the plainest way, and the tests hold this one to it byte by byte.
//!
//! For gray8 and rgb8 the result is that of Pillow's `crop`, `resize` (`NEAREST`, `BILINEAR`, `BOX`), `convert`: the same with nearest, and
//! within one gray level with the others, since Pillow rounds to 8 bits twice and this once.
//!
//! Failure modes: an [`ImageError`] for a frame that is no image or is shorter than it claims, for a crop outside of
//! it, and for buffers above the limit.

mod axis;
mod decode;
mod evidence;
mod plan;
#[cfg(test)]
mod reference;
mod rows;
mod source;
mod tensor;
#[cfg(test)]
mod tests;
mod vector;

use sanderling_guest::{frame::FrameHeader, image::ImageOp};
use thiserror::Error;

pub use decode::{DecodeError, DecodeLimits, decode_frame, wanted};
use plan::{Key, Plan};
use rows::Rows;
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
    /// A compressed frame does not decode.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// It does not fit a record, however low the quality.
    #[error("{width} x {height} pixels take more than {limit} bytes as JPEG of quality {quality}; crop, or scale down")]
    Record {
        /// Pixels a row.
        width: usize,
        /// Rows.
        height: usize,
        /// The lowest quality that was tried.
        quality: u8,
        /// The longest record.
        limit: usize,
    },
}

/// Operations whose plans are kept: a guest may look at a frame in as many ways without any of them being worked out anew.
pub const MAX_PLANS: usize = 4;

/// Turns frames into tensors; owns the buffers for it.
pub struct Preparer {
    /// The one used last at the end.
    plans: Vec<Plan>,
    rows: Rows,
    tables: Tables,
    limit: usize,
}

impl Preparer {
    /// A preparer whose buffers together stay below `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { plans: Vec::with_capacity(MAX_PLANS), rows: Rows::new(), tables: Tables::default(), limit }
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
        let key = Key::new(&source, source.crop(op.crop)?, op);
        let needed = key.needs().saturating_mul(MAX_PLANS);
        if needed > self.limit {
            return Err(ImageError::TooLarge { needed, limit: self.limit });
        }
        self.tables.set(op);
        let plan = plan(&mut self.plans, key, &source);
        for y in 0..op.height as usize {
            self.tables.write(self.rows.make(&source, plan, y), op, y, out);
        }
        Ok(())
    }
}

/// The plan for `key`, made where there is none in place of the one that was not used for longest.
fn plan<'a>(plans: &'a mut Vec<Plan>, key: Key, source: &Source<'_>) -> &'a Plan {
    match plans.iter().position(|plan| plan.key == key) {
        // The last one is the one that is used again and again.
        Some(at) => plans[at..].rotate_left(1),
        None => {
            if plans.len() >= MAX_PLANS {
                plans.remove(0);
            }
            plans.push(Plan::new(key, source));
        }
    }
    &plans[plans.len() - 1]
}

/// Red, green and blue to gray: 0.299 R + 0.587 G + 0.114 B, rounded, in the integers that Pillow uses.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000;
    // The weights sum to 65,536, so the high part is at most 255.
    (sum >> 16).min(255) as u8
}
