//! Frames: what is written to a segment at once, with its length and a seal over it and its place.
//!
//! A frame is `length` (u32, little-endian), the seal (the first eight bytes of SHA-256 over segment number, offset and content) and the
//! content, whose first byte tells its kind. Since the seal covers the place, nothing that lies elsewhere passes for it.

use std::{io, ops::Range};

use sanderling_protocol::digest::Digest;

use crate::store::disk::{DiskFile, is_unreadable, read_exact};

/// What precedes the content.
pub(super) const HEADER: usize = 4 + 8;
/// The content of a frame is shorter than this: what waits in memory is bounded, and a checkpoint is smaller.
pub(super) const MOST: usize = 8 << 20;
/// What cannot be read is tried this often before it is taken as lost.
const MOST_READS: u32 = 3;

fn seal(segment: u64, offset: u64, content: &[u8]) -> [u8; 8] {
    let mut sealed = Vec::with_capacity(16 + content.len());
    sealed.extend_from_slice(&segment.to_le_bytes());
    sealed.extend_from_slice(&offset.to_le_bytes());
    sealed.extend_from_slice(content);
    Digest::of(&sealed).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// A frame with this content, to be written at an offset of a segment.
pub(super) fn encode(segment: u64, offset: u64, content: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(content.len()).ok().filter(|_| content.len() < MOST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too much for one frame"))?;
    let mut frame = Vec::with_capacity(HEADER + content.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&seal(segment, offset, content));
    frame.extend_from_slice(content);
    Ok(frame)
}

/// The frames of a segment's bytes.
pub(super) struct Frames<'a> {
    segment: u64,
    bytes: &'a [u8],
    at: usize,
    /// Bytes that are of no frame and are followed by one: the medium has lost something there.
    pub(super) damaged: bool,
}

impl<'a> Frames<'a> {
    pub(super) fn new(segment: u64, bytes: &'a [u8]) -> Self {
        Self { segment, bytes, at: 0, damaged: false }
    }

    fn whole(&self, at: usize) -> Option<Range<usize>> {
        let rest = self.bytes.get(at..)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (found, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| (1..MOST).contains(length))?;
        let content = rest.get(..length)?;
        let start = at.checked_add(HEADER)?;
        (seal(self.segment, at as u64, content) == *found).then_some(start..start + length)
    }
}

impl<'a> Iterator for Frames<'a> {
    /// Where a frame begins and ends, and its content.
    type Item = (Range<u64>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (at, range) = (self.at..self.bytes.len()).find_map(|at| Some((at, self.whole(at)?)))?;
        self.damaged |= at > self.at;
        self.at = range.end;
        Some((at as u64..range.end as u64, self.bytes.get(range)?))
    }
}

/// The content of the frame at an offset that ends before `end`; `None` where there is none that is whole.
pub(super) fn read(file: &dyn DiskFile, segment: u64, offset: u64, end: u64) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER];
    if !read_there(file, &mut header, offset)? {
        return Ok(None);
    }
    let length = header.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    let start = offset.saturating_add(HEADER as u64);
    let fits = start.saturating_add(u64::from(length)) <= end && (1..MOST).contains(&(length as usize));
    let mut content = vec![0; if fits { length as usize } else { 0 }];
    if !fits || !read_there(file, &mut content, start)? {
        return Ok(None);
    }
    Ok((header.last_chunk() == Some(&seal(segment, offset, &content))).then_some(content))
}

/// Reads at a place. False where there is not so much, or the medium does not give it back.
fn read_there(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
    let mut reads = 0;
    loop {
        match read_exact(file, bytes, offset) {
            Err(error) if is_unreadable(&error) => {
                reads += 1;
                if reads >= MOST_READS {
                    return Ok(false);
                }
            }
            read => return read,
        }
    }
}

/// The bytes of a file up to `most`, zero where the medium does not give them back.
pub(super) fn read_all(file: &dyn DiskFile, most: u64) -> io::Result<Vec<u8>> {
    const PIECE: usize = 4096;
    let mut bytes = vec![0; usize::try_from(file.len()?.min(most)).unwrap_or(0)];
    if read_there(file, &mut bytes, 0)? {
        return Ok(bytes);
    }
    for (number, piece) in bytes.chunks_mut(PIECE).enumerate() {
        if !read_there(file, piece, (number * PIECE) as u64)? {
            piece.fill(0);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        for content in [&b"one"[..], b"two two", b"three"] {
            bytes.extend(encode(7, bytes.len() as u64, content).unwrap());
        }
        bytes
    }

    #[test]
    fn a_torn_tail_is_no_damage_and_a_hole_is() {
        let whole = three();
        let contents = |bytes: &[u8], segment| {
            let mut frames = Frames::new(segment, bytes);
            let found: Vec<Vec<u8>> = frames.by_ref().map(|(_, content)| content.to_vec()).collect();
            (found.len(), frames.damaged)
        };
        assert_eq!(contents(&whole, 7), (3, false));
        assert_eq!(contents(&whole, 8), (0, false), "of another segment");
        for end in 0..whole.len() {
            assert!(!contents(&whole[..end], 7).1, "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            let last = at >= whole.len() - HEADER - 5;
            assert_eq!(contents(&flipped, 7), (2, !last), "flip at {at}");
        }
    }

    #[test]
    fn a_frame_elsewhere_is_none() {
        let whole = three();
        let moved = [&whole[..HEADER + 3], &whole[..]].concat();
        assert_eq!(Frames::new(7, &moved).count(), 1);
    }
}
