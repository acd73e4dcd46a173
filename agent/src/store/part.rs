//! A blob that is being put together: its chunks, its index file, its part file.
//!
//! Invariant: a chunk is marked as held only after its bytes in the part file had its digest in this run.

use std::{io, path::Path};

use sanderling_protocol::digest::{DIGEST_LEN, Digest, Hasher};

use super::{
    BlobChunk, BlobError,
    disk::{Access, Disk, DiskFile, Kind, is_unreadable, read_exact, read_short},
};
use crate::atomic_file;

/// A chunk's content is at most this long, in bytes.
pub(super) const MAX_CHUNK: u32 = 64 * 1024;
/// A blob has at most this many chunks.
pub(super) const MAX_CHUNKS: usize = 64 * 1024;

/// So many bytes are gathered before the disk is told to write them.
const WRITTEN_AT_ONCE: u64 = 1 << 20;
const MAGIC: &[u8; 8] = b"SDLINDX1";
const ENTRY: usize = DIGEST_LEN + 4;
/// An index file is at most this long, in bytes.
pub(super) const MAX_INDEX: usize = MAGIC.len() + MAX_CHUNKS * ENTRY;

/// Holds a list of chunks to the blob's length: in order, without gap, none empty or too long.
pub(super) fn check_chunks(digest: &Digest, length: u64, chunks: &[BlobChunk]) -> Result<(), BlobError> {
    let refuse = |problem: String| Err(BlobError::Index { digest: *digest, problem });
    if chunks.len() > MAX_CHUNKS {
        return refuse(format!("{} chunks; at most {MAX_CHUNKS} are allowed", chunks.len()));
    }
    let mut end = 0_u64;
    for (index, chunk) in chunks.iter().enumerate() {
        if chunk.offset != end {
            return refuse(format!("chunk {index} lies at {}, expected at {end}", chunk.offset));
        }
        if !(1..=MAX_CHUNK).contains(&chunk.length) {
            return refuse(format!("chunk {index} has {} bytes; 1 to {MAX_CHUNK} are allowed", chunk.length));
        }
        end += u64::from(chunk.length);
    }
    if end == length { Ok(()) } else { refuse(format!("its chunks have {end} bytes, the blob {length}")) }
}

/// Holds a chunk's content to what the index says of it.
pub(super) fn check_content(
    digest: &Digest,
    chunks: &[BlobChunk],
    index: usize,
    bytes: &[u8],
) -> Result<BlobChunk, BlobError> {
    let refuse = |problem: String| Err(BlobError::Chunk { digest: *digest, index, problem });
    let Some(chunk) = chunks.get(index) else {
        return refuse(format!("the blob has {} chunks", chunks.len()));
    };
    if u32::try_from(bytes.len()) != Ok(chunk.length) {
        return refuse(format!("{} bytes, expected {}", bytes.len(), chunk.length));
    }
    let found = Digest::of(bytes);
    if found != chunk.digest {
        return refuse(format!("digest {found}, expected {}", chunk.digest));
    }
    Ok(*chunk)
}

/// The bytes of an index file.
pub(super) fn encode_index(chunks: &[BlobChunk]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + chunks.len() * ENTRY);
    bytes.extend_from_slice(MAGIC);
    for chunk in chunks {
        bytes.extend_from_slice(chunk.digest.as_bytes());
        bytes.extend_from_slice(&chunk.length.to_le_bytes());
    }
    bytes
}

/// Reads an index file; `None` where it is not one. What it says is verified where it is used.
pub(super) fn decode_index(bytes: &[u8]) -> Option<Vec<BlobChunk>> {
    let entries = bytes.strip_prefix(MAGIC)?;
    if entries.len() % ENTRY != 0 || entries.len() / ENTRY > MAX_CHUNKS {
        return None;
    }
    let mut offset = 0_u64;
    let mut chunks = Vec::with_capacity(entries.len() / ENTRY);
    for entry in entries.chunks_exact(ENTRY) {
        let (digest, length) = entry.split_first_chunk::<DIGEST_LEN>()?;
        let length = u32::from_le_bytes(length.try_into().ok()?);
        chunks.push(BlobChunk { digest: Digest::from_bytes(*digest), offset, length });
        offset += u64::from(length);
    }
    Some(chunks)
}

/// A part file and which of its chunks are there.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) chunks: Vec<BlobChunk>,
    held: Vec<bool>,
    missing: usize,
    /// Indexes of chunks, sorted by digest: the same content may lie in several places.
    by_digest: Vec<usize>,
    /// The hash of the whole, over so many chunks from its start: it is made while chunks come, so that little is left at the end.
    whole: Hasher,
    hashed: usize,
    /// The disk was told to write up to this byte.
    begun: u64,
    buffer: Vec<u8>,
}

impl Part {
    /// Opens or makes the part file and its index. Chunks that an earlier run wrote are found by their digests.
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        index: &Path,
        length: u64,
        chunks: &[BlobChunk],
    ) -> Result<Self, BlobError> {
        let failed = |error: io::Error| BlobError::disk(path, &error);
        let file = match disk.open(path, Access::Make) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                disk.remove(path).map_err(failed)?;
                disk.open(path, Access::Make).map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        let resumed = file.len().map_err(failed)? == length && length > 0;
        if !resumed && let Err(error) = file.set_len(0).and_then(|()| file.reserve(length)) {
            // What it took of a disk that is full is of no use.
            let _ = disk.remove(path);
            return Err(failed(error));
        }
        write_index(disk, index, chunks).map_err(|error| BlobError::disk(index, &error))?;
        let mut by_digest: Vec<usize> = (0..chunks.len()).collect();
        by_digest.sort_by_key(|index| chunks.get(*index).map(|chunk| chunk.digest));
        let mut part = Self {
            file,
            chunks: chunks.to_vec(),
            held: vec![false; chunks.len()],
            missing: chunks.len(),
            by_digest,
            whole: Hasher::new(),
            hashed: 0,
            begun: 0,
            buffer: Vec::new(),
        };
        if resumed {
            part.look_again().map_err(failed)?;
        }
        Ok(part)
    }

    /// Finds by their digests which chunks are there; gives how many are missing.
    pub(super) fn look_again(&mut self) -> io::Result<usize> {
        self.held.fill(false);
        self.missing = self.held.len();
        (self.whole, self.hashed) = (Hasher::new(), 0);
        let mut buffer = Vec::new();
        for index in 0..self.chunks.len() {
            let Some(chunk) = self.chunks.get(index).copied() else { break };
            let read = match read_chunk(&*self.file, chunk.offset, chunk.length, &mut buffer) {
                // Written again it may get a better place.
                Err(error) if is_unreadable(&error) => false,
                read => read?,
            };
            if read && Digest::of(&buffer) == chunk.digest {
                self.mark(index);
            }
        }
        Ok(self.missing)
    }

    /// Writes content that was checked, to every place where the blob has it.
    pub(super) fn write(&mut self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        for index in self.places(digest) {
            let Some(chunk) = self.chunks.get(index).copied() else { continue };
            if !self.holds(index) {
                self.file.write_at(bytes, chunk.offset)?;
                self.mark(index);
            }
        }
        // What cannot be read now is read at the end, or not.
        let _ = self.hash_on();
        Ok(())
    }

    /// The digest of the whole as the file has it; all chunks are there.
    pub(super) fn digest(&mut self) -> io::Result<Digest> {
        self.hash_on()?;
        Ok(self.whole.clone().finish())
    }

    /// Hashes what is there up to the first chunk that is missing, and has it written to disk meanwhile.
    fn hash_on(&mut self) -> io::Result<()> {
        while self.held.get(self.hashed) == Some(&true) {
            let Some(chunk) = self.chunks.get(self.hashed).copied() else { break };
            if !read_chunk(&*self.file, chunk.offset, chunk.length, &mut self.buffer)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.whole.update(&self.buffer);
            self.hashed += 1;
            let end = chunk.offset + u64::from(chunk.length);
            if end - self.begun >= WRITTEN_AT_ONCE {
                self.file.begin_writing(self.begun, end - self.begun);
                self.begun = end;
            }
        }
        Ok(())
    }

    /// Whether some place that has this content is still empty.
    pub(super) fn lacks(&self, digest: &Digest) -> bool {
        self.places(digest).into_iter().any(|index| !self.holds(index))
    }

    /// The indexes of the chunks that are not there.
    pub(super) fn missing(&self) -> Vec<usize> {
        self.held.iter().enumerate().filter(|(_, held)| !**held).map(|(index, _)| index).collect()
    }

    pub(super) fn missing_count(&self) -> usize {
        self.missing
    }

    fn places(&self, digest: &Digest) -> Vec<usize> {
        let of = |index: &usize| self.chunks.get(*index).map(|chunk| chunk.digest);
        let start = self.by_digest.partition_point(|index| of(index) < Some(*digest));
        let places = self.by_digest.get(start..).unwrap_or_default();
        places.iter().copied().take_while(|index| of(index) == Some(*digest)).collect()
    }

    fn holds(&self, index: usize) -> bool {
        self.held.get(index).copied().unwrap_or(true)
    }

    fn mark(&mut self, index: usize) {
        if let Some(held) = self.held.get_mut(index)
            && !*held
        {
            *held = true;
            self.missing -= 1;
        }
    }
}

/// Fills `buffer` with a range of a file; false where the file ends before.
pub(super) fn read_chunk(file: &dyn DiskFile, offset: u64, length: u32, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let Ok(length) = usize::try_from(length.min(MAX_CHUNK)) else { return Ok(false) };
    buffer.resize(length, 0);
    read_exact(file, buffer, offset)
}

/// Writes an index where it is not there already.
fn write_index(disk: &dyn Disk, path: &Path, chunks: &[BlobChunk]) -> io::Result<()> {
    let bytes = encode_index(chunks);
    if read_short(disk, path, MAX_INDEX)?.as_ref() == Some(&bytes) {
        return Ok(());
    }
    if disk.info(path)?.is_some_and(|found| found.kind != Kind::File) {
        disk.remove(path)?;
    }
    atomic_file::write(disk, path, &bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chunk(offset: u64, content: &[u8]) -> BlobChunk {
        BlobChunk { digest: Digest::of(content), offset, length: content.len() as u32 }
    }

    #[test]
    fn an_index_reads_back_and_anything_else_does_not() {
        let chunks = [chunk(0, b"abc"), chunk(3, b"de")];
        let bytes = encode_index(&chunks);
        assert_eq!(decode_index(&bytes).unwrap(), chunks);
        assert_eq!(decode_index(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode_index(b"SDLINDX2"), None);
        assert_eq!(decode_index(b""), None);
    }

    #[test]
    fn refuses_chunks_that_do_not_cover_the_blob() {
        let digest = Digest::of(b"abcde");
        let refused = |length, chunks: &[BlobChunk]| {
            matches!(check_chunks(&digest, length, chunks), Err(BlobError::Index { .. }))
        };
        assert!(check_chunks(&digest, 5, &[chunk(0, b"abc"), chunk(3, b"de")]).is_ok());
        assert!(check_chunks(&digest, 0, &[]).is_ok());
        assert!(refused(5, &[chunk(0, b"abc")]));
        assert!(refused(5, &[chunk(0, b"abc"), chunk(4, b"e")]));
        assert!(refused(5, &[chunk(0, b"abc"), chunk(3, b"de"), chunk(5, b"")]));
        assert!(refused(u64::from(MAX_CHUNK) + 1, &[BlobChunk { digest, offset: 0, length: MAX_CHUNK + 1 }]));
    }
}
