//! Blobs as files: `<sha256>`, while they are put together `<sha256>.part`, and beside both `<sha256>.index` with the
//! chunks.
//!
//! Invariants: a file named by a digest alone was hashed, synced and then renamed. Parts are not synced: after a power
//! cut every chunk in them is hashed again before it counts. A blob is hashed again when it is first opened in a run.
//!
//! Failure modes: see [`BlobError`]. A part or index that cannot be read costs the chunks in it, nothing else.
//!
//! Limits: one chunk's content in memory at a time; chunks of 64 KiB, 65,536 of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use sanderling_protocol::digest::{Digest, Hasher};
use thiserror::Error;

use super::{
    BlobChunk, Blobs, OpenBlob, Usage,
    part::{MAX_CHUNKS, Part, check_chunks, check_content, decode_index, read_chunk, remove},
};
use crate::atomic_file;

/// Why a blob is not there.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BlobError {
    /// The index does not describe the blob.
    #[error("the index of blob {digest} is refused: {problem}; publish the artifact again")]
    Index {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
    /// There is no room.
    #[error(
        "blob {digest} needs {needed} bytes and {free} are free beyond the reserve; free space on the state directory's disk, or deploy less"
    )]
    Full {
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        needed: u64,
        /// What may be used, in bytes.
        free: u64,
    },
    /// [`Blobs::begin`] was not called for it.
    #[error("blob {0} was not begun")]
    NotBegun(Digest),
    /// A chunk's content is not what the index says.
    #[error("chunk {index} of blob {digest} is refused: {problem}; it is asked for again")]
    Chunk {
        /// The blob.
        digest: Digest,
        /// The chunk's place in the index.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// Not all chunks are there.
    #[error("blob {digest} lacks {missing} chunks")]
    Missing {
        /// The blob.
        digest: Digest,
        /// How many.
        missing: usize,
    },
    /// All chunks are as the index says, and the whole is not what was signed.
    #[error("blob {digest} has digest {found} as a whole: its index was swapped; publish the artifact again")]
    Whole {
        /// What was signed.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// There is no such blob.
    #[error("blob {0} is not held")]
    Absent(Digest),
    /// The disk gave back something else than was written.
    #[error("blob {0} was damaged on disk and is removed; it is pulled again")]
    Damaged(Digest),
    /// The disk is full, read-only or broken.
    #[error("{path}: {cause}; check the state directory's disk")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
}

impl BlobError {
    pub(super) fn disk(path: impl AsRef<Path>, error: &io::Error) -> Self {
        Self::Disk { path: path.as_ref().to_owned(), cause: error.to_string() }
    }
}

/// [`Blobs`] in a folder.
#[derive(Debug)]
pub struct FileBlobs {
    folder: PathBuf,
    reserve: u64,
    parts: BTreeMap<Digest, Part>,
    verified: BTreeSet<Digest>,
}

impl FileBlobs {
    /// The blobs in `blobs/` of the state directory, which is made where it is missing. A blob is only begun where
    /// `reserve` bytes stay free on the disk.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    pub fn open(state: &Path, reserve: u64) -> Result<Self, BlobError> {
        let folder = state.join("blobs");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| BlobError::disk(&folder, &error))?;
        Ok(Self { folder, reserve, parts: BTreeMap::new(), verified: BTreeSet::new() })
    }

    fn path(&self, digest: &Digest, suffix: &str) -> PathBuf {
        self.folder.join(format!("{digest}{suffix}"))
    }

    fn check_room(&self, digest: &Digest, length: u64) -> Result<(), BlobError> {
        let free = self.free()?.saturating_sub(self.reserve);
        // The part of an earlier run has its blocks already.
        let taken = fs::metadata(self.path(digest, ".part")).map_or(0, |part| part.blocks().saturating_mul(512));
        if length > free.saturating_add(taken) {
            return Err(BlobError::Full { digest: *digest, needed: length, free });
        }
        Ok(())
    }

    fn free(&self) -> Result<u64, BlobError> {
        let disk = rustix::fs::statvfs(&self.folder).map_err(|error| BlobError::disk(&self.folder, &error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Fills a part with what the finished blobs hold of it.
    fn reuse(&self, part: &mut Part) -> Result<(), BlobError> {
        let mut buffer = Vec::new();
        for (path, kind) in self.entries()? {
            if part.missing_count() == 0 {
                break;
            }
            let Entry::Index(other) = kind else { continue };
            let Ok(source) = File::open(self.path(&other, "")) else { continue };
            let Some(chunks) = read_index(&path) else { continue };
            for chunk in chunks {
                if part.lacks(&chunk.digest)
                    && read_chunk(&source, chunk.offset, chunk.length, &mut buffer).unwrap_or(false)
                    && Digest::of(&buffer) == chunk.digest
                {
                    part.write(&chunk.digest, &buffer).map_err(|error| BlobError::disk(&self.folder, &error))?;
                }
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<(PathBuf, Entry)>, BlobError> {
        let disk = |error: io::Error| BlobError::disk(&self.folder, &error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(disk)? {
            let path = entry.map_err(disk)?.path();
            let kind = path.file_name().and_then(|name| name.to_str()).map_or(Entry::Other, Entry::of);
            entries.push((path, kind));
        }
        Ok(entries)
    }

    fn give_up(&mut self, digest: &Digest) -> Result<(), BlobError> {
        self.parts.remove(digest);
        remove(&self.path(digest, ".part"))?;
        remove(&self.path(digest, ".index"))
    }
}

/// What a file in the folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Whole(Digest),
    Part(Digest),
    Index(Digest),
    Other,
}

impl Entry {
    fn of(name: &str) -> Self {
        let (stem, suffix) = name.split_once('.').map_or((name, ""), |(stem, suffix)| (stem, suffix));
        match (stem.parse::<Digest>(), suffix) {
            (Ok(digest), "") => Self::Whole(digest),
            (Ok(digest), "part") => Self::Part(digest),
            (Ok(digest), "index") => Self::Index(digest),
            _ => Self::Other,
        }
    }
}

impl Blobs for FileBlobs {
    fn begin(&mut self, digest: &Digest, length: u64, chunks: &[BlobChunk]) -> Result<Vec<usize>, BlobError> {
        check_chunks(digest, length, chunks)?;
        if self.has(digest) {
            return Ok(Vec::new());
        }
        if let Some(part) = self.parts.get(digest)
            && part.chunks == chunks
        {
            return Ok(part.missing());
        }
        self.check_room(digest, length)?;
        let mut part = Part::open(&self.path(digest, ".part"), &self.path(digest, ".index"), length, chunks)?;
        self.reuse(&mut part)?;
        let missing = part.missing();
        self.parts.insert(*digest, part);
        Ok(missing)
    }

    fn put_chunk(&mut self, digest: &Digest, index: usize, bytes: &[u8]) -> Result<usize, BlobError> {
        let part = self.parts.get_mut(digest).ok_or(BlobError::NotBegun(*digest))?;
        let chunk = check_content(digest, &part.chunks, index, bytes)?;
        let written = part.write(&chunk.digest, bytes);
        let missing = part.missing_count();
        written.map_err(|error| BlobError::disk(self.path(digest, ".part"), &error))?;
        Ok(missing)
    }

    fn finish(&mut self, digest: &Digest) -> Result<(), BlobError> {
        if self.has(digest) {
            return Ok(());
        }
        let part = self.parts.get(digest).ok_or(BlobError::NotBegun(*digest))?;
        if part.missing_count() > 0 {
            return Err(BlobError::Missing { digest: *digest, missing: part.missing_count() });
        }
        let path = self.path(digest, ".part");
        let disk = |error: io::Error| BlobError::disk(&path, &error);
        let found = hash(&path).map_err(disk)?;
        if found != *digest {
            self.give_up(digest)?;
            return Err(BlobError::Whole { digest: *digest, found });
        }
        part.file.sync_all().map_err(disk)?;
        atomic_file::rename(&path, &self.path(digest, "")).map_err(disk)?;
        self.parts.remove(digest);
        self.verified.insert(*digest);
        Ok(())
    }

    fn open(&mut self, digest: &Digest) -> Result<OpenBlob, BlobError> {
        let path = self.path(digest, "");
        let disk = |error: io::Error| BlobError::disk(&path, &error);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::Absent(*digest)),
            opened => opened.map_err(disk)?,
        };
        if !self.verified.contains(digest) {
            if hash(&path).map_err(disk)? != *digest {
                remove(&path)?;
                remove(&self.path(digest, ".index"))?;
                return Err(BlobError::Damaged(*digest));
            }
            self.verified.insert(*digest);
        }
        let length = file.metadata().map_err(disk)?.len();
        Ok(OpenBlob { file, length })
    }

    fn has(&self, digest: &Digest) -> bool {
        self.path(digest, "").is_file()
    }

    fn collect(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, BlobError> {
        let mut freed = 0_u64;
        for (path, kind) in self.entries()? {
            let kept = match kind {
                Entry::Whole(digest) | Entry::Part(digest) | Entry::Index(digest) => keep.contains(&digest),
                Entry::Other => false,
            };
            if !kept {
                freed += fs::metadata(&path).map_or(0, |file| file.blocks().saturating_mul(512));
                remove(&path)?;
            }
        }
        self.parts.retain(|digest, _| keep.contains(digest));
        self.verified.retain(|digest| keep.contains(digest));
        Ok(freed)
    }

    fn usage(&self) -> Result<Usage, BlobError> {
        let files = self.entries()?;
        let blocks = files.iter().map(|(path, _)| fs::metadata(path).map_or(0, |file| file.blocks()));
        Ok(Usage { used: blocks.sum::<u64>().saturating_mul(512), free: self.free()? })
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_index(path: &Path) -> Option<Vec<BlobChunk>> {
    let most = (MAX_CHUNKS as u64 + 1) * 36;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    decode_index(&bytes)
}

#[cfg(test)]
mod tests;
