//! The current frame as an image: checks its header against its content, crops, and converts to 8-bit gray or colour.
//!
//! Invariant: after [`Source::new`] every row that the header claims lies inside of the content.

use sanderling_guest::frame::{Format, FrameHeader, Kind};

use super::ImageError;

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
                (Format::Gray16, _) => {
                    let pixels = row.as_chunks::<2>().0.iter().map(|[_, high]| *high);
                    fill(to, pixels.skip(crop.x));
                }
                (Format::Yuyv, Working::Gray) => {
                    let pixels = row.as_chunks::<2>().0.iter().map(|[y, _]| expand(*y));
                    fill(to, pixels.skip(crop.x));
                }
                (Format::Yuyv, _) => {
                    let pairs = row.as_chunks::<4>().0.iter();
                    let pixels = pairs.flat_map(|[y0, u, y1, v]| [rgb(*y0, *u, *v), rgb(*y1, *u, *v)]);
                    fill_rgb(to, pixels.skip(crop.x));
                }
                (Format::Nv12, Working::Gray) => fill(to, row.iter().map(|y| expand(*y)).skip(crop.x)),
                (Format::Nv12, _) => {
                    let chroma = self.row(self.height + y / 2).as_chunks::<2>().0;
                    let pixels = row.iter().zip(chroma.iter().flat_map(|pair| [pair, pair]));
                    fill_rgb(to, pixels.map(|(y, [u, v])| rgb(*y, *u, *v)).skip(crop.x));
                }
                _ => fill(to, row.iter().copied().skip(crop.x * working.channels())),
            }
        }
    }

    /// A row, up to where the next one starts.
    fn row(&self, y: usize) -> &'a [u8] {
        let rest = self.bytes.get(y * self.stride..).unwrap_or_default();
        rest.get(..self.stride).unwrap_or(rest)
    }
}

fn fill(to: &mut [u8], from: impl Iterator<Item = u8>) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

fn fill_rgb(to: &mut [u8], from: impl Iterator<Item = [u8; 3]>) {
    for (to, from) in to.as_chunks_mut::<3>().0.iter_mut().zip(from) {
        *to = from;
    }
}

/// Limited-range luma to 0..=255: what [`rgb`] gives for colourless pixels.
fn expand(y: u8) -> u8 {
    clamp((298 * (i32::from(y) - 16) + 128) >> 8)
}

/// BT.601 limited range, in the usual integers of 8 fractional bits.
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (298 * (i32::from(y) - 16) + 128, i32::from(u) - 128, i32::from(v) - 128);
    [clamp((y + 409 * v) >> 8), clamp((y - 100 * u - 208 * v) >> 8), clamp((y + 516 * u) >> 8)]
}

fn clamp(value: i32) -> u8 {
    value.clamp(0, 255) as u8
}
