//! Indexes, chunks and batches of records.

use sanderling_protocol::{
    batch::{self, BatchBuilder, MAX_CONTENT, MAX_MESSAGE, MAX_RECORDS},
    blob::{BlobIndex, ChunkDecoder, ChunkError, ChunkRef, MAX_CHUNK_LEN, MAX_CHUNK_MESSAGE_LEN, MAX_CHUNKS},
    digest::Digest,
};

/// The signed length (u64, big-endian), then an index message.
///
/// What is accepted has the signed length, keeps the limits, and is written as it was read.
pub fn index(bytes: &[u8]) {
    let Some((length, message)) = bytes.split_first_chunk() else { return };
    let length = u64::from_be_bytes(*length);
    let Ok(index) = BlobIndex::decode(message, length) else { return };
    assert_eq!(index.length(), length);
    assert!(index.chunks().len() <= MAX_CHUNKS);
    assert!(index.chunks().iter().all(|chunk| (1..=MAX_CHUNK_LEN).contains(&chunk.length)));
    assert_eq!(index.placed().last().map_or(0, |(at, chunk)| at + u64::from(chunk.length)), length);
    assert_eq!(index.encode(), message);
}

/// The listed length (u32, little-endian), then a chunk message.
///
/// Nothing has the digest of nothing known; with the digest that was found the same content comes out, in the listed length. What zstd's own
/// decoder makes of the message is the same, where it makes anything of it.
pub fn chunk(bytes: &[u8]) {
    let Some((length, message)) = bytes.split_first_chunk() else { return };
    let length = u32::from_le_bytes(*length);
    let mut decoder = ChunkDecoder::new();
    let nothing = ChunkRef { digest: Digest::from_bytes([0; 32]), length };
    let found = match decoder.decode(message, &nothing) {
        Err(ChunkError::WrongDigest { found, .. }) => found,
        Err(ChunkError::Bomb(listed)) => return assert_eq!(listed, length),
        Err(ChunkError::TooLong(_)) => return assert!(message.len() > MAX_CHUNK_MESSAGE_LEN),
        Err(_) => return,
        Ok(_) => panic!("content with a digest of zeros"),
    };
    let listed = ChunkRef { digest: found, length };
    let content = decoder.decode(message, &listed).expect("the same message again").to_vec();
    assert!(content.len() <= MAX_CHUNK_LEN as usize && content.len() as u64 == u64::from(length));
    assert_eq!(Digest::of(&content), found);
    if let Some((1, data)) = message.split_first()
        && let Ok(reference) = zstd::bulk::decompress(data, MAX_CHUNK_LEN as usize)
    {
        assert!(reference == content, "zstd decompresses it to something else");
    }
}

/// A batch of records.
///
/// What is accepted is bounded, and is read again from a batch that is put together of it.
pub fn batch(bytes: &[u8]) {
    let Ok(records) = batch::decode(bytes) else { return };
    assert!(bytes.len() <= MAX_MESSAGE && records.len() <= MAX_RECORDS);
    assert!(records.iter().map(|record| record.payload.len()).sum::<usize>() <= MAX_CONTENT);
    let mut builder = BatchBuilder::default();
    // The builder leaves room for the longest numbers, so that it may take less than is read.
    if records.iter().all(|record| builder.push(record.id, record.at_ms, &record.payload)) {
        assert_eq!(batch::decode(&builder.finish()), Ok(records));
    }
}
