//! redb's storage over the port: the real file ([`FileBackend`]), or one that is only read while changes stay in memory
//! ([`Overlay`]).
//!
//! Both remember what went wrong in [`Signs`]: after a sync that failed the system's cache is not to be believed until it was
//! dropped; a read that failed means that the medium itself is at fault.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{BackendError, StorageBackend};

use super::disk::{DiskFile, read_exact};

/// An overlay keeps changes in pieces of this many bytes.
const PIECE: u64 = 4096;
/// An overlay keeps at most this many bytes of changes: opening takes a few pages.
const MOST_CHANGED: u64 = 8 << 20;

/// What went wrong with a file, from one opening to the next.
#[derive(Debug)]
pub(super) struct Signs {
    cache_doubted: AtomicBool,
    read_failed: AtomicBool,
}

impl Default for Signs {
    /// Of a file of which nothing is known: another process may have failed to sync it, since the machine was started.
    fn default() -> Self {
        Self { cache_doubted: AtomicBool::new(true), read_failed: AtomicBool::new(false) }
    }
}

impl Signs {
    /// The file is opened anew: a cache that is in doubt is dropped, and reads are tried again.
    pub(super) fn opened(&self, file: &dyn DiskFile) -> io::Result<()> {
        self.read_failed.store(false, Ordering::Relaxed);
        if self.cache_doubted.load(Ordering::Relaxed) {
            file.forget_cache()?;
            self.cache_doubted.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the file could not be read since it was opened.
    pub(super) fn read_failed(&self) -> bool {
        self.read_failed.load(Ordering::Relaxed)
    }

    fn read<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.read_failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

fn is_whole(start: Bound<u64>, end: Bound<u64>) -> bool {
    matches!(start, Bound::Unbounded | Bound::Included(0)) && end == Bound::Unbounded
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends too early")
}

/// Implements the locks that redb asks for: of the whole file alone.
macro_rules! whole_file_locks {
    ($file:ident) => {
        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            if is_whole(start, end) { Ok(self.$file.try_lock()?) } else { Err(BackendError::Unsupported) }
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            if is_whole(start, end) { Ok(self.$file.unlock()?) } else { Err(BackendError::Unsupported) }
        }

        fn close(&self) -> io::Result<()> {
            self.$file.unlock()
        }
    };
}

/// A file, read and written.
#[derive(Debug)]
pub(super) struct FileBackend {
    file: Box<dyn DiskFile>,
    signs: Arc<Signs>,
}

impl FileBackend {
    pub(super) fn new(file: Box<dyn DiskFile>, signs: Arc<Signs>) -> Self {
        Self { file, signs }
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.signs.read(self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.signs.read(read_exact(&*self.file, out, offset))? { Ok(()) } else { Err(ended()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.file.sync();
        if synced.is_err() {
            self.signs.cache_doubted.store(true, Ordering::Relaxed);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }

    whole_file_locks!(file);
}

/// A file that is read; what is written stays in memory and is gone when the overlay is dropped.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Box<dyn DiskFile>,
    signs: Arc<Signs>,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    length: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(file: Box<dyn DiskFile>, signs: Arc<Signs>) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self { file, signs, changes: Mutex::new(Changes { length, pieces: BTreeMap::new() }) })
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece as the file has it; zero past its end.
    fn piece_of_file(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; usize::try_from(PIECE).unwrap_or(0)];
        let (mut read, start) = (0, number.saturating_mul(PIECE));
        while let Some(rest) = piece.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.signs.read(self.file.read_at(rest, start.saturating_add(read as u64)))? {
                0 => break,
                more => read += more,
            }
        }
        Ok(piece)
    }
}

/// The pieces that a range touches: each one's number, and the range within it.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset.saturating_add(length as u64);
    (offset / PIECE..end.div_ceil(PIECE)).map(move |number| {
        let start = number * PIECE;
        let within = |place: u64| usize::try_from(place.saturating_sub(start).min(PIECE)).unwrap_or(0);
        (number, within(offset)..within(end))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().length)
    }

    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        if offset.saturating_add(out.len() as u64) > changes.length {
            return Err(ended());
        }
        for (number, range) in pieces(offset, out.len()) {
            let (place, rest) = out.split_at_mut_checked(range.len()).ok_or_else(ended)?;
            let from_file;
            let piece = match changes.pieces.get(&number) {
                Some(piece) => piece,
                None => {
                    from_file = self.piece_of_file(number)?;
                    &from_file
                }
            };
            place.copy_from_slice(piece.get(range).ok_or_else(ended)?);
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut changes = self.changes();
        if length < changes.length {
            // Nothing of the old content may come back when it grows again.
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a read-only database does not shrink"));
        }
        changes.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        let end = offset.saturating_add(data.len() as u64);
        let mut data = data;
        for (number, range) in pieces(offset, data.len()) {
            let (bytes, rest) = data.split_at_checked(range.len()).ok_or_else(ended)?;
            if !changes.pieces.contains_key(&number) {
                if changes.pieces.len() as u64 * PIECE >= MOST_CHANGED {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                changes.pieces.insert(number, self.piece_of_file(number)?);
            }
            if let Some(place) = changes.pieces.get_mut(&number).and_then(|piece| piece.get_mut(range)) {
                place.copy_from_slice(bytes);
            }
            data = rest;
        }
        changes.length = changes.length.max(end);
        Ok(())
    }

    whole_file_locks!(file);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::{
        disk::{Access, Disk},
        sim::{Dice, SimDisk},
    };

    #[test]
    fn an_overlay_reads_its_changes_and_leaves_the_file_alone() {
        let disk = SimDisk::new(1);
        let path = Path::new("/x");
        let mut whole: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
        disk.open(path, Access::Make).unwrap().write_at(&whole, 0).unwrap();
        let before = whole.clone();
        let overlay = Overlay::new(disk.open(path, Access::Read).unwrap(), Arc::default()).unwrap();
        overlay.set_len(20_000).unwrap();
        whole.resize(20_000, 0);
        let mut dice = Dice::new(3);
        for _ in 0..200 {
            let (at, length) = (dice.place(19_000), dice.place(1000));
            let bytes = vec![dice.any() as u8; length];
            overlay.write(at as u64, &bytes).unwrap();
            whole[at..at + length].copy_from_slice(&bytes);
            let mut read = vec![0; dice.place(9000)];
            let at = dice.place(20_000 - read.len());
            overlay.read(at as u64, &mut read).unwrap();
            assert_eq!(read, &whole[at..at + read.len()]);
        }
        assert!(overlay.read(19_999, &mut [0; 2]).is_err());
        assert_eq!(disk.peek(path).unwrap(), before);
    }
}
