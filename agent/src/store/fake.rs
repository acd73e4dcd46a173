//! The store and the blobs in memory, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Seek, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::fs::MemfdFlags;
use sanderling_protocol::digest::Digest;

use super::{
    BlobChunk, BlobError, Blobs, Change, OpenBlob, Step, Store, StoreError, Table, Usage,
    part::{check_chunks, check_content},
};

/// [`Store`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: Mutex<BTreeMap<(Table, String), Vec<u8>>>,
    broken: AtomicBool,
}

impl MemoryStore {
    /// From now on every change fails, as on a full disk; or none does.
    pub fn break_disk(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }
}

impl Store for MemoryStore {
    fn get_bytes(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(&(table, key.to_owned())).cloned())
    }

    fn keys(&self, table: Table) -> Result<Vec<String>, StoreError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.keys().filter(|(of, _)| *of == table).map(|(_, key)| key.clone()).collect())
    }

    fn apply(&self, change: Change) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Disk { doing: "written", cause: "no space left on device".to_owned() });
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for step in change.steps {
            match step {
                Step::Put(table, key, bytes) => {
                    records.insert((table, key), bytes);
                }
                Step::Delete(table, key) => {
                    records.remove(&(table, key));
                }
                Step::Clear(table) => records.retain(|(of, _), _| *of != table),
                // Modules' state is the database's alone.
                Step::SettleState { .. } => {}
            }
        }
        Ok(())
    }
}

/// [`Blobs`] in memory.
#[derive(Debug)]
pub struct MemoryBlobs {
    whole: BTreeMap<Digest, Vec<u8>>,
    parts: BTreeMap<Digest, Part>,
    /// The room that all of it has, in bytes.
    pub room: u64,
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    chunks: Vec<BlobChunk>,
    held: Vec<bool>,
}

impl Default for MemoryBlobs {
    fn default() -> Self {
        Self { whole: BTreeMap::new(), parts: BTreeMap::new(), room: 64 << 20 }
    }
}

impl MemoryBlobs {
    /// Blobs that are there from the start.
    pub fn with(blobs: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let whole = blobs.into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
        Self { whole, ..Self::default() }
    }

    fn used(&self) -> u64 {
        let whole = self.whole.values().map(Vec::len);
        let parts = self.parts.values().map(|part| part.bytes.len());
        whole.chain(parts).map(|length| length as u64).sum()
    }

    /// The content of a chunk that some blob holds.
    fn find(&self, digest: &Digest, length: u32) -> Option<Vec<u8>> {
        let length = usize::try_from(length).ok()?;
        let windows = self.whole.values().flat_map(|blob| blob.windows(length.max(1)));
        windows.into_iter().find(|window| Digest::of(window) == *digest).map(<[u8]>::to_vec)
    }
}

impl Blobs for MemoryBlobs {
    fn begin(&mut self, digest: &Digest, length: u64, chunks: &[BlobChunk]) -> Result<Vec<usize>, BlobError> {
        check_chunks(digest, length, chunks)?;
        if self.has(digest) {
            return Ok(Vec::new());
        }
        if !self.parts.contains_key(digest) {
            let free = self.room.saturating_sub(self.used());
            if length > free {
                return Err(BlobError::Full { digest: *digest, needed: length, free });
            }
            let bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            let part = Part { bytes, chunks: chunks.to_vec(), held: vec![false; chunks.len()] };
            self.parts.insert(*digest, part);
            for (index, chunk) in chunks.iter().enumerate() {
                if let Some(content) = self.find(&chunk.digest, chunk.length) {
                    self.put_chunk(digest, index, &content)?;
                }
            }
        }
        let part = self.parts.get(digest).ok_or(BlobError::NotBegun(*digest))?;
        Ok(part.held.iter().enumerate().filter(|(_, held)| !**held).map(|(index, _)| index).collect())
    }

    fn put_chunk(&mut self, digest: &Digest, index: usize, bytes: &[u8]) -> Result<usize, BlobError> {
        let part = self.parts.get_mut(digest).ok_or(BlobError::NotBegun(*digest))?;
        let chunk = check_content(digest, &part.chunks, index, bytes)?;
        let start = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
        if let Some(place) = part.bytes.get_mut(start..start.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
        if let Some(held) = part.held.get_mut(index) {
            *held = true;
        }
        Ok(part.held.iter().filter(|held| !**held).count())
    }

    fn finish(&mut self, digest: &Digest) -> Result<(), BlobError> {
        if self.has(digest) {
            return Ok(());
        }
        let part = self.parts.get(digest).ok_or(BlobError::NotBegun(*digest))?;
        let missing = part.held.iter().filter(|held| !**held).count();
        if missing > 0 {
            return Err(BlobError::Missing { digest: *digest, missing });
        }
        let Some(part) = self.parts.remove(digest) else { return Err(BlobError::NotBegun(*digest)) };
        let found = Digest::of(&part.bytes);
        if found != *digest {
            return Err(BlobError::Whole { digest: *digest, found });
        }
        self.whole.insert(*digest, part.bytes);
        Ok(())
    }

    fn open(&mut self, digest: &Digest) -> Result<OpenBlob, BlobError> {
        let bytes = self.whole.get(digest).ok_or(BlobError::Absent(*digest))?;
        let disk = |error: std::io::Error| BlobError::disk("memory", &error);
        let memory = rustix::fs::memfd_create("blob", MemfdFlags::CLOEXEC).map_err(|error| disk(error.into()))?;
        let mut file = File::from(memory);
        file.write_all(bytes).map_err(disk)?;
        file.rewind().map_err(disk)?;
        Ok(OpenBlob { file, length: bytes.len() as u64 })
    }

    fn has(&self, digest: &Digest) -> bool {
        self.whole.contains_key(digest)
    }

    fn taken(&self, digest: &Digest) -> u64 {
        self.parts.get(digest).map_or(0, |part| part.bytes.len() as u64)
    }

    fn collect(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, BlobError> {
        let before = self.used();
        self.whole.retain(|digest, _| keep.contains(digest));
        self.parts.retain(|digest, _| keep.contains(digest));
        Ok(before.saturating_sub(self.used()))
    }

    fn usage(&self) -> Result<Usage, BlobError> {
        let used = self.used();
        Ok(Usage { used, free: self.room.saturating_sub(used), damaged: 0 })
    }
}
