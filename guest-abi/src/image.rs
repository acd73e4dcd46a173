//! The operation of `image_tensor` and `nn_input_image`: how the host turns the current frame into a tensor.
//!
//! A record of 64 bytes, little-endian:
//!
//! | offset | field | type | meaning |
//! |---|---|---|---|
//! | 0 | `crop` | 4 × u32 | x, y, width, height in pixels of the frame; width and height 0: the whole frame |
//! | 16 | `width` | u32 | of the tensor, at most 4096 |
//! | 20 | `height` | u32 | of the tensor, at most 4096 |
//! | 24 | `color` | u8 | [`Color`] |
//! | 25 | `layout` | u8 | [`Layout`] |
//! | 26 | `element` | u8 | [`Element`] |
//! | 27 | `filter` | u8 | [`Filter`] |
//! | 28 | `mean` | 3 × f32 | for each channel |
//! | 40 | `scale` | 3 × f32 | for each channel |
//! | 52 | `reserved` | 12 bytes | zero |
//!
//! An element of type f32 or f16 is `(pixel / 255 - mean) * scale`. An element of type u8 is the pixel, one of type i8 the pixel
//! minus 128; mean and scale must then be zero. Gray is 0.299 R + 0.587 G + 0.114 B, rounded; of YUYV and NV12 it is luma.
//!
//! The frame is cropped, resized as 8-bit samples and only then converted: luma and chroma of YUYV and NV12 are resized each in its own
//! resolution. Along an axis that keeps its size, and with the filter nearest, chroma is repeated.

/// The length in bytes of a rectangle in a frame: x, y, width and height in pixels; width and height 0 for the whole frame.
pub const RECT: usize = 16;

/// The record's length in bytes.
pub const OP: usize = 64;
/// The largest width or height of a tensor.
pub const MAX_SIDE: u32 = 4096;

/// The channels of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Color {
    /// One channel.
    Gray = 0,
    /// Three channels, red first.
    Rgb = 1,
    /// Three channels, blue first.
    Bgr = 2,
}

/// The order of the tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Layout {
    /// Channel by channel.
    Nchw = 0,
    /// Pixel by pixel.
    Nhwc = 1,
}

/// The type of the tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Element {
    /// 32-bit float.
    F32 = 0,
    /// 16-bit float.
    F16 = 1,
    /// Unsigned byte.
    U8 = 2,
    /// Signed byte.
    I8 = 3,
}

/// How pixels are weighed when the size changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Filter {
    /// The nearest pixel.
    Nearest = 0,
    /// A triangle that widens when the image shrinks, as Pillow's `BILINEAR`.
    Bilinear = 1,
    /// The mean of the pixels covered, as Pillow's `BOX`.
    Area = 2,
}

/// How the current frame becomes a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageOp {
    /// x, y, width, height in pixels of the frame; width and height 0: the whole frame.
    pub crop: [u32; 4],
    /// Width of the tensor.
    pub width: u32,
    /// Height of the tensor.
    pub height: u32,
    /// Channels of the tensor.
    pub color: Color,
    /// Order of its elements.
    pub layout: Layout,
    /// Their type.
    pub element: Element,
    /// How the size is changed.
    pub filter: Filter,
    /// Subtracted from each channel, in 0..1.
    pub mean: [f32; 3],
    /// Multiplied to each channel.
    pub scale: [f32; 3],
}

impl ImageOp {
    /// The whole frame as `width` x `height` gray f32 elements in 0..1.
    pub const fn gray(width: u32, height: u32) -> Self {
        Self {
            crop: [0; 4],
            width,
            height,
            color: Color::Gray,
            layout: Layout::Nchw,
            element: Element::F32,
            filter: Filter::Bilinear,
            mean: [0.0; 3],
            scale: [1.0; 3],
        }
    }

    /// The number of channels.
    pub const fn channels(&self) -> usize {
        match self.color {
            Color::Gray => 1,
            Color::Rgb | Color::Bgr => 3,
        }
    }

    /// The tensor's length in bytes.
    pub const fn tensor_len(&self) -> usize {
        let element = match self.element {
            Element::F32 => 4,
            Element::F16 => 2,
            Element::U8 | Element::I8 => 1,
        };
        self.width as usize * self.height as usize * self.channels() * element
    }

    /// The operation as bytes.
    pub fn to_bytes(&self) -> [u8; OP] {
        let mut bytes = [0; OP];
        let numbers = self.crop.into_iter().chain([self.width, self.height]).map(u32::to_le_bytes);
        let floats = self.mean.into_iter().chain(self.scale).map(f32::to_le_bytes);
        let codes = [self.color as u8, self.layout as u8, self.element as u8, self.filter as u8];
        let fields = numbers.chain([codes]).chain(floats);
        for (to, from) in bytes.iter_mut().zip(fields.flatten()) {
            *to = from;
        }
        bytes
    }

    /// Reads an operation. `None` where a code is unknown, a side is 0 or above [`MAX_SIDE`], a float is not finite, a reserved byte is not
    /// zero, or an integer tensor is to be normalised.
    pub fn from_bytes(bytes: &[u8; OP]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        debug_assert!(rest.is_empty());
        let [x, y, w, h, width, height, codes, m0, m1, m2, s0, s1, s2, reserved @ ..] = words else {
            return None;
        };
        let op = Self {
            crop: [*x, *y, *w, *h].map(u32::from_le_bytes),
            width: u32::from_le_bytes(*width),
            height: u32::from_le_bytes(*height),
            color: match codes[0] {
                0 => Color::Gray,
                1 => Color::Rgb,
                2 => Color::Bgr,
                _ => return None,
            },
            layout: match codes[1] {
                0 => Layout::Nchw,
                1 => Layout::Nhwc,
                _ => return None,
            },
            element: match codes[2] {
                0 => Element::F32,
                1 => Element::F16,
                2 => Element::U8,
                3 => Element::I8,
                _ => return None,
            },
            filter: match codes[3] {
                0 => Filter::Nearest,
                1 => Filter::Bilinear,
                2 => Filter::Area,
                _ => return None,
            },
            mean: [*m0, *m1, *m2].map(f32::from_le_bytes),
            scale: [*s0, *s1, *s2].map(f32::from_le_bytes),
        };
        let integers = matches!(op.element, Element::U8 | Element::I8);
        let factors = || op.mean.iter().chain(&op.scale);
        let valid = (1..=MAX_SIDE).contains(&op.width)
            && (1..=MAX_SIDE).contains(&op.height)
            && (op.crop[2] == 0) == (op.crop[3] == 0)
            && reserved.iter().all(|word| *word == [0; 4])
            && factors().all(|factor| factor.is_finite() && (!integers || *factor == 0.0));
        valid.then_some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let op = ImageOp {
            crop: [1, 2, 3, 4],
            color: Color::Bgr,
            layout: Layout::Nhwc,
            element: Element::F16,
            filter: Filter::Area,
            mean: [0.1, 0.2, 0.3],
            scale: [4.0, 5.0, 6.0],
            ..ImageOp::gray(7, 8)
        };
        assert_eq!(ImageOp::from_bytes(&op.to_bytes()), Some(op));
        assert_eq!(op.tensor_len(), 7 * 8 * 3 * 2);
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let good = ImageOp::gray(2, 2).to_bytes();
        for (at, value) in [(16, 0), (24, 3), (25, 2), (26, 4), (27, 3), (31, 0x7f), (63, 1), (26, 2), (8, 1), (19, 1)]
        {
            let mut bad = good;
            bad[at] = value;
            if at == 31 {
                bad[30] = 0x80; // infinity
            }
            assert_eq!(ImageOp::from_bytes(&bad), None, "{at} {value}");
        }
    }
}
