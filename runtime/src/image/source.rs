//! The current frame as an image: checks its header against its content, crops, and says where its samples lie.
//!
//! Invariant: after [`Source::new`] every row that the header claims lies inside of the content, each with all of its samples.

use sanderling_guest::frame::{Format, FrameHeader, Kind};

use super::ImageError;

/// A rectangle inside of the frame, in pixels; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crop {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// What the samples of a frame are, once there is one of each for a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Samples {
    /// One of gray.
    Gray,
    /// One of luma in limited range.
    Luma,
    /// Red, green and blue.
    Rgb,
    /// Luma and two of chroma.
    Yuv,
}

/// Samples of one kind in a row: one in each group of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    /// Bytes of a group.
    pub(super) step: usize,
    /// The sample's place in the group.
    pub(super) offset: usize,
    /// Pixels of a row that share a sample.
    pub(super) shared: usize,
}

/// Rows that hold the same kinds of samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    /// Whether the rows follow those of the frame's height, as NV12's chroma does.
    pub(super) below: bool,
    /// Rows of pixels that share a row.
    pub(super) shared: usize,
    /// The samples in it, in the order of [`Samples`].
    pub(super) lanes: &'static [Lane],
}

const fn lane(step: usize, offset: usize, shared: usize) -> Lane {
    Lane { step, offset, shared }
}

const fn whole(lanes: &'static [Lane]) -> Band {
    Band { below: false, shared: 1, lanes }
}

const GRAY8: &[Band] = &[whole(&[lane(1, 0, 1)])];
const GRAY16: &[Band] = &[whole(&[lane(2, 1, 1)])];
const RGB8: &[Band] = &[whole(&[lane(3, 0, 1), lane(3, 1, 1), lane(3, 2, 1)])];
const BGR8: &[Band] = &[whole(&[lane(3, 2, 1), lane(3, 1, 1), lane(3, 0, 1)])];
const YUYV: &[Band] = &[whole(&[lane(2, 0, 1), lane(4, 1, 2), lane(4, 3, 2)])];
const YUYV_LUMA: &[Band] = &[whole(&[lane(2, 0, 1)])];
const NV12: &[Band] =
    &[whole(&[lane(1, 0, 1)]), Band { below: true, shared: 2, lanes: &[lane(2, 0, 2), lane(2, 1, 2)] }];

/// A frame of raw pixels.
pub(super) struct Source<'a> {
    pub(super) format: Format,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) stride: usize,
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    pub(super) fn new(header: &FrameHeader, bytes: &'a [u8]) -> Result<Self, ImageError> {
        let (width, height) = (header.width as usize, header.height as usize);
        // Chroma is shared by two columns, so an odd width has half a pair more.
        let row = match header.format {
            Format::Gray8 => Some(width),
            Format::Rgb8 | Format::Bgr8 => width.checked_mul(3),
            Format::Gray16 => width.checked_mul(2),
            Format::Yuyv => width.div_ceil(2).checked_mul(4),
            Format::Nv12 => width.div_ceil(2).checked_mul(2),
            _ => return Err(ImageError::NotPixels),
        };
        if header.kind != Kind::Image || width == 0 || height == 0 {
            return Err(ImageError::NotPixels);
        }
        let short = || ImageError::Short {
            width: header.width,
            height: header.height,
            stride: header.stride,
            len: bytes.len(),
        };
        let row = row.ok_or_else(short)?;
        let stride = if header.stride == 0 { row } else { header.stride as usize };
        let rows = if header.format == Format::Nv12 { height.checked_add(height.div_ceil(2)) } else { Some(height) };
        let last = rows.and_then(|rows| (rows - 1).checked_mul(stride));
        let needed = last.and_then(|last| last.checked_add(row)).ok_or_else(short)?;
        if stride < row || needed > bytes.len() {
            return Err(short());
        }
        Ok(Self { format: header.format, width, height, stride, bytes })
    }

    /// The rectangle that an operation names, the whole frame for the one without a size.
    pub(super) fn crop(&self, crop: [u32; 4]) -> Result<Crop, ImageError> {
        let [x, y, width, height] = crop.map(|side| side as usize);
        if width == 0 && height == 0 {
            return Ok(Crop { x: 0, y: 0, width: self.width, height: self.height });
        }
        let fits =
            |start: usize, len: usize, side: usize| len > 0 && start.checked_add(len).is_some_and(|end| end <= side);
        if fits(x, width, self.width) && fits(y, height, self.height) {
            return Ok(Crop { x, y, width, height });
        }
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        Err(ImageError::Crop { crop, width: side(self.width), height: side(self.height) })
    }

    /// What there is to be read, and where; `gray` where the tensor is gray, for which chroma does not count.
    pub(super) fn samples(&self, gray: bool) -> (Samples, &'static [Band]) {
        match self.format {
            Format::Rgb8 => (Samples::Rgb, RGB8),
            Format::Bgr8 => (Samples::Rgb, BGR8),
            Format::Yuyv if gray => (Samples::Luma, YUYV_LUMA),
            Format::Yuyv => (Samples::Yuv, YUYV),
            Format::Nv12 if gray => (Samples::Luma, GRAY8),
            Format::Nv12 => (Samples::Yuv, NV12),
            Format::Gray16 => (Samples::Gray, GRAY16),
            _ => (Samples::Gray, GRAY8),
        }
    }

    /// The content from byte `x` of a row on.
    pub(super) fn from(&self, row: usize, x: usize) -> &'a [u8] {
        self.bytes.get(row * self.stride + x..).unwrap_or_default()
    }
}
