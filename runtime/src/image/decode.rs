//! Compressed frames to pixels: PNG and JPEG to gray8 or rgb8.
//!
//! Purpose: a sensor may deliver compressed images; the guest sees pixels. This runs in the confined worker.
//!
//! Invariants: dimensions are held to the limits before anything of their size is allocated; an image that was cut or
//! damaged is refused whole and never shown in part, since a half-gray image would be judged like a real one.
//!
//! An image of Motion-JPEG that leaves its Huffman tables out, as many cameras do, is decoded with the standard ones.
//!
//! What is dropped: alpha (as Pillow's `convert` drops it, without a background), colour profiles, the low byte of
//! 16-bit samples, the second and later pictures of an animation, and the orientation that EXIF may name.
//!
//! Limits: [`DecodeLimits`]. The decoders' own buffers beside the pixels are a few rows, but for a progressive JPEG all
//! its coefficients, which are counted. A JPEG of separate scans that is not progressive keeps its coefficients too and
//! is not recognised beforehand; the address-space limit of the worker bounds it.

use std::io::Cursor;

use png::{ColorType, Transformations};
use sanderling_guest::frame::{Format, FrameHeader, Kind};
use sanderling_protocol::{
    deployment::{Decode, Limits},
    worker::InputDecode,
};
use thiserror::Error;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::luma;

/// How far before its end a JPEG's end marker may stand: cameras pad their buffers.
const END_MARKER_WITHIN: usize = 4096;
/// The beginning of a JPEG in an AVI file. Where a segment says so, the decoder fills in the standard tables that are missing.
const MOTION_JPEG: [u8; 11] = *b"\xff\xd8\xff\xe0\x00\x07AVI1\x00";
/// What the PNG decoder may allocate beside the pixels: rows, palettes, text.
const PNG_BYTES: usize = 8 << 20;
/// The start of a progressive frame.
const PROGRESSIVE: u8 = 0xc2;
/// Huffman tables.
const TABLES: u8 = 0xc4;
/// More scans than any encoder writes; each costs a pass over the image.
const JPEG_SCANS: usize = 32;

/// How large an image may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Pixels; by default 64 Mi.
    pub max_pixels: u64,
    /// Bytes of pixels and coefficients while it is decoded; by default 256 MiB.
    pub max_bytes: usize,
}

impl DecodeLimits {
    /// What a deployment leaves for images: all of the worker's native memory at most.
    pub fn of(limits: &Limits) -> Self {
        Self { max_bytes: (limits.native_memory_mib as usize).saturating_mul(1 << 20), ..Self::default() }
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: 64 << 20, max_bytes: 256 << 20 }
    }
}

/// Why a compressed frame is not decoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// More pixels or bytes than are allowed.
    #[error(
        "an image of {width} x {height} pixels with {per_pixel} bytes each is too large: at most {max_pixels} pixels and {max_bytes} bytes are decoded; let the sensor deliver smaller ones or raise native_memory_mib"
    )]
    TooLarge {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes for each pixel while it is decoded.
        per_pixel: usize,
        /// The limit in pixels.
        max_pixels: u64,
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The system gave no memory for the pixels.
    #[error("there is no memory for the {bytes} bytes of an image; raise native_memory_mib")]
    NoMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// A JPEG without its end.
    #[error("the JPEG image has no end marker: it was cut on its way; look at the sensor")]
    Cut,
    /// A JPEG that does not decode.
    #[error("the JPEG image does not decode: {0}; look at the sensor")]
    Jpeg(String),
    /// A PNG that does not decode.
    #[error("the PNG image does not decode: {0}; look at the sensor")]
    Png(String),
}

/// To what a frame is decoded: what its sensor's input says.
pub fn wanted(inputs: &[InputDecode], header: &FrameHeader) -> Decode {
    let sensor = header.sensor();
    inputs.iter().find(|input| input.sensor == sensor).map_or(Decode::None, |input| input.decode)
}

/// Decodes a compressed frame into `out`, whose capacity is kept from frame to frame; returns the header of what
/// is in `out` then. `None`: the frame is not compressed or is wanted as it came, and `out` is left
/// alone.
///
/// # Errors
/// As [`DecodeError`] says; `out` is then unspecified.
pub fn decode_frame(
    header: &FrameHeader,
    payload: &[u8],
    decode: Decode,
    limits: &DecodeLimits,
    out: &mut Vec<u8>,
) -> Result<Option<FrameHeader>, DecodeError> {
    let (format, channels) = match decode {
        Decode::None => return Ok(None),
        Decode::Gray8 => (Format::Gray8, 1),
        Decode::Rgb8 => (Format::Rgb8, 3),
    };
    let (width, height) = match (header.kind, header.format) {
        (Kind::Image, Format::Jpeg) => jpeg(payload, channels, limits, out)?,
        (Kind::Image, Format::Png) => png(payload, channels, limits, out)?,
        _ => return Ok(None),
    };
    let stride = width.saturating_mul(channels);
    let len = stride.saturating_mul(height);
    Ok(Some(FrameHeader { len, format, width, height, stride, ..*header }))
}

fn jpeg(payload: &[u8], channels: u32, limits: &DecodeLimits, out: &mut Vec<u8>) -> Result<(u32, u32), DecodeError> {
    if !has_end_marker(payload) {
        return Err(DecodeError::Cut);
    }
    if let [0xff, 0xd8, rest @ ..] = payload
        && !has_before_scan(payload, TABLES)
    {
        let bytes = MOTION_JPEG.len() + rest.len();
        let mut named = Vec::new();
        named.try_reserve_exact(bytes).map_err(|_| DecodeError::NoMemory { bytes })?;
        named.extend_from_slice(&MOTION_JPEG);
        named.extend_from_slice(rest);
        return jpeg_with_tables(&named, channels, limits, out);
    }
    jpeg_with_tables(payload, channels, limits, out)
}

fn jpeg_with_tables(
    payload: &[u8],
    channels: u32,
    limits: &DecodeLimits,
    out: &mut Vec<u8>,
) -> Result<(u32, u32), DecodeError> {
    // Strict: otherwise what is missing or damaged is filled with gray, and the image passes for a whole one.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(JPEG_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let fail = |error: zune_jpeg::errors::DecodeErrors| DecodeError::Jpeg(error.to_string());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(payload), options);
    decoder.decode_headers().map_err(fail)?;
    let unknown = || DecodeError::Jpeg("it has no dimensions".to_owned());
    let info = decoder.info().ok_or_else(unknown)?;
    let color = decoder.input_colorspace().ok_or_else(unknown)?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let luma_alone = channels == 1 && matches!(color, ColorSpace::YCbCr | ColorSpace::Luma);
    let samples = if luma_alone { 1 } else { 3 };
    let coefficients = if has_before_scan(payload, PROGRESSIVE) { 2 * usize::from(info.components) } else { 0 };
    let pixels = check(width, height, samples + coefficients, limits)?;
    if luma_alone {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    decoder.decode_into(room(out, pixels * samples)?).map_err(fail)?;
    if channels == 1 && !luma_alone {
        repack::<3, 1>(out, pixels, |[red, green, blue]| [luma(red, green, blue)]);
    }
    Ok((width, height))
}

fn has_end_marker(payload: &[u8]) -> bool {
    let end = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let (image, _) = payload.split_at(end);
    let (_, tail) = image.split_at(end.saturating_sub(END_MARKER_WITHIN));
    tail.windows(2).any(|pair| pair == [0xff, 0xd9])
}

/// Whether a segment with this marker stands before the first scan.
fn has_before_scan(payload: &[u8], wanted: u8) -> bool {
    let mut rest = payload.get(2..).unwrap_or_default();
    loop {
        rest = match rest {
            [0xff, marker, ..] if *marker == wanted => return true,
            [0xff, 0xda, ..] => return false,
            [0xff, marker, high, low, ..] if *marker != 0xff && *marker != 0 => {
                rest.get(2 + usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default()
            }
            // Fill bytes and what stands between segments, which the decoder skips too.
            [_, rest @ ..] => rest,
            [] => return false,
        };
    }
}

fn png(payload: &[u8], channels: u32, limits: &DecodeLimits, out: &mut Vec<u8>) -> Result<(u32, u32), DecodeError> {
    let fail = |error: png::DecodingError| DecodeError::Png(error.to_string());
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(payload), png::Limits { bytes: PNG_BYTES });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (width, height) = decoder.read_header_info().map_err(fail)?.size();
    // Four samples a pixel at most; which it will be is known only after more chunks.
    let pixels = check(width, height, 4, limits)?;
    let mut reader = decoder.read_info().map_err(fail)?;
    let (color, _) = reader.output_color_type();
    let read = reader.next_frame(room(out, pixels * color.samples())?).map_err(fail)?;
    if (read.width, read.height) != (width, height) {
        return Err(DecodeError::Png("its first picture is smaller than the image".to_owned()));
    }
    match (color, channels) {
        (ColorType::Grayscale, 1) => {}
        (ColorType::GrayscaleAlpha, 1) => repack::<2, 1>(out, pixels, |[gray, _]| [gray]),
        (ColorType::Rgb, 1) => repack::<3, 1>(out, pixels, |[red, green, blue]| [luma(red, green, blue)]),
        (ColorType::Rgba, 1) => repack::<4, 1>(out, pixels, |[red, green, blue, _]| [luma(red, green, blue)]),
        (ColorType::Grayscale, _) => repack::<1, 3>(out, pixels, |[gray]| [gray; 3]),
        (ColorType::GrayscaleAlpha, _) => repack::<2, 3>(out, pixels, |[gray, _]| [gray; 3]),
        (ColorType::Rgb, _) => {}
        (ColorType::Rgba, _) => repack::<4, 3>(out, pixels, |[red, green, blue, _]| [red, green, blue]),
        (ColorType::Indexed, _) => return Err(DecodeError::Png("its palette is not resolved".to_owned())),
    }
    Ok((width, height))
}

/// The number of pixels, where it and the bytes for them are within the limits.
fn check(width: u32, height: u32, per_pixel: usize, limits: &DecodeLimits) -> Result<usize, DecodeError> {
    let DecodeLimits { max_pixels, max_bytes } = *limits;
    let pixels = u64::from(width) * u64::from(height);
    let within = usize::try_from(pixels).ok().filter(|_| pixels <= max_pixels);
    let bytes = within.and_then(|pixels| pixels.checked_mul(per_pixel));
    match (within, bytes) {
        (Some(pixels), Some(bytes)) if bytes <= max_bytes => Ok(pixels),
        _ => Err(DecodeError::TooLarge { width, height, per_pixel, max_pixels, max_bytes }),
    }
}

/// Makes the buffer `len` bytes long. Where it has been that long before nothing is allocated, and nothing zeroed.
fn room(buffer: &mut Vec<u8>, len: usize) -> Result<&mut [u8], DecodeError> {
    if buffer.capacity() < len {
        buffer.clear();
        buffer.try_reserve_exact(len).map_err(|_| DecodeError::NoMemory { bytes: len })?;
    }
    buffer.resize(len, 0);
    Ok(buffer)
}

/// Turns pixels of `FROM` bytes into pixels of `TO` bytes in place: forwards where they shrink, else backwards.
fn repack<const FROM: usize, const TO: usize>(
    buffer: &mut Vec<u8>,
    pixels: usize,
    turn: impl Fn([u8; FROM]) -> [u8; TO],
) {
    buffer.resize(pixels * FROM.max(TO), 0);
    for step in 0..pixels {
        let at = if TO <= FROM { step } else { pixels - 1 - step };
        let pixel = buffer.get(at * FROM..).and_then(|rest| rest.first_chunk()).copied();
        let place = buffer.get_mut(at * TO..).and_then(|rest| rest.first_chunk_mut());
        if let (Some(pixel), Some(place)) = (pixel, place) {
            *place = turn(pixel);
        }
    }
    buffer.truncate(pixels * TO);
}

#[cfg(test)]
mod tests;
