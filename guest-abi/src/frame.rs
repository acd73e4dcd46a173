//! The header of a frame: 96 bytes, little-endian.
//!
//! | offset | field | type | meaning |
//! |---|---|---|---|
//! | 0 | `seq` | u64 | counts the sensor's frames, dropped ones included |
//! | 8 | `captured_unix_ns` | i64 | wall-clock time of capture |
//! | 16 | `captured_mono_ns` | u64 | monotonic time of capture |
//! | 24 | `len` | u32 | bytes of content |
//! | 28 | `kind` | u16 | [`Kind`] |
//! | 30 | `format` | u16 | [`Format`] |
//! | 32 | `width` | u32 | pixels a row; samples a channel in a series |
//! | 36 | `height` | u32 | rows; 1 in a series, 0 where it has none |
//! | 40 | `stride` | u32 | bytes from one row to the next |
//! | 44 | `channels` | u32 | of a series; interleaved |
//! | 48 | `rate_mhz` | u32 | samples a second of a series, in thousandths of a hertz |
//! | 52 | `dropped` | u32 | frames dropped before this one since the last that was delivered |
//! | 56 | `sensor` | 32 bytes | the sensor's name, padded with zeros; a longer one is cut |
//! | 88 | `reserved` | 8 bytes | zero |

/// The header's length in bytes.
pub const HEADER: usize = 96;
/// The room for a sensor's name in the header, in bytes.
pub const SENSOR: usize = 32;

/// What a frame's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Bytes without a meaning that the host knows.
    Bytes = 0,
    /// A JSON text.
    Json = 1,
    /// An image.
    Image = 2,
    /// Samples of one or more channels.
    Series = 3,
}

/// How a frame's content is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Format {
    /// Nothing that the host knows.
    None = 0,
    /// Image, one byte a pixel.
    Gray8 = 1,
    /// Image, three bytes a pixel, red first.
    Rgb8 = 2,
    /// Image, three bytes a pixel, blue first.
    Bgr8 = 3,
    /// Image, two bytes a pixel, Y0 U Y1 V.
    Yuyv = 4,
    /// Image, a plane of Y, then one of interleaved U and V at half the size.
    Nv12 = 5,
    /// Image, two bytes a pixel, little-endian.
    Gray16 = 6,
    /// Image, compressed.
    Jpeg = 7,
    /// Image, compressed.
    Png = 8,
    /// Series of f32.
    F32 = 16,
    /// Series of i16.
    I16 = 17,
    /// Series of i32.
    I32 = 18,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_u16(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::Bytes,
            1 => Self::Json,
            2 => Self::Image,
            3 => Self::Series,
            _ => return None,
        })
    }
}

impl Format {
    /// The format with this number.
    pub const fn from_u16(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Gray8,
            2 => Self::Rgb8,
            3 => Self::Bgr8,
            4 => Self::Yuyv,
            5 => Self::Nv12,
            6 => Self::Gray16,
            7 => Self::Jpeg,
            8 => Self::Png,
            16 => Self::F32,
            17 => Self::I16,
            18 => Self::I32,
            _ => return None,
        })
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Counts the sensor's frames, dropped ones included.
    pub seq: u64,
    /// Wall-clock time of capture, nanoseconds since 1970.
    pub captured_unix_ns: i64,
    /// Monotonic time of capture, nanoseconds.
    pub captured_mono_ns: u64,
    /// Bytes of content.
    pub len: u32,
    /// What the content is.
    pub kind: Kind,
    /// How it is laid out.
    pub format: Format,
    /// Pixels a row; samples a channel in a series.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Channels of a series.
    pub channels: u32,
    /// Samples a second of a series, in thousandths of a hertz.
    pub rate_mhz: u32,
    /// Frames dropped before this one.
    pub dropped: u32,
    /// The sensor's name, padded with zeros.
    pub sensor: [u8; SENSOR],
}

impl FrameHeader {
    /// A header of plain bytes from `sensor`; fill in what else is known.
    pub const fn new(sensor: &str, len: u32) -> Self {
        Self {
            seq: 0,
            captured_unix_ns: 0,
            captured_mono_ns: 0,
            len,
            kind: Kind::Bytes,
            format: Format::None,
            width: 0,
            height: 0,
            stride: 0,
            channels: 0,
            rate_mhz: 0,
            dropped: 0,
            sensor: pad(sensor),
        }
    }

    /// The sensor's name; empty where it is not UTF-8.
    pub fn sensor(&self) -> &str {
        let end = self.sensor.iter().position(|byte| *byte == 0).unwrap_or(SENSOR);
        self.sensor.get(..end).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or("")
    }

    /// The header as bytes.
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, field: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        };
        put(0, &self.seq.to_le_bytes());
        put(8, &self.captured_unix_ns.to_le_bytes());
        put(16, &self.captured_mono_ns.to_le_bytes());
        put(24, &self.len.to_le_bytes());
        put(28, &(self.kind as u16).to_le_bytes());
        put(30, &(self.format as u16).to_le_bytes());
        put(32, &self.width.to_le_bytes());
        put(36, &self.height.to_le_bytes());
        put(40, &self.stride.to_le_bytes());
        put(44, &self.channels.to_le_bytes());
        put(48, &self.rate_mhz.to_le_bytes());
        put(52, &self.dropped.to_le_bytes());
        put(56, &self.sensor);
        bytes
    }

    /// Reads a header. `None` where kind or format has an unknown number.
    pub fn from_bytes(bytes: &[u8; HEADER]) -> Option<Self> {
        Some(Self {
            seq: u64::from_le_bytes(take(bytes, 0)),
            captured_unix_ns: i64::from_le_bytes(take(bytes, 8)),
            captured_mono_ns: u64::from_le_bytes(take(bytes, 16)),
            len: u32::from_le_bytes(take(bytes, 24)),
            kind: Kind::from_u16(u16::from_le_bytes(take(bytes, 28)))?,
            format: Format::from_u16(u16::from_le_bytes(take(bytes, 30)))?,
            width: u32::from_le_bytes(take(bytes, 32)),
            height: u32::from_le_bytes(take(bytes, 36)),
            stride: u32::from_le_bytes(take(bytes, 40)),
            channels: u32::from_le_bytes(take(bytes, 44)),
            rate_mhz: u32::from_le_bytes(take(bytes, 48)),
            dropped: u32::from_le_bytes(take(bytes, 52)),
            sensor: take(bytes, 56),
        })
    }
}

const fn pad(name: &str) -> [u8; SENSOR] {
    let from = name.as_bytes();
    let mut to = [0; SENSOR];
    let mut i = 0;
    while i < from.len() && i < SENSOR {
        to[i] = from[i];
        i += 1;
    }
    to
}

fn take<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FrameHeader {
        FrameHeader {
            seq: 1,
            captured_unix_ns: -2,
            captured_mono_ns: 3,
            kind: Kind::Image,
            format: Format::Jpeg,
            width: 5,
            height: 6,
            stride: 7,
            channels: 8,
            rate_mhz: 9,
            dropped: 10,
            ..FrameHeader::new("cam0", 4)
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(FrameHeader::from_bytes(&sample().to_bytes()), Some(sample()));
        assert_eq!(sample().sensor(), "cam0");
    }

    #[test]
    fn refuses_unknown_kinds_and_formats() {
        for at in [28, 30] {
            let mut bytes = sample().to_bytes();
            bytes[at + 1] = 0xff;
            assert_eq!(FrameHeader::from_bytes(&bytes), None);
        }
    }

    #[test]
    fn cuts_a_long_sensor_name() {
        assert_eq!(FrameHeader::new(&"x".repeat(40), 0).sensor(), "x".repeat(32));
    }

    extern crate std;
    use std::prelude::rust_2024::*;
}
