//! Decoding and converting images.

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::deployment::Decode;
use thiserror::Error;

/// Why an image does not decode.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {}

/// Decodes a compressed image into `out` (cleared first, its room reused), at most `max_bytes` long. `None` where there
/// is nothing to decode; otherwise the header of the decoded frame.
///
/// # Errors
/// What is wrong with the image.
pub fn decode_frame(
    _header: &FrameHeader,
    _content: &[u8],
    _decode: Decode,
    _max_bytes: usize,
    _out: &mut Vec<u8>,
) -> Result<Option<FrameHeader>, DecodeError> {
    Ok(None)
}
