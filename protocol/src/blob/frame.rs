//! A look at a zstd frame (RFC 8878) before a byte of it is decompressed: what it says of its own sizes.
//!
//! Purpose: a chunk is held to the digest of its content, so it is decompressed before it can be trusted. What the decompressor would
//! allocate follows from headers: the window, the size of each raw or repeated block, the literals and the number of sequences of each compressed one.
//! Here they are read alone, in one pass without allocating, and held to the length that the index lists.
//!
//! Invariants of what passes: no dictionary, a window of at most 64 KiB (twice that in a batch of records), each block within the window, all blocks together within
//! the listed length as far as headers tell, a declared content size that is the listed one, nothing behind the end.

use super::MAX_CHUNK_LEN;
use super::chunk::ChunkError;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A sequence gives at least three bytes (RFC 8878, 3.1.1.3.2.1.1: the shortest match).
const SHORTEST_SEQUENCE: u64 = 3;

/// Reads a frame's headers. `length` is what is listed for its content, `most` the largest window.
pub(crate) fn check(frame: &[u8], length: u32, most: u64) -> Result<(), ChunkError> {
    let mut rest = frame.strip_prefix(&MAGIC).ok_or_else(|| corrupt("it does not begin as a zstd frame does"))?;
    let header = Header::take(&mut rest)?;
    if header.window > most {
        return Err(corrupt(&format!("its window has {} bytes, at most {most} are allowed", header.window)));
    }
    if let Some(declared) = header.content
        && declared != u64::from(length)
    {
        return Err(ChunkError::WrongLength {
            expected: length,
            found: usize::try_from(declared).unwrap_or(usize::MAX),
        });
    }
    let mut content = 0_u64;
    loop {
        let block = Block::take(&mut rest, header.window)?;
        content += block.content;
        if content > u64::from(length.min(MAX_CHUNK_LEN)) {
            return Err(ChunkError::Bomb(length));
        }
        if block.is_last {
            break;
        }
    }
    if header.checksum {
        take::<4>(&mut rest)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(ChunkError::Trailing(rest.len())) }
}

struct Header {
    window: u64,
    /// The content's length, where the frame says it.
    content: Option<u64>,
    /// Whether four bytes of a checksum follow the last block.
    checksum: bool,
}

impl Header {
    /// 3.1.1.1: a descriptor, then the window, a dictionary's id and the content's length, each where the descriptor says so.
    fn take(rest: &mut &[u8]) -> Result<Self, ChunkError> {
        let [descriptor] = take(rest)?;
        let is_single = descriptor & 0x20 != 0;
        if descriptor & 0x08 != 0 {
            return Err(corrupt("a reserved bit of its header is set"));
        }
        if descriptor & 0x03 != 0 {
            return Err(corrupt("it needs a dictionary"));
        }
        let window = if is_single { None } else { Some(window(take(rest)?)) };
        let content = match descriptor >> 6 {
            0 if !is_single => None,
            0 => Some(u64::from(u8::from_le_bytes(take(rest)?))),
            1 => Some(u64::from(u16::from_le_bytes(take(rest)?)) + 256),
            2 => Some(u64::from(u32::from_le_bytes(take(rest)?))),
            _ => Some(u64::from_le_bytes(take(rest)?)),
        };
        // A frame of a single segment has its content as its window.
        let window = window.or(content).unwrap_or(u64::MAX);
        Ok(Self { window, content, checksum: descriptor & 0x04 != 0 })
    }
}

/// 3.1.1.1.2: five bits of exponent, three of mantissa.
fn window([descriptor]: [u8; 1]) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

struct Block {
    is_last: bool,
    /// The least that it gives.
    content: u64,
}

impl Block {
    /// 3.1.1.2: three bytes of header, then what its kind needs. `most` is the largest block (3.1.1.2.4).
    fn take(rest: &mut &[u8], most: u64) -> Result<Self, ChunkError> {
        let header = little_endian(take::<3>(rest)?);
        let (is_last, size) = (header & 1 != 0, header >> 3);
        if size > most {
            return Err(corrupt("a block is longer than the window"));
        }
        let stored = usize::try_from(if header >> 1 & 3 == 1 { 1 } else { size }).unwrap_or(usize::MAX);
        let (mut body, after) = rest.split_at_checked(stored).ok_or_else(cut_off)?;
        *rest = after;
        let content = match header >> 1 & 3 {
            0 | 1 => size,
            2 => compressed(&mut body)?,
            _ => return Err(corrupt("a block is of a reserved kind")),
        };
        if content > most {
            return Err(corrupt("a block has more content than the window"));
        }
        Ok(Self { is_last, content })
    }
}

/// 3.1.1.3: literals, then sequences. The least that they give: all literals are used, and each sequence repeats something.
fn compressed(body: &mut &[u8]) -> Result<u64, ChunkError> {
    let (literals, stored) = literals(body)?;
    let stored = usize::try_from(stored).unwrap_or(usize::MAX);
    let (_, mut sequences) = body.split_at_checked(stored).ok_or_else(cut_off)?;
    let count = match take::<1>(&mut sequences)? {
        [count @ 0..=127] => u64::from(count),
        [high @ 128..=254] => (u64::from(high) - 128) << 8 | little_endian(take::<1>(&mut sequences)?),
        [255] => little_endian(take::<2>(&mut sequences)?) + 0x7f00,
    };
    Ok(literals + count * SHORTEST_SEQUENCE)
}

/// 3.1.1.3.1.1: how many literals there are, and how many bytes they take behind this header.
fn literals(body: &mut &[u8]) -> Result<(u64, u64), ChunkError> {
    let first = *body.first().ok_or_else(cut_off)?;
    let (kind, form) = (first & 3, first >> 2 & 3);
    if kind < 2 {
        let count = match form {
            0 | 2 => little_endian(take::<1>(body)?) >> 3,
            1 => little_endian(take::<2>(body)?) >> 4,
            _ => little_endian(take::<3>(body)?) >> 4,
        };
        return Ok((count, if kind == 0 { count } else { 1 }));
    }
    let (header, bits) = match form {
        0 | 1 => (little_endian(take::<3>(body)?), 10),
        2 => (little_endian(take::<4>(body)?), 14),
        _ => (little_endian(take::<5>(body)?), 18),
    };
    let mask = (1 << bits) - 1;
    Ok((header >> 4 & mask, header >> (4 + bits) & mask))
}

fn little_endian<const N: usize>(bytes: [u8; N]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ChunkError> {
    let (bytes, after) = rest.split_first_chunk().ok_or_else(cut_off)?;
    *rest = after;
    Ok(*bytes)
}

fn cut_off() -> ChunkError {
    corrupt("it is cut off")
}

fn corrupt(cause: &str) -> ChunkError {
    ChunkError::Corrupt(cause.into())
}

#[cfg(all(test, feature = "author"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::ChunkDecoder;
    use super::super::index::ChunkRef;
    use super::*;
    use crate::digest::Digest;

    const LENGTH: usize = 40_000;
    const MOST: u64 = MAX_CHUNK_LEN as u64;

    fn text() -> Vec<u8> {
        let words = |at: usize| format!("{} plover {}; ", at % 97, at * at % 1009).into_bytes();
        (0..).flat_map(words).take(LENGTH).collect()
    }

    fn expect(content: &[u8]) -> ChunkRef {
        ChunkRef { digest: Digest::of(content), length: u32::try_from(content.len()).unwrap() }
    }

    fn decode(frame: &[u8], expect: &ChunkRef) -> Result<Vec<u8>, ChunkError> {
        ChunkDecoder::new().decode(&[&[1], frame].concat(), expect).map(<[u8]>::to_vec)
    }

    fn refused(frame: &[u8], expect: &ChunkRef, why: &str) {
        match decode(frame, expect) {
            Err(ChunkError::Corrupt(said)) => assert!(said.contains(why), "{said}, not {why}"),
            other => panic!("{why}: {other:?}"),
        }
    }

    /// A frame with these blocks: header bits and body of each.
    fn frame(header: &[u8], blocks: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut frame = [&MAGIC, header].concat();
        for (at, (kind, size, body)) in blocks.iter().enumerate() {
            let is_last = u32::from(at + 1 == blocks.len());
            frame.extend_from_slice(&(size << 3 | kind << 1 | is_last).to_le_bytes()[..3]);
            frame.extend_from_slice(body);
        }
        frame
    }

    /// No flags, a window of 64 KiB.
    const PLAIN: &[u8] = &[0, 6 << 3];
    const RAW: u32 = 0;
    const REPEATED: u32 = 1;
    const COMPRESSED: u32 = 2;

    #[test]
    fn what_zstd_makes_passes_at_every_level() {
        for content in [
            text(),
            vec![0; 65_536],
            text()[..1].to_vec(),
            text()[..300].to_vec(),
            [text(), text()].concat()[..65_536].to_vec(),
        ] {
            for level in [-7, -1, 1, 3, 9, 19, 22] {
                let frame = zstd::bulk::compress(&content, level).unwrap();
                check(&frame, u32::try_from(content.len()).unwrap(), MOST).unwrap();
                assert_eq!(decode(&frame, &expect(&content)).unwrap(), content, "level {level}");
            }
        }
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_refused() {
        let content = text();
        let frame = zstd::bulk::compress(&content, 19).unwrap();
        for end in 0..frame.len() {
            assert!(decode(&frame[..end], &expect(&content)).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_follows_a_frame_is_refused_another_frame_too() {
        let content = text();
        let frame = zstd::bulk::compress(&content, 19).unwrap();
        let with = |tail: &[u8]| decode(&[&frame, tail].concat(), &expect(&content));
        assert_eq!(with(b"x"), Err(ChunkError::Trailing(1)));
        assert_eq!(with(&frame), Err(ChunkError::Trailing(frame.len())));
        // A frame that says of itself that it is to be skipped is no content.
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7];
        assert_eq!(with(&skippable), Err(ChunkError::Trailing(skippable.len())));
        refused(&[&skippable[..], &frame].concat(), &expect(&content), "begin");
    }

    #[test]
    fn a_declared_size_that_is_not_the_listed_one_is_refused_before_anything_is_decompressed() {
        let content = text();
        let frame = zstd::bulk::compress(&content, 19).unwrap();
        for length in [LENGTH - 1, LENGTH + 1, 0] {
            let listed = ChunkRef { length: u32::try_from(length).unwrap(), ..expect(&content) };
            let wrong = ChunkError::WrongLength { expected: listed.length, found: LENGTH };
            assert_eq!(check(&frame, listed.length, MOST), Err(wrong.clone()));
            assert_eq!(decode(&frame, &listed), Err(wrong));
        }
        // Eight bytes of length, all of them set, and a window of 64 KiB or none of its own.
        for descriptor in [&[0xc0, 6 << 3][..], &[0xe0]] {
            let frame = [&MAGIC, descriptor, &[0xff; 8], &[1, 0, 0]].concat();
            assert!(decode(&frame, &expect(&content)).is_err());
        }
    }

    #[test]
    fn a_declared_size_that_is_not_the_real_one_is_refused() {
        let content = text();
        let mut frame = zstd::bulk::compress(&content, 19).unwrap();
        // Two bytes of length behind the descriptor, 256 less than it is.
        assert_eq!(frame[4] >> 6, 1);
        let declared = u16::try_from(LENGTH + 1 - 256).unwrap().to_le_bytes();
        frame[5..7].copy_from_slice(&declared);
        let longer = ChunkRef { length: u32::try_from(LENGTH + 1).unwrap(), ..expect(&content) };
        assert_eq!(decode(&frame, &longer), Err(ChunkError::WrongLength { expected: longer.length, found: LENGTH }));
    }

    #[test]
    fn dictionaries_are_refused() {
        for header in [&[1, 6 << 3, 7][..], &[2, 6 << 3, 7, 7], &[3, 6 << 3, 7, 7, 7, 7]] {
            refused(&frame(header, &[(RAW, 1, b"x")]), &expect(b"x"), "dictionary");
        }
        // One without an id is not named; what refers to it refers to nothing.
        let content = text();
        let mut compressor = zstd::bulk::Compressor::with_dictionary(19, &content).unwrap();
        assert!(decode(&compressor.compress(&content).unwrap(), &expect(&content)).is_err());
    }

    #[test]
    fn reserved_bits_and_kinds_are_refused() {
        refused(&frame(&[0x08, 6 << 3], &[(RAW, 0, &[])]), &expect(b""), "reserved bit");
        refused(&frame(PLAIN, &[(3, 0, &[])]), &expect(b""), "reserved kind");
    }

    #[test]
    fn blocks_that_claim_much_are_refused_by_their_headers() {
        let full = expect(&vec![0; 65_536]);
        refused(&frame(PLAIN, &[(REPEATED, 65_537, &[0])]), &full, "longer than the window");
        refused(&frame(PLAIN, &[(REPEATED, (1 << 21) - 1, &[0])]), &full, "longer than the window");
        refused(&frame(&[0, 0], &[(REPEATED, 1025, &[0])]), &full, "longer than the window");
        refused(&frame(PLAIN, &[(RAW, 60_000, b"short")]), &full, "cut off");
        // A megabyte of literals, all the same, in five bytes.
        let literals = [1 | 3 << 2 | 0xf0, 0xff, 0xff, 0, 0];
        refused(&frame(PLAIN, &[(COMPRESSED, 5, &literals)]), &full, "more content");
        // 98,047 sequences in five bytes.
        let sequences = [0, 255, 255, 255, 0x54];
        refused(&frame(PLAIN, &[(COMPRESSED, 5, &sequences)]), &full, "more content");
        // 256 KiB of literals that a tree would give.
        let tree = [2 | 3 << 2 | 0xf0, 0xff, 0x3f, 0, 0, 0];
        refused(&frame(PLAIN, &[(COMPRESSED, 6, &tree)]), &full, "more content");
        refused(&frame(PLAIN, &[(COMPRESSED, 0, &[])]), &full, "cut off");
    }

    #[test]
    fn a_window_above_64_kib_is_refused() {
        refused(&frame(&[0, 6 << 3 | 1], &[(RAW, 1, b"x")]), &expect(b"x"), "window");
        refused(&frame(&[0, 31 << 3 | 7], &[(RAW, 1, b"x")]), &expect(b"x"), "window");
        let wide = vec![7; 65_537];
        let frame = zstd::bulk::compress(&wide, 19).unwrap();
        refused(&frame, &expect(&wide), "window");
    }

    #[test]
    fn empty_blocks_without_end_are_cut_off_with_the_message() {
        let blocks = [(RAW, 0, &[][..]); 20_000];
        assert_eq!(decode(&frame(PLAIN, &blocks), &expect(b"")).unwrap(), b"");
        let endless = [&MAGIC, PLAIN, &[0; 60_000]].concat();
        refused(&endless, &expect(b""), "cut off");
    }

    #[test]
    fn a_checksum_is_part_of_the_frame() {
        let content = text();
        let mut compressor = zstd::bulk::Compressor::new(19).unwrap();
        compressor.include_checksum(true).unwrap();
        let frame = compressor.compress(&content).unwrap();
        assert_eq!(decode(&frame, &expect(&content)).unwrap(), content);
        refused(&frame[..frame.len() - 1], &expect(&content), "cut off");
    }
}
