//! The frames that local programs write to a socket.
//!
//! A frame is `length: u32 LE | header: 96 bytes | content`, where the length counts header and content. The header is that of
//! [`sanderling_guest::frame`]; `seq`, `sensor` and `dropped` are ignored, times of capture that are 0 are filled in,
//! and `len` is either 0 or the length of the content.

use sanderling_guest::frame::{FrameHeader, HEADER};
use thiserror::Error;

use super::{Outlet, buffer::Buffer};

const LENGTH: usize = 4;

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum FrameError {
    /// The length prefix cannot be.
    #[error("a frame of {length} bytes; allowed is {HEADER} (its header) to {most} (the sensor's `max_frame` more)")]
    Length {
        /// What the prefix claims.
        length: usize,
        /// The most that is allowed.
        most: usize,
    },
    /// Kind or format have unknown numbers.
    #[error("a frame header with an unknown kind or format")]
    Header,
    /// The header contradicts the prefix.
    #[error("a frame header that claims {claimed} bytes of content, where {length} follow")]
    Content {
        /// What the header says.
        claimed: usize,
        /// What the prefix says.
        length: usize,
    },
}

/// What the bytes at hand begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A part of a frame that takes so many bytes in all, as far as is known.
    Part(usize),
    /// A frame.
    Whole {
        /// Its header, `len` included.
        header: FrameHeader,
        /// Where its content starts.
        start: usize,
        /// Where the next frame starts.
        end: usize,
    },
}

/// Cuts the first frame from `bytes`.
///
/// # Errors
/// [`FrameError`], as soon as it is certain; the stream is of no use then.
pub(super) fn cut(bytes: &[u8], max_frame: usize) -> Result<Cut, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(Cut::Part(LENGTH)) };
    let length = u32::from_le_bytes(*prefix) as usize;
    let most = HEADER + max_frame;
    if !(HEADER..=most).contains(&length) {
        return Err(FrameError::Length { length, most });
    }
    let end = LENGTH + length;
    let Some(header) = rest.first_chunk::<HEADER>() else { return Ok(Cut::Part(end)) };
    let mut header = FrameHeader::from_bytes(header).ok_or(FrameError::Header)?;
    let (claimed, content) = (header.len as usize, length - HEADER);
    if claimed != 0 && claimed != content {
        return Err(FrameError::Content { claimed, length: content });
    }
    if rest.len() < length {
        return Ok(Cut::Part(end));
    }
    header.len = u32::try_from(content).map_err(|_| FrameError::Length { length, most })?;
    Ok(Cut::Whole { header, start: LENGTH + HEADER, end })
}

/// Gives the frames that are whole in `buffer`.
///
/// # Errors
/// [`FrameError`]; the stream is of no use then.
pub(super) fn give(buffer: &mut Buffer, max_frame: usize, outlet: &Outlet) -> Result<(), FrameError> {
    loop {
        match cut(buffer.held(), max_frame)? {
            Cut::Part(wanted) => {
                buffer.want(wanted);
                return Ok(());
            }
            Cut::Whole { header, start, end } => {
                buffer.give(outlet, header, start, end - start);
                buffer.pass(end);
            }
        }
    }
}

/// Appends a frame as [`cut`] reads it.
#[cfg(test)]
pub(super) fn put(header: &FrameHeader, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(HEADER + content.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(content);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(len: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&FrameHeader::new("cam0", len), content, &mut bytes);
        bytes
    }

    #[test]
    fn cuts_a_frame_that_is_whole_and_says_what_a_part_needs() {
        let bytes = frame(0, b"abc");
        let Cut::Whole { header, start, end } = cut(&bytes, 3).unwrap() else { unreachable!() };
        assert_eq!((header.len, &bytes[start..end]), (3, b"abc".as_slice()));
        assert_eq!(end, LENGTH + HEADER + 3);
        assert_eq!(cut(&bytes[..3], 3), Ok(Cut::Part(4)));
        assert_eq!(cut(&bytes[..50], 3), Ok(Cut::Part(103)));
        assert_eq!(cut(&bytes[..102], 3), Ok(Cut::Part(103)));
        assert!(matches!(cut(&frame(3, b"abc"), 3), Ok(Cut::Whole { .. })));
        assert!(matches!(cut(&frame(0, b""), 3), Ok(Cut::Whole { .. })));
    }

    #[test]
    fn refuses_lengths_before_waiting_for_them() {
        assert_eq!(cut(&frame(0, b"abcd")[..4], 3), Err(FrameError::Length { length: 100, most: 99 }));
        assert_eq!(cut(&u32::MAX.to_le_bytes(), 3), Err(FrameError::Length { length: u32::MAX as usize, most: 99 }));
        assert_eq!(cut(&[95, 0, 0, 0], 3), Err(FrameError::Length { length: 95, most: 99 }));
    }

    #[test]
    fn refuses_headers_that_contradict_or_are_not_understood() {
        assert_eq!(cut(&frame(2, b"abc"), 3), Err(FrameError::Content { claimed: 2, length: 3 }));
        let mut bytes = frame(0, b"abc");
        bytes[4 + 28] = 99;
        assert_eq!(cut(&bytes, 3), Err(FrameError::Header));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_cut_within_its_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Cut::Whole { header, start, end }) = cut(&bytes, 150) {
                prop_assert!(end <= bytes.len());
                prop_assert_eq!(end - start, header.len as usize);
            }
        }
    }
}
