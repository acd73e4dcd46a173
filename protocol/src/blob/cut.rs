//! Cutting a blob where its content says so: FastCDC, version of 2020, average 32 KiB.
//!
//! An insertion or a deletion changes the chunks around it and no other, so that a device that has the old version asks
//! for little.

use fastcdc::v2020::FastCDC;

use super::index::{BlobIndex, ChunkRef, IndexError};
use super::{MAX_CHUNK_LEN, MIN_CHUNK_LEN};
use crate::digest::Digest;

const AVERAGE_CHUNK_LEN: usize = 32 * 1024;

/// The index of a blob, and its chunks in the order of the index.
///
/// # Errors
/// `TooManyChunks` if the blob has more than an index holds: past 110 MB.
pub fn cut(content: &[u8]) -> Result<(BlobIndex, Vec<&[u8]>), IndexError> {
    let chunks: Vec<&[u8]> = FastCDC::new(content, MIN_CHUNK_LEN as usize, AVERAGE_CHUNK_LEN, MAX_CHUNK_LEN as usize)
        .filter_map(|chunk| content.get(chunk.offset..chunk.offset.checked_add(chunk.length)?))
        .collect();
    let listed = |chunk: &&[u8]| {
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        ChunkRef { digest: Digest::of(chunk), length }
    };
    let index = BlobIndex::new(content.len() as u64, chunks.iter().map(listed).collect())?;
    Ok((index, chunks))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let blocks = (0..).flat_map(|at: u64| *Digest::of(&at.to_be_bytes()).as_bytes());
        blocks.take(length).collect()
    }

    #[test]
    fn an_insertion_in_the_middle_of_a_megabyte_leaves_most_chunks_shared() {
        let old = noise(1_000_000);
        let mut new = old.clone();
        new.splice(500_000..500_000, *b"a few new bytes");
        let (old, _) = cut(&old).unwrap();
        let (new, _) = cut(&new).unwrap();
        let known: BTreeSet<_> = old.chunks().iter().map(|chunk| chunk.digest).collect();
        let to_pull: u32 =
            new.chunks().iter().filter(|chunk| !known.contains(&chunk.digest)).map(|chunk| chunk.length).sum();
        assert!(new.chunks().len() > 15, "{} chunks", new.chunks().len());
        assert!(to_pull <= 3 * MAX_CHUNK_LEN, "{to_pull} bytes");
    }

    #[test]
    fn a_hundred_megabytes_fit_an_index() {
        let part = noise(1 << 20);
        let content: Vec<u8> = (0..100_u8).flat_map(|at| part.iter().map(move |byte| byte ^ at)).collect();
        let (index, _) = cut(&content).unwrap();
        assert!(index.encode().len() < 128 * 1024);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_chunks_are_the_blob(length in 0..300_000_usize) {
            let content = noise(length);
            let (index, chunks) = cut(&content).unwrap();
            prop_assert_eq!(chunks.concat(), content);
            prop_assert_eq!(BlobIndex::decode(&index.encode(), length as u64).unwrap(), index);
        }
    }
}
