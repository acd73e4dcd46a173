//! A disk that counts what passes it: what a store costs is measured here and not guessed.
//!
//! What is counted is bytes that were asked to be written and read, in calls that succeeded; syncs; and the pages of 4 KiB that were
//! written to, once for each sync of their file, which is what a file system writes at least. Its journal, and what a medium makes of it, is not
//! seen here.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::disk::{Access, Disk, DiskFile, Info};

const PAGE: u64 = 4096;

/// What passed a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes that were written.
    pub written: u64,
    /// Bytes that were read.
    pub read: u64,
    /// Files that were synced.
    pub syncs: u64,
    /// Bytes of pages that were written to and synced.
    pub pages: u64,
}

impl Passed {
    /// What passed since.
    pub fn since(self, before: Self) -> Self {
        Self {
            written: self.written - before.written,
            read: self.read - before.read,
            syncs: self.syncs - before.syncs,
            pages: self.pages - before.pages,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    read: AtomicU64,
    syncs: AtomicU64,
    pages: AtomicU64,
}

/// [`Disk`] on another one, counted; clones share both.
#[derive(Clone, Debug)]
pub struct CountedDisk {
    disk: Arc<dyn Disk>,
    counts: Arc<Counts>,
}

impl CountedDisk {
    /// Counts from nothing on.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, counts: Arc::default() }
    }

    /// What passed so far.
    pub fn passed(&self) -> Passed {
        let Counts { written, read, syncs, pages } = &*self.counts;
        let [written, read, syncs, pages] = [written, read, syncs, pages].map(|count| count.load(Ordering::Relaxed));
        Passed { written, read, syncs, pages }
    }
}

impl Disk for CountedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, access)?;
        Ok(Box::new(CountedFile { file, counts: self.counts.clone(), dirty: Mutex::default() }))
    }

    fn info(&self, path: &Path) -> io::Result<Option<Info>> {
        self.disk.info(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(folder)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.make_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_folder(path)
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        self.disk.free(folder)
    }

    fn boot(&self) -> String {
        self.disk.boot()
    }
}

#[derive(Debug)]
struct CountedFile {
    file: Box<dyn DiskFile>,
    counts: Arc<Counts>,
    /// Pages that were written to since the last sync.
    dirty: Mutex<BTreeSet<u64>>,
}

impl DiskFile for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        self.counts.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)?;
        let length = bytes.len() as u64;
        self.counts.written.fetch_add(length, Ordering::Relaxed);
        let pages = offset / PAGE..offset.saturating_add(length).div_ceil(PAGE);
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).extend(pages);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        self.file.reserve(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()?;
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        self.counts.pages.fetch_add(dirty.len() as u64 * PAGE, Ordering::Relaxed);
        Ok(())
    }

    fn begin_writing(&self, offset: u64, length: u64) {
        self.file.begin_writing(offset, length);
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.file.forget_cache()
    }

    fn into_file(self: Box<Self>) -> io::Result<File> {
        self.file.into_file()
    }
}
