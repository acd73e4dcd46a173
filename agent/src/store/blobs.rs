//! Blobs as files: `<sha256>`, while they are put together `<sha256>.part`, and beside both `<sha256>.index` with the
//! chunks.
//!
//! Invariants: a file named by a digest alone was hashed, synced and then renamed. Parts are not synced before that: after a
//! power cut, and after a sync that failed, every chunk in them is hashed again before it counts. A blob is hashed again
//! whenever it is opened.
//!
//! Failure modes: see [`BlobError`]. A part or index that cannot be read costs the chunks in it, nothing else; a folder or
//! whatever else has the name of one of them is removed. A blob that is damaged is removed and counted when it is opened.
//!
//! Limits: one chunk's content in memory at a time; chunks of 64 KiB, 65,536 of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sanderling_protocol::digest::{Digest, Hasher};
use thiserror::Error;

use super::{
    BlobChunk, Blobs, OpenBlob, Usage,
    disk::{Access, Disk, DiskFile, Kind, SystemDisk, is_unreadable, make_folder, read_short},
    part::{MAX_INDEX, Part, check_chunks, check_content, decode_index, read_chunk},
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
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    reserve: u64,
    parts: BTreeMap<Digest, Part>,
    damaged: u32,
}

impl FileBlobs {
    /// The blobs in `blobs/` of the state directory, which is made where it is missing. A blob is only begun where
    /// `reserve` bytes stay free on the disk.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    pub fn open(state: &Path, reserve: u64) -> Result<Self, BlobError> {
        Self::open_on(Arc::new(SystemDisk), state, reserve)
    }

    /// As [`FileBlobs::open`], on this disk.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    pub fn open_on(disk: Arc<dyn Disk>, state: &Path, reserve: u64) -> Result<Self, BlobError> {
        let folder = state.join("blobs");
        let make = || {
            if disk.info(&folder)?.is_some_and(|info| info.kind == Kind::File) {
                disk.remove(&folder)?;
            }
            make_folder(&*disk, &folder)
        };
        make().map_err(|error| BlobError::disk(&folder, &error))?;
        Ok(Self { disk, folder, reserve, parts: BTreeMap::new(), damaged: 0 })
    }

    fn path(&self, digest: &Digest, suffix: &str) -> PathBuf {
        self.folder.join(format!("{digest}{suffix}"))
    }

    fn check_room(&self, digest: &Digest, length: u64) -> Result<(), BlobError> {
        let free = self.free()?.saturating_sub(self.reserve);
        // The part of an earlier run has its blocks already.
        if length > free.saturating_add(Blobs::taken(self, digest)) {
            return Err(BlobError::Full { digest: *digest, needed: length, free });
        }
        Ok(())
    }

    fn free(&self) -> Result<u64, BlobError> {
        self.disk.free(&self.folder).map_err(|error| BlobError::disk(&self.folder, &error))
    }

    /// Fills a part with what the finished blobs hold of it.
    fn reuse(&self, part: &mut Part) -> Result<(), BlobError> {
        let mut buffer = Vec::new();
        for (path, kind) in self.entries()? {
            if part.missing_count() == 0 {
                break;
            }
            let Entry::Index(other) = kind else { continue };
            let Ok(source) = self.disk.open(&self.path(&other, ""), Access::Read) else { continue };
            let Some(chunks) = self.read_index(&path) else { continue };
            for chunk in chunks {
                if part.lacks(&chunk.digest)
                    && read_chunk(&*source, chunk.offset, chunk.length, &mut buffer).unwrap_or(false)
                    && Digest::of(&buffer) == chunk.digest
                {
                    part.write(&chunk.digest, &buffer).map_err(|error| BlobError::disk(&self.folder, &error))?;
                }
            }
        }
        Ok(())
    }

    fn read_index(&self, path: &Path) -> Option<Vec<BlobChunk>> {
        decode_index(&read_short(&*self.disk, path, MAX_INDEX).ok()??)
    }

    fn entries(&self) -> Result<Vec<(PathBuf, Entry)>, BlobError> {
        let names = self.disk.list(&self.folder).map_err(|error| BlobError::disk(&self.folder, &error))?;
        let kind = |name: &std::ffi::OsString| name.to_str().map_or(Entry::Other, Entry::of);
        Ok(names.into_iter().map(|name| (self.folder.join(&name), kind(&name))).collect())
    }

    fn taken_by(&self, path: &Path) -> u64 {
        self.disk.info(path).ok().flatten().map_or(0, |file| file.taken)
    }

    fn remove(&self, path: &Path) -> Result<(), BlobError> {
        self.disk.remove(path).map_err(|error| BlobError::disk(path, &error))
    }

    fn give_up(&mut self, digest: &Digest) -> Result<(), BlobError> {
        self.parts.remove(digest);
        self.remove(&self.path(digest, ".part"))?;
        self.remove(&self.path(digest, ".index"))
    }

    /// Says why a part is not the blob though every chunk was written.
    fn refuse(&mut self, digest: &Digest, found: Digest) -> BlobError {
        let part = self.path(digest, ".part");
        let missing = match self.parts.get_mut(digest).map(Part::look_again) {
            Some(Ok(missing)) => missing,
            Some(Err(error)) => return BlobError::disk(&part, &error),
            None => 0,
        };
        if missing > 0 {
            // The disk changed what was written: those chunks are pulled again.
            self.damaged = self.damaged.saturating_add(1);
            return BlobError::Missing { digest: *digest, missing };
        }
        match self.give_up(digest) {
            Ok(()) => BlobError::Whole { digest: *digest, found },
            Err(error) => error,
        }
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
        // Before the part's file is opened again: its lengths may differ.
        self.parts.remove(digest);
        self.check_room(digest, length)?;
        let (path, index) = (self.path(digest, ".part"), self.path(digest, ".index"));
        let mut part = Part::open(&*self.disk, &path, &index, length, chunks)?;
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
            // An earlier call may have failed after the rename.
            let synced = self.disk.sync_folder(&self.folder);
            return synced.map_err(|error| BlobError::disk(&self.folder, &error));
        }
        let path = self.path(digest, ".part");
        let part = self.parts.get_mut(digest).ok_or(BlobError::NotBegun(*digest))?;
        if part.missing_count() > 0 {
            return Err(BlobError::Missing { digest: *digest, missing: part.missing_count() });
        }
        let disk = |error: io::Error| BlobError::disk(&path, &error);
        let found = match part.digest() {
            Ok(found) => found,
            Err(error) => {
                // The next beginning finds out which chunks can be read.
                self.parts.remove(digest);
                return Err(disk(error));
            }
        };
        if found != *digest {
            return Err(self.refuse(digest, found));
        }
        let Some(part) = self.parts.get(digest) else { return Err(BlobError::NotBegun(*digest)) };
        if let Err(error) = part.file.sync() {
            // Some of it may never reach the disk, though a second sync would say so. What is there is found by hashing.
            let forgot = part.file.forget_cache();
            self.parts.remove(digest);
            return Err(disk(forgot.err().unwrap_or(error)));
        }
        // Whatever comes of it, the part is not to be written any more.
        self.parts.remove(digest);
        let whole = self.path(digest, "");
        if self.disk.info(&whole).map_err(disk)?.is_some() {
            self.remove(&whole)?;
        }
        atomic_file::rename(&*self.disk, &path, &whole).map_err(disk)
    }

    fn open(&mut self, digest: &Digest) -> Result<OpenBlob, BlobError> {
        let path = self.path(digest, "");
        let disk = |error: io::Error| BlobError::disk(&path, &error);
        let found = match self.disk.open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::Absent(*digest)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            opened => Some(opened.map_err(disk)?),
        };
        if let Some(file) = found
            && is_whole(&*file, digest).map_err(disk)?
        {
            let length = file.len().map_err(disk)?;
            return Ok(OpenBlob { file: file.into_file().map_err(disk)?, length });
        }
        self.damaged = self.damaged.saturating_add(1);
        self.parts.remove(digest);
        self.remove(&path)?;
        self.remove(&self.path(digest, ".index"))?;
        Err(BlobError::Damaged(*digest))
    }

    fn has(&self, digest: &Digest) -> bool {
        let found = self.disk.info(&self.path(digest, "")).ok().flatten();
        found.is_some_and(|found| found.kind == Kind::File)
    }

    fn taken(&self, digest: &Digest) -> u64 {
        self.taken_by(&self.path(digest, ".part"))
    }

    fn collect(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, BlobError> {
        self.parts.retain(|digest, _| keep.contains(digest));
        let mut freed = 0_u64;
        for (path, kind) in self.entries()? {
            let kept = match kind {
                Entry::Whole(digest) | Entry::Part(digest) | Entry::Index(digest) => keep.contains(&digest),
                Entry::Other => false,
            };
            if !kept {
                freed = freed.saturating_add(self.taken_by(&path));
                self.remove(&path)?;
            }
        }
        Ok(freed)
    }

    fn usage(&self) -> Result<Usage, BlobError> {
        let used = self.entries()?.iter().fold(0_u64, |sum, (path, _)| sum.saturating_add(self.taken_by(path)));
        Ok(Usage { used, free: self.free()?, damaged: self.damaged })
    }
}

/// Whether a file has this digest; one that the disk cannot give back has none.
fn is_whole(file: &dyn DiskFile, digest: &Digest) -> io::Result<bool> {
    match hash(file) {
        Err(error) if is_unreadable(&error) => Ok(false),
        found => Ok(found? == *digest),
    }
}

fn hash(file: &dyn DiskFile) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0_u64;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(buffer.get(..length).unwrap_or_default());
                offset = offset.saturating_add(length as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
