//! One chunk as a message: a codec byte (0 raw, 1 zstd), then the data.
//!
//! Invariant: what is decoded has the length and the digest that the index names. The digest is of the content, so a compressed chunk is
//! decompressed before it is trusted (docs/decisions/0007-digest-of-content.md). Until then it is bounded: the message by
//! [`MAX_CHUNK_MESSAGE_LEN`], and by what its headers say before it is decompressed (`frame.rs`) the window of zstd and each of its
//! blocks by 64 KiB, the content by the listed length.

use std::io::Read as _;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::MAX_CHUNK_LEN;
use super::frame;
use super::index::ChunkRef;
use crate::digest::Digest;

/// The longest chunk message in bytes: a codec byte and content that is not compressed.
pub const MAX_CHUNK_MESSAGE_LEN: usize = 1 + MAX_CHUNK_LEN as usize;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Why a chunk was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The message is longer than any chunk may be.
    #[error("a chunk message of {0} bytes, at most {MAX_CHUNK_MESSAGE_LEN} are read")]
    TooLong(usize),
    /// The message has no codec byte.
    #[error("an empty chunk message")]
    Empty,
    /// The codec is not known.
    #[error("codec {0} is not known; this agent reads 0 (raw) and 1 (zstd)")]
    UnknownCodec(u8),
    /// The compressed data is broken, or needs a window of more than 64 KiB.
    #[error("the chunk does not decompress: {0}")]
    Corrupt(String),
    /// The compressed data goes on behind its end.
    #[error("{0} bytes follow the compressed chunk")]
    Trailing(usize),
    /// Decompression bomb: there is more content than the index lists. It was stopped there.
    #[error("the chunk has more content than the {0} bytes that the index lists")]
    Bomb(u32),
    /// There is less content than the index lists, or raw content has another length.
    #[error("the chunk has {found} bytes, the index lists {expected}")]
    WrongLength {
        /// The listed length in bytes.
        expected: u32,
        /// The length found.
        found: usize,
    },
    /// The content is not what the index lists.
    #[error("the chunk's content has digest {found}, the index lists {expected}")]
    WrongDigest {
        /// The listed digest.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
}

/// Decodes chunk messages, one after the other, in memory that it keeps (at most about 1 MiB).
pub struct ChunkDecoder {
    frame: FrameDecoder,
    content: Vec<u8>,
}

impl std::fmt::Debug for ChunkDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkDecoder(..)")
    }
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkDecoder {
    /// A decoder that has allocated nothing.
    pub fn new() -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(u64::from(MAX_CHUNK_LEN));
        Self { frame, content: Vec::new() }
    }

    /// The content of a chunk, if it is what the index lists.
    pub fn decode<'a>(&'a mut self, message: &'a [u8], expect: &ChunkRef) -> Result<&'a [u8], ChunkError> {
        if message.len() > MAX_CHUNK_MESSAGE_LEN {
            return Err(ChunkError::TooLong(message.len()));
        }
        let content = match message.split_first().ok_or(ChunkError::Empty)? {
            (&RAW, data) => data,
            (&ZSTD, data) => self.decompress(data, expect.length)?,
            (codec, _) => return Err(ChunkError::UnknownCodec(*codec)),
        };
        if content.len() as u64 != u64::from(expect.length) {
            return Err(ChunkError::WrongLength { expected: expect.length, found: content.len() });
        }
        let found = Digest::of(content);
        if found != expect.digest {
            return Err(ChunkError::WrongDigest { expected: expect.digest, found });
        }
        Ok(content)
    }

    fn decompress(&mut self, mut data: &[u8], length: u32) -> Result<&[u8], ChunkError> {
        let corrupt = |cause: &dyn std::fmt::Display| ChunkError::Corrupt(cause.to_string());
        frame::check(data, length, u64::from(MAX_CHUNK_LEN))?;
        self.content.clear();
        self.frame.reset(&mut data).map_err(|cause| corrupt(&cause))?;
        let limit = u64::from(length.min(MAX_CHUNK_LEN));
        loop {
            // Block by block, so that no more than one block is decompressed past the limit.
            self.frame
                .decode_blocks(&mut data, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|cause| corrupt(&cause))?;
            let room = (limit + 1).saturating_sub(self.content.len() as u64);
            (&mut self.frame).take(room).read_to_end(&mut self.content).map_err(|cause| corrupt(&cause))?;
            if self.content.len() as u64 > limit {
                return Err(ChunkError::Bomb(length));
            }
            if self.frame.is_finished() {
                break;
            }
        }
        if !data.is_empty() {
            return Err(ChunkError::Trailing(data.len()));
        }
        Ok(&self.content)
    }
}

/// The message of a chunk: compressed by zstd at level 19 where that is shorter, else as it is. `content` has at most 64 KiB.
#[cfg(feature = "author")]
pub fn encode_chunk(content: &[u8]) -> Vec<u8> {
    let message = |codec: u8, data: &[u8]| [&[codec], data].concat();
    match zstd::bulk::compress(content, 19) {
        Ok(compressed) if compressed.len() < content.len() => message(ZSTD, &compressed),
        _ => message(RAW, content),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn expect(content: &[u8]) -> ChunkRef {
        ChunkRef { digest: Digest::of(content), length: u32::try_from(content.len()).unwrap() }
    }

    fn decode(message: &[u8], expect: &ChunkRef) -> Result<Vec<u8>, ChunkError> {
        ChunkDecoder::new().decode(message, expect).map(<[u8]>::to_vec)
    }

    /// A zstd frame of RLE blocks of 64 KiB each: a few bytes that become many.
    fn bomb(blocks: u8) -> Vec<u8> {
        // Magic, no flags, window of 64 KiB (exponent 6); then for each block its header (RLE, size << 3) and its byte.
        let mut message = vec![ZSTD, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 6 << 3];
        for at in 1..=blocks {
            let header = (65_536_u32 << 3) | (1 << 1) | u32::from(at == blocks);
            message.extend_from_slice(&header.to_le_bytes()[..3]);
            message.push(7);
        }
        message
    }

    #[test]
    fn reads_raw_and_compressed_chunks() {
        let content = vec![7; 65_536];
        assert_eq!(decode(&[&[RAW], &content[..]].concat(), &expect(&content)).unwrap(), content);
        assert_eq!(decode(&bomb(1), &expect(&content)).unwrap(), content);
    }

    #[test]
    fn stops_a_bomb_at_the_listed_length() {
        let mut decoder = ChunkDecoder::new();
        assert_eq!(decoder.decode(&bomb(200), &expect(&vec![7; 65_536])), Err(ChunkError::Bomb(65_536)));
        assert!(decoder.content.len() <= 65_537 && decoder.content.capacity() < 200_000);
        assert_eq!(decode(&bomb(1), &expect(b"short")), Err(ChunkError::Bomb(5)));
        let endless = ChunkRef { length: u32::MAX, ..expect(b"") };
        assert_eq!(decode(&bomb(2), &endless), Err(ChunkError::Bomb(u32::MAX)));
    }

    #[test]
    fn refuses_each_fault_by_name() {
        let listed = expect(b"content");
        let found = Digest::of(b"contend");
        assert_eq!(decode(&vec![0; MAX_CHUNK_MESSAGE_LEN + 1], &listed), Err(ChunkError::TooLong(65_538)));
        assert_eq!(decode(b"", &listed), Err(ChunkError::Empty));
        assert_eq!(decode(b"\x02content", &listed), Err(ChunkError::UnknownCodec(2)));
        assert_eq!(decode(b"\0contents", &listed), Err(ChunkError::WrongLength { expected: 7, found: 8 }));
        assert_eq!(decode(b"\0contend", &listed), Err(ChunkError::WrongDigest { expected: listed.digest, found }));
        assert!(matches!(decode(b"\x01content", &listed), Err(ChunkError::Corrupt(_))));
        let full = expect(&vec![7; 65_536]);
        assert_eq!(decode(&[bomb(1), b"tail".to_vec()].concat(), &full), Err(ChunkError::Trailing(4)));
        let mut wide = bomb(1);
        wide[6] = 7 << 3;
        assert!(matches!(decode(&wide, &full), Err(ChunkError::Corrupt(_))));
    }

    #[test]
    fn a_decoder_works_on_after_a_refusal() {
        let mut decoder = ChunkDecoder::new();
        let content = vec![7; 65_536];
        assert!(decoder.decode(&bomb(3), &expect(&content)).is_err());
        assert!(decoder.decode(&bomb(3)[..9], &expect(&content)).is_err());
        assert_eq!(decoder.decode(&bomb(1), &expect(&content)).unwrap(), content);
    }

    proptest! {
        #[test]
        fn anything_at_all_is_refused(message: Vec<u8>, length in 0..70_000_u32) {
            let listed = ChunkRef { digest: Digest::of(b"no such content"), length };
            prop_assert!(decode(&message, &listed).is_err());
        }
    }

    #[cfg(feature = "author")]
    mod encoded {
        use super::*;

        fn prose(length: usize) -> Vec<u8> {
            b"the quick brown fox jumps over the lazy dog; "
                .iter()
                .copied()
                .cycle()
                .take(length)
                .enumerate()
                .map(|(at, byte)| byte ^ u8::from(at % 97 == 0))
                .collect()
        }

        #[test]
        fn compresses_only_where_that_is_shorter() {
            let text = prose(40_000);
            let noise: Vec<u8> = (0..256_u32).flat_map(|at| *Digest::of(&at.to_be_bytes()).as_bytes()).collect();
            for (content, codec) in [(text, ZSTD), (noise, RAW), (b"x".to_vec(), RAW)] {
                let message = encode_chunk(&content);
                assert_eq!(message[0], codec);
                assert!(message.len() <= content.len() + 1);
                assert_eq!(decode(&message, &expect(&content)).unwrap(), content);
            }
        }

        proptest! {
            #[test]
            fn round_trips(content in proptest::collection::vec(0..5_u8, 1..=65_536)) {
                prop_assert_eq!(decode(&encode_chunk(&content), &expect(&content)).unwrap(), content);
            }

            #[test]
            fn a_mutated_message_gives_the_content_or_nothing(
                length in 1..3000_usize,
                flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1..=255_u8), 1..6),
                cut in any::<proptest::sample::Index>(),
            ) {
                let content = prose(length);
                let mut message = encode_chunk(&content);
                for (at, flip) in flips {
                    let at = at.index(message.len());
                    message[at] ^= flip;
                }
                if let Ok(decoded) = decode(&message, &expect(&content)) {
                    prop_assert_eq!(&decoded, &content);
                }
                message.truncate(cut.index(message.len()));
                if let Ok(decoded) = decode(&message, &expect(&content)) {
                    prop_assert_eq!(&decoded, &content);
                }
            }
        }
    }
}
