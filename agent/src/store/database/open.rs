//! Opens the database's file, whatever is in its place.
//!
//! A new database is made under another name, synced and renamed, so that a power cut in its making is not taken for
//! damage. One that is there is checked as a whole, page by page, before anything of it is used.
//!
//! redb promises an error and no panic for a file that was damaged outside of it, when it checks the file as it opens it. Should
//! it panic all the same, the agent ends (release builds do not unwind) and a service manager starts it again; so a file
//! beside counts openings that did not come to an end, and after [`MOST_TRIES`] of them since the machine was started the
//! database counts as damaged. A power cut does not count: the file names the boot.

use std::{io, path::Path, sync::Arc};

use redb::{DatabaseError, StorageError};

use super::{beside, sealed, unsealed};
use crate::{
    atomic_file,
    store::{
        backend::{FileBackend, Overlay, Signs},
        disk::{Access, Disk, parent, read_short},
    },
};

/// redb's cache, in bytes; its default is 1 GiB.
const CACHE: usize = 1 << 20;
/// After this many openings that did not end, the file is taken as damaged.
const MOST_TRIES: u32 = 3;
/// A file that cannot be read is tried this often before it is taken as damaged.
const MOST_READS: u32 = 3;
/// With less than this free, in bytes, the database is not opened to be written: it could not take a change.
const LEAST_FREE: u64 = 256 * 1024;

const TRIES: &str = ".opening";

/// Why a database is not open.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The file itself is at fault.
    Damaged(String),
    /// Another process has it.
    InUse,
    /// The disk is at fault.
    Disk(String),
}

/// Opens the database to be read and written, and makes it where it is missing.
pub(super) fn writable(disk: &dyn Disk, path: &Path, signs: &Arc<Signs>) -> Result<redb::Database, Refusal> {
    probe(disk, path)?;
    match disk.info(path).map_err(|error| failed(&error))? {
        None => make(disk, path)?,
        // redb would take it for a new one; but it is made under another name, and is never empty.
        Some(info) if info.length == 0 => return Err(Refusal::Damaged("the file is empty".into())),
        Some(_) => {}
    }
    let mut reads = 0;
    loop {
        let file = disk.open(path, Access::Change).map_err(|error| failed(&error))?;
        signs.opened(&*file).map_err(|error| failed(&error))?;
        match builder().create_with_backend(FileBackend::new(file, signs.clone())) {
            Ok(redb) => return Ok(redb),
            Err(error) => {
                reads += 1;
                if !signs.read_failed() || reads >= MOST_READS {
                    return Err(refusal(&error, signs));
                }
            }
        }
    }
}

/// Whether an attempt to open it to be written is worth its while.
pub(super) fn probe(disk: &dyn Disk, path: &Path) -> Result<(), Refusal> {
    let free = disk.free(&parent(path)).map_err(|error| failed(&error))?;
    if free < LEAST_FREE {
        return Err(Refusal::Disk(format!("no space: {free} bytes are free, {LEAST_FREE} are needed")));
    }
    match disk.open(path, Access::Change) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&error)),
        _ => Ok(()),
    }
}

/// Opens the database to be read alone: what redb writes to open it stays in memory.
pub(super) fn readable(disk: &dyn Disk, path: &Path, signs: &Arc<Signs>) -> Result<redb::Database, Refusal> {
    let file = disk.open(path, Access::Read).map_err(|error| failed(&error))?;
    signs.opened(&*file).map_err(|error| failed(&error))?;
    let overlay = Overlay::new(file, signs.clone()).map_err(|error| failed(&error))?;
    builder().create_with_backend(overlay).map_err(|error| refusal(&error, signs))
}

fn make(disk: &dyn Disk, path: &Path) -> Result<(), Refusal> {
    let make = || -> io::Result<()> {
        let new = atomic_file::temporary(path)?;
        disk.remove(&new)?;
        let file = disk.open(&new, Access::Make)?;
        let backend = FileBackend::new(file, Arc::default());
        let made = builder().create_with_backend(backend).map_err(|error| io::Error::other(error.to_string()))?;
        made.close().map_err(|error| io::Error::other(error.to_string()))?;
        let file = disk.open(&new, Access::Change)?;
        file.sync()?;
        atomic_file::rename(disk, &new, path)
    };
    make().map_err(|error| failed(&error))
}

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

fn refusal(error: &DatabaseError, signs: &Signs) -> Refusal {
    let cause = error.to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen => Refusal::InUse,
        _ if signs.read_failed() => Refusal::Damaged(cause),
        DatabaseError::Storage(StorageError::Corrupted(_))
        | DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_) => Refusal::Damaged(cause),
        // redb says so of a file that does not begin as its own do, and the backend of one that ends too early.
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Refusal::Damaged(cause)
        }
        _ => Refusal::Disk(cause),
    }
}

fn failed(error: &io::Error) -> Refusal {
    if error.kind() == io::ErrorKind::InvalidData {
        return Refusal::Damaged(error.to_string());
    }
    Refusal::Disk(error.to_string())
}

/// Counts an opening that begins. True where too many did not end.
pub(super) fn begins(disk: &dyn Disk, path: &Path) -> bool {
    let boot = disk.boot();
    let tries = tries(disk, path, &boot);
    let counted = disk.open(&beside(path, TRIES), Access::Replace).and_then(|file| {
        let line = format!("{} {boot}", tries.saturating_add(1));
        file.write_at(sealed(&line).as_bytes(), 0)
    });
    // Where it cannot be written nothing can be counted; whether the database can be opened shows next.
    if let Err(error) = counted {
        tracing::warn!(%error, "an opening of the database could not be counted; check the state directory's disk");
    }
    tries >= MOST_TRIES
}

/// The opening came to an end, whichever.
pub(super) fn ends(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove(&beside(path, TRIES)) {
        tracing::warn!(%error, "the count of openings of the database stays; check the state directory's disk");
    }
}

fn tries(disk: &dyn Disk, path: &Path, boot: &str) -> u32 {
    let read = || {
        let line = unsealed(&read_short(disk, &beside(path, TRIES), 256).ok()??)?;
        let (count, of) = line.split_once(' ')?;
        (of == boot).then(|| count.parse().ok())?
    };
    read().unwrap_or(0)
}
