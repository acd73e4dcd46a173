//! The current frame as an image: checks its header against its content, crops, and converts to 8-bit gray or colour.
//!
//! Invariant: after [`Source::new`] every row that the header claims lies inside of the content.

use sanderling_guest::frame::{Format, FrameHeader, Kind};

use super::{ImageError, convert};

/// The pixels that go through the resizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Working {
    /// One byte a pixel.
    Gray,
    /// Three bytes a pixel, red first.
    Rgb,
    /// Three bytes a pixel, blue first.
    Bgr,
}

impl Working {
    pub(super) const fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
        }
    }
}

/// A rectangle inside of the frame, in pixels; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crop {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Rows of 8-bit pixels without gaps: `width` pixels a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) width: usize,
    pub(super) height: usize,
}

impl<'a> View<'a> {
    /// Converted pixels, which have the size of the crop that they were made of.
    pub(super) fn tight(bytes: &'a [u8], crop: &Crop) -> (Self, Crop) {
        let Crop { width, height, .. } = *crop;
        (Self { bytes, width, height }, Crop { x: 0, y: 0, width, height })
    }
}

/// A frame of raw pixels.
pub(super) struct Source<'a> {
    format: Format,
    width: usize,
    height: usize,
    stride: usize,
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

    /// What goes through the resizer; `gray` where the tensor is gray.
    pub(super) fn working(&self, gray: bool) -> Working {
        match self.format {
            Format::Rgb8 => Working::Rgb,
            Format::Bgr8 => Working::Bgr,
            Format::Yuyv | Format::Nv12 if !gray => Working::Rgb,
            _ => Working::Gray,
        }
    }

    /// The frame's own bytes, where the resizer can read them: 8-bit pixels and rows of whole pixels. Rows with a gap are
    /// taken for wider ones; the crop cuts the gap off again.
    pub(super) fn direct(&self) -> Option<View<'a>> {
        let pixel = match self.format {
            Format::Gray8 => 1,
            Format::Rgb8 | Format::Bgr8 => 3,
            _ => return None,
        };
        let whole = self.stride.is_multiple_of(pixel) && self.stride.checked_mul(self.height)? <= self.bytes.len();
        whole.then_some(View { bytes: self.bytes, width: self.stride / pixel, height: self.height })
    }

    /// Converts the pixels inside of the crop; `out` then begins with those, without gaps.
    pub(super) fn convert(&self, crop: &Crop, working: Working, out: &mut Vec<u8>) {
        let row_len = crop.width * working.channels();
        let len = row_len * crop.height;
        // Only grows: a smaller image after a larger one must not cost a memset when the larger one comes back.
        if out.len() < len {
            out.resize(len, 0);
        }
        for (y, to) in (crop.y..).zip(out.chunks_exact_mut(row_len).take(crop.height)) {
            let row = self.row(y);
            match (self.format, working) {
                (Format::Gray16, _) => convert::high_bytes(row, crop.x, to),
                (Format::Yuyv, Working::Gray) => convert::yuyv_gray(row, crop.x, to),
                (Format::Yuyv, _) => convert::yuyv_rgb(row, crop.x, to),
                (Format::Nv12, Working::Gray) => convert::luma_gray(row, crop.x, to),
                (Format::Nv12, _) => convert::nv12_rgb(row, self.row(self.height + y / 2), crop.x, to),
                _ => {
                    let start = crop.x * working.channels();
                    if let Some(row) = row.get(start..start + to.len()) {
                        to.copy_from_slice(row);
                    }
                }
            }
        }
    }

    /// A row, up to where the next one starts.
    fn row(&self, y: usize) -> &'a [u8] {
        let rest = self.bytes.get(y * self.stride..).unwrap_or_default();
        rest.get(..self.stride).unwrap_or(rest)
    }
}
