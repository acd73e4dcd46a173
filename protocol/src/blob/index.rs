//! The index of a blob: which chunks it is made of, in order.
//!
//! As a message: `SBI1`, the blob's length (u64, big-endian), then for each chunk its digest (32 bytes) and its length (u24,
//! big-endian). 35 bytes a chunk keep the index of a 100 MB blob under 128 KiB.
//! Invariants of every index: the lengths add up to the blob's; each chunk has 1 byte to 64 KiB; there are no more chunks
//! than cutting can make.

use super::{MAX_CHUNK_LEN, MIN_CHUNK_LEN};
use crate::digest::{DIGEST_LEN, Digest};

/// The longest index message in bytes. It leaves room for the topic under a limit of 128 KiB for the packet.
pub const MAX_INDEX_LEN: usize = 127 * 1024;
/// The most chunks that an index lists.
pub const MAX_CHUNKS: usize = (MAX_INDEX_LEN - HEAD_LEN) / ENTRY_LEN;

const MAGIC: [u8; 4] = *b"SBI1";
const HEAD_LEN: usize = 12;
const ENTRY_LEN: usize = DIGEST_LEN + 3;

/// One chunk of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Length of its content in bytes, 1 to 64 KiB.
    pub length: u32,
}

/// The chunks of a blob, in order. One may stand in it more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobIndex {
    length: u64,
    chunks: Vec<ChunkRef>,
}

/// Why an index was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The message is longer than any index may be.
    #[error("an index of {0} bytes, at most {MAX_INDEX_LEN} are read")]
    TooLong(usize),
    /// The message does not begin as an index does, or is of a version that this program does not know.
    #[error("not an index of a known version")]
    NotAnIndex,
    /// The message ends within an entry.
    #[error("an index that ends within an entry")]
    Truncated,
    /// The index is of a blob with another length than the signed one.
    #[error("an index of a blob of {found} bytes, signed metadata says {expected}")]
    WrongLength {
        /// The signed length in bytes.
        expected: u64,
        /// The length that the index names.
        found: u64,
    },
    /// A chunk is empty or longer than 64 KiB.
    #[error("chunk {at} has {length} bytes, 1 to {MAX_CHUNK_LEN} are allowed")]
    ChunkLength {
        /// Its place in the index.
        at: usize,
        /// Its length in bytes.
        length: u32,
    },
    /// The lengths of the chunks do not add up to that of the blob.
    #[error("the chunks have {found} bytes together, the blob has {expected}")]
    WrongSum {
        /// The blob's length in bytes.
        expected: u64,
        /// The sum over the chunks.
        found: u64,
    },
    /// There are more chunks than cutting a blob of this length makes, or than an index holds.
    #[error("{found} chunks, a blob of this length has at most {limit}")]
    TooManyChunks {
        /// The most there may be.
        limit: u64,
        /// How many there are.
        found: u64,
    },
}

impl BlobIndex {
    /// An index of these chunks.
    pub fn new(length: u64, chunks: Vec<ChunkRef>) -> Result<Self, IndexError> {
        let limit = length.div_ceil(u64::from(MIN_CHUNK_LEN)).min(MAX_CHUNKS as u64);
        let found = chunks.len() as u64;
        if found > limit {
            return Err(IndexError::TooManyChunks { limit, found });
        }
        let mut sum = 0_u64;
        for (at, ChunkRef { length, .. }) in chunks.iter().enumerate() {
            if !(1..=MAX_CHUNK_LEN).contains(length) {
                return Err(IndexError::ChunkLength { at, length: *length });
            }
            sum += u64::from(*length);
        }
        if sum != length {
            return Err(IndexError::WrongSum { expected: length, found: sum });
        }
        Ok(Self { length, chunks })
    }

    /// Reads an index message of a blob whose signed length is `expected_length` bytes.
    pub fn decode(message: &[u8], expected_length: u64) -> Result<Self, IndexError> {
        if message.len() > MAX_INDEX_LEN {
            return Err(IndexError::TooLong(message.len()));
        }
        let rest = message.strip_prefix(&MAGIC).ok_or(IndexError::NotAnIndex)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(IndexError::Truncated)?;
        let found = u64::from_be_bytes(*length);
        if found != expected_length {
            return Err(IndexError::WrongLength { expected: expected_length, found });
        }
        let (entries, []) = rest.as_chunks::<ENTRY_LEN>() else { return Err(IndexError::Truncated) };
        Self::new(found, entries.iter().map(entry).collect())
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEAD_LEN + self.chunks.len() * ENTRY_LEN);
        message.extend_from_slice(&MAGIC);
        message.extend_from_slice(&self.length.to_be_bytes());
        for chunk in &self.chunks {
            let [_, length @ ..] = chunk.length.to_be_bytes();
            message.extend_from_slice(chunk.digest.as_bytes());
            message.extend_from_slice(&length);
        }
        message
    }

    /// Length of the blob in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// The chunks with the offset of each in the blob, in bytes.
    pub fn placed(&self) -> impl Iterator<Item = (u64, ChunkRef)> + '_ {
        self.chunks.iter().scan(0_u64, |offset, chunk| {
            let at = *offset;
            *offset += u64::from(chunk.length);
            Some((at, *chunk))
        })
    }
}

fn entry(bytes: &[u8; ENTRY_LEN]) -> ChunkRef {
    let mut digest = [0; DIGEST_LEN];
    let mut length = [0; 4];
    for (to, from) in digest.iter_mut().chain(length.iter_mut().skip(1)).zip(bytes) {
        *to = *from;
    }
    ChunkRef { digest: Digest::from_bytes(digest), length: u32::from_be_bytes(length) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn chunk(length: u32) -> ChunkRef {
        ChunkRef { digest: Digest::of(&length.to_be_bytes()), length }
    }

    fn index() -> BlobIndex {
        BlobIndex::new(73_729, vec![chunk(65_536), chunk(8192), chunk(1)]).unwrap()
    }

    #[test]
    fn round_trips_and_places_each_chunk() {
        let message = index().encode();
        assert_eq!(message.len(), HEAD_LEN + 3 * ENTRY_LEN);
        assert_eq!(BlobIndex::decode(&message, 73_729), Ok(index()));
        let offsets: Vec<u64> = index().placed().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, [0, 65_536, 73_728]);
    }

    #[test]
    fn an_empty_blob_has_an_index_without_chunks() {
        let message = BlobIndex::new(0, Vec::new()).unwrap().encode();
        assert_eq!(BlobIndex::decode(&message, 0).unwrap().chunks(), []);
    }

    #[test]
    fn the_index_of_100_megabytes_in_average_chunks_fits() {
        let chunks = vec![chunk(32 * 1024); 3200];
        let index = BlobIndex::new(3200 * 32 * 1024, chunks).unwrap();
        assert!(index.encode().len() < 128 * 1024);
    }

    #[test]
    fn refuses_each_fault_by_name() {
        let message = index().encode();
        let decode = |message: &[u8]| BlobIndex::decode(message, 73_729).unwrap_err();
        assert_eq!(decode(&vec![0; MAX_INDEX_LEN + 1]), IndexError::TooLong(MAX_INDEX_LEN + 1));
        assert_eq!(decode(b"SBI2"), IndexError::NotAnIndex);
        assert_eq!(decode(b"SBI1\0"), IndexError::Truncated);
        assert_eq!(decode(&message[..message.len() - 1]), IndexError::Truncated);
        assert_eq!(
            BlobIndex::decode(&message, 73_730),
            Err(IndexError::WrongLength { expected: 73_730, found: 73_729 })
        );
        assert_eq!(
            decode(&message[..message.len() - ENTRY_LEN]),
            IndexError::WrongSum { expected: 73_729, found: 73_728 }
        );
        let lengths =
            |lengths: &[u32], sum| BlobIndex::new(sum, lengths.iter().copied().map(chunk).collect()).unwrap_err();
        assert_eq!(lengths(&[65_537], 65_537), IndexError::ChunkLength { at: 0, length: 65_537 });
        assert_eq!(lengths(&[1, 0], 8193), IndexError::ChunkLength { at: 1, length: 0 });
        assert_eq!(lengths(&[1, 1], 2), IndexError::TooManyChunks { limit: 1, found: 2 });
        let many = lengths(&vec![65_536; MAX_CHUNKS + 1], 65_536 * (MAX_CHUNKS as u64 + 1));
        assert_eq!(many, IndexError::TooManyChunks { limit: MAX_CHUNKS as u64, found: MAX_CHUNKS as u64 + 1 });
    }

    proptest! {
        #[test]
        fn what_is_accepted_keeps_the_invariants(mut message: Vec<u8>, length in 0..200_000_u64, head: bool) {
            if head {
                message.splice(..0, MAGIC.into_iter().chain(length.to_be_bytes()));
            }
            if let Ok(index) = BlobIndex::decode(&message, length) {
                prop_assert_eq!(index.chunks().iter().map(|chunk| u64::from(chunk.length)).sum::<u64>(), length);
                prop_assert_eq!(index.encode(), message);
            }
        }

        #[test]
        fn a_mutated_length_is_never_accepted(entry in 0..3_usize, byte in 0..3_usize, flip in 1..=255_u8) {
            let mut message = index().encode();
            message[HEAD_LEN + entry * ENTRY_LEN + DIGEST_LEN + byte] ^= flip;
            prop_assert!(BlobIndex::decode(&message, 73_729).is_err());
        }

        #[test]
        fn a_mutated_head_is_never_accepted(at in 0..HEAD_LEN, flip in 1..=255_u8) {
            let mut message = index().encode();
            message[at] ^= flip;
            prop_assert!(BlobIndex::decode(&message, 73_729).is_err());
        }
    }
}
