//! A part of a frame as JPEG (baseline, by the crate `jpeg-encoder`), within a number of bytes.
//!
//! Pixels are those of a tensor of the crop's own size: YUYV and NV12 become RGB, gray16 its high byte. A frame that is compressed still, because its input
//! is not decoded, is decoded first, whichever part of it is wanted: so what leaves the device is an image.
//!
//! Limits: where the result is longer than it may be, encoding stops there and begins again with three quarters, half and a quarter
//! of the quality; pixels and what is decoded stay below the preparer's limit.

use jpeg_encoder::{ColorType, Encoder, EncodingError, JfifWrite};
use sanderling_guest::{
    frame::{Format, FrameHeader},
    image::{Color, Element, Filter, ImageOp, Layout},
};
use sanderling_protocol::deployment::Decode;

use super::{
    DecodeLimits, ImageError, Preparer, decode_frame,
    source::{Crop, Source},
};

/// The longest side of a JPEG, and the farthest that its corner may lie.
const MOST_SIDE: usize = 65_535;

impl Preparer {
    /// Encodes the part of a frame that `crop` names (x, y, width, height; the whole where it has no size) in at most `limit` bytes. Gives
    /// the quality that was used, at most `quality`.
    ///
    /// # Errors
    /// As [`ImageError`] says.
    pub fn evidence(
        &mut self,
        header: &FrameHeader,
        content: &[u8],
        crop: [u32; 4],
        quality: u8,
        limit: usize,
    ) -> Result<(Vec<u8>, u8), ImageError> {
        if matches!(header.format, Format::Jpeg | Format::Png) {
            let limits = DecodeLimits { max_bytes: self.limit, ..DecodeLimits::default() };
            let mut pixels = Vec::new();
            let decoded = decode_frame(header, content, Decode::Rgb8, &limits, &mut pixels)?;
            return self.encode(&decoded.ok_or(ImageError::NotPixels)?, &pixels, crop, quality, limit);
        }
        self.encode(header, content, crop, quality, limit)
    }

    fn encode(
        &mut self,
        header: &FrameHeader,
        content: &[u8],
        crop: [u32; 4],
        quality: u8,
        limit: usize,
    ) -> Result<(Vec<u8>, u8), ImageError> {
        let source = Source::new(header, content)?;
        let Crop { x, y, width, height } = source.crop(crop)?;
        let gray = matches!(header.format, Format::Gray8 | Format::Gray16);
        let needed = width.saturating_mul(height).saturating_mul(if gray { 1 } else { 3 });
        let too_large = || ImageError::TooLarge { needed, limit: self.limit };
        let sides = [x, y, width, height].map(|side| u32::from(u16::try_from(side).unwrap_or(0)));
        let [_, _, columns, rows] = sides;
        if needed > self.limit || columns == 0 || rows == 0 || x > MOST_SIDE || y > MOST_SIDE {
            return Err(too_large());
        }
        // As many pixels as the crop has: each is taken as it is.
        let op = ImageOp {
            crop: sides,
            color: if gray { Color::Gray } else { Color::Rgb },
            layout: Layout::Nhwc,
            element: Element::U8,
            filter: Filter::Nearest,
            scale: [0.0; 3],
            ..ImageOp::gray(columns, rows)
        };
        let mut pixels = vec![0; needed];
        self.prepare(header, content, &op, &mut pixels)?;
        let mut lowest = quality;
        for quarters in [4, 3, 2, 1] {
            lowest = u8::try_from(u16::from(quality) * quarters / 4).unwrap_or(quality).max(1);
            if let Some(jpeg) = jpeg(&pixels, (columns, rows), gray, lowest, limit) {
                return Ok((jpeg, lowest));
            }
        }
        Err(ImageError::Record { width, height, quality: lowest, limit })
    }
}

/// `None` where it would be longer than `limit`.
fn jpeg(pixels: &[u8], (width, height): (u32, u32), gray: bool, quality: u8, limit: usize) -> Option<Vec<u8>> {
    let color = if gray { ColorType::Luma } else { ColorType::Rgb };
    let mut bounded = Bounded { bytes: Vec::new(), limit };
    let (width, height) = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
    Encoder::new(&mut bounded, quality).encode(pixels, width, height, color).ok()?;
    Some(bounded.bytes)
}

/// Takes bytes up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl JfifWrite for Bounded {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), EncodingError> {
        if self.bytes.len().saturating_add(bytes.len()) > self.limit {
            return Err(EncodingError::Write("longer than a record".into()));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
