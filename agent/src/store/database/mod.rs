//! The records' database: one redb file, shared by the store and the outbox.
//!
//! Invariants: a transaction is on disk when its commit returns; one that failed is on disk as a whole or not at all. The
//! file is checked as a whole when it is opened, so that flipped bits are found there and not by whoever reads them.
//!
//! Failure modes:
//! - A damaged file is set aside (`aside`), counted ([`Database::damaged`]), and an empty one made. What it held is gone: the
//!   trust begins again at the image's root, deployments come from the broker, blobs are still there by their digests, and
//!   records that waited in the outbox are lost.
//! - A disk that takes no writes (full, read-only, broken) while the file is readable: reads go on, from a copy-on-write view
//!   in memory; writes are errors. So an agent starts, and runs what is committed, on a disk that is full.
//! - After any error redb's handle is closed, and opened again by the next call, which recovers without a restart once the disk
//!   does. After a failed sync, and at the start, since the agent may have ended after one, the system's cache of the file is dropped
//!   first: Linux keeps pages that it could not write, and takes them as written.
//! - A power cut between a commit and the orderly end of the agent leaves the last commit in doubt to redb; it goes back to the
//!   one before only where the last one is not whole. A bit that flips in just those pages, before the next start, is taken for
//!   such a cut and is not counted.
//!
//! Limits: 1 MiB of cache; 8 MiB of changes in memory to open a file that cannot be written.

mod aside;
mod open;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use sanderling_protocol::digest::Digest;

use self::open::Refusal;
use super::{
    Change, Step, Store, StoreError, Table,
    backend::Signs,
    disk::{Disk, SystemDisk, make_folder},
    sim::SimDisk,
};
use crate::state;

/// The name of the file in the state directory.
pub const FILE: &str = "state.redb";
/// A database that another has open is waited for this often.
pub const MOST_WAITS: u32 = 50;

type Records = TableDefinition<'static, &'static str, &'static [u8]>;

const TRUST: Records = TableDefinition::new("trust");
const SLOTS: Records = TableDefinition::new("slots");
const REFUSED: Records = TableDefinition::new("refused");
const VALUES: Records = TableDefinition::new("values");

impl Table {
    fn records(self) -> Records {
        match self {
            Self::Trust => TRUST,
            Self::Slots => SLOTS,
            Self::Refused => REFUSED,
            Self::Values => VALUES,
        }
    }
}

/// The open database; clones share it.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    signs: Arc<Signs>,
    slot: Mutex<Slot>,
    damaged: AtomicU32,
    losses: AtomicU32,
    notice: Option<String>,
}

/// What there is of the file.
#[derive(Debug)]
enum Slot {
    /// Nothing is open; the next call opens it.
    Closed,
    /// It is open to be written.
    Writable(redb::Database),
    /// It is open to be read, because it cannot be written.
    ReadOnly(redb::Database),
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database in the state directory, and makes both where they are missing.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Open`].
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(SystemDisk), state)
    }

    /// As [`Database::open`], but where another has it open, that is waited for: an agent that was killed has it until the kernel has
    /// taken it apart, and a worker that it was about to start. `wait` is called up to [`MOST_WAITS`] times.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_when_free(state: &Path, mut wait: impl FnMut()) -> Result<Self, StoreError> {
        for waited in 0..MOST_WAITS {
            match Self::open(state) {
                Err(error @ StoreError::InUse { .. }) => {
                    if waited == 0 {
                        tracing::warn!("{error} It is waited for.");
                    }
                    wait();
                }
                opened => return opened,
            }
        }
        Self::open(state)
    }

    /// Opens the database in a directory of this disk, and makes both where they are missing.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Open`].
    pub fn open_on(disk: Arc<dyn Disk>, state: &Path) -> Result<Self, StoreError> {
        let path = state.join(FILE);
        let unopened = |cause: String| StoreError::Open { path: path.clone(), cause };
        make_folder(&*disk, state).map_err(|error| unopened(error.to_string()))?;
        let signs = Arc::new(Signs::default());
        let tried_enough = open::begins(&*disk, &path);
        let opened = if tried_enough {
            Err(Refusal::Damaged("the agent ended each time that it opened it".into()))
        } else {
            open::writable(&*disk, &path, &signs)
        };
        let found = match opened {
            Ok(redb) => Ok((Slot::Writable(redb), None)),
            Err(Refusal::InUse) => Err(StoreError::InUse { path: path.clone() }),
            Err(Refusal::Damaged(cause)) => {
                let notice = set_aside(&*disk, &path, &cause)?;
                let opened = open::writable(&*disk, &path, &signs);
                opened.map(|redb| (Slot::Writable(redb), Some(notice))).map_err(|error| refused(&path, error))
            }
            Err(Refusal::Disk(cause)) => {
                tracing::error!(path = %path.display(), cause, "the database cannot be written; it is only read");
                let redb = open::readable(&*disk, &path, &signs).map_err(|_| unopened(cause.clone()))?;
                let notice = format!("the database can only be read: {cause}; check the state directory's disk");
                Ok((Slot::ReadOnly(redb), Some(notice)))
            }
        };
        open::ends(&*disk, &path);
        let (slot, notice) = found?;
        let damaged = AtomicU32::new(aside::count(&*disk, &path));
        let (slot, losses) = (Mutex::new(slot), AtomicU32::new(0));
        Ok(Self(Arc::new(Shared { disk, path, signs, slot, damaged, losses, notice })))
    }

    /// Opens the database to be read alone, and only where nobody else has it open; nothing on the disk is changed. `None` where there is
    /// none.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Open`].
    pub fn open_to_read(state: &Path) -> Result<Option<Self>, StoreError> {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let path = state.join(FILE);
        let unopened = |cause: String| StoreError::Open { path: path.clone(), cause };
        if disk.info(&path).map_err(|error| unopened(error.to_string()))?.is_none() {
            return Ok(None);
        }
        let signs = Arc::new(Signs::default());
        let redb = open::readable(&*disk, &path, &signs).map_err(|error| refused(&path, error))?;
        let slot = Mutex::new(Slot::ReadOnly(redb));
        let damaged = AtomicU32::new(aside::count(&*disk, &path));
        Ok(Some(Self(Arc::new(Shared { disk, path, signs, slot, damaged, losses: AtomicU32::new(0), notice: None }))))
    }

    /// A database in memory, for tests.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::open_on(Arc::new(SimDisk::new(0)), Path::new("/"))
    }

    /// How often the database of this device was found damaged and set aside.
    pub fn damaged(&self) -> u32 {
        self.0.damaged.load(Ordering::Relaxed)
    }

    /// How often that happened since it was opened: what was stored before is gone each time.
    pub fn losses(&self) -> u32 {
        self.0.losses.load(Ordering::Relaxed)
    }

    /// What was not right when it was opened, for people: it was damaged, or cannot be written.
    pub fn notice(&self) -> Option<&str> {
        self.0.notice.as_deref()
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The disk that it is on.
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        self.0.disk.clone()
    }

    /// Reads in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Damaged`].
    pub(crate) fn read<R>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        let mut slot = self.lock();
        self.make_readable(&mut slot)?;
        let (Slot::Writable(redb) | Slot::ReadOnly(redb)) = &*slot else { return Err(closed("read")) };
        let read = redb.begin_read().map_err(redb::Error::from).and_then(|transaction| work(&transaction));
        read.map_err(|error| close(&mut slot, "read", &error))
    }

    /// Writes in one transaction, which is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; then it is on disk as a whole or not at all. [`StoreError::Damaged`].
    pub(crate) fn write<R>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        let mut slot = self.lock();
        self.make_writable(&mut slot)?;
        let Slot::Writable(redb) = &*slot else { return Err(closed("written")) };
        let write = || {
            let transaction = redb.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        write().map_err(|error| close(&mut slot, "written", &error))
    }

    fn make_writable(&self, slot: &mut Slot) -> Result<(), StoreError> {
        if matches!(slot, Slot::Writable(_)) {
            return Ok(());
        }
        let Shared { disk, path, signs, .. } = &*self.0;
        // Before the view that reads go to is given up.
        open::probe(&**disk, path).map_err(|refusal| self.not_opened("written", refusal))?;
        *slot = Slot::Closed;
        let redb = open::writable(&**disk, path, signs).map_err(|refusal| self.not_opened("written", refusal))?;
        *slot = Slot::Writable(redb);
        Ok(())
    }

    fn make_readable(&self, slot: &mut Slot) -> Result<(), StoreError> {
        if !matches!(slot, Slot::Closed) {
            return Ok(());
        }
        let refused = match self.make_writable(slot) {
            Ok(()) | Err(StoreError::Damaged { .. }) => return Ok(()),
            Err(error) => error,
        };
        *slot = Slot::ReadOnly(open::readable(&*self.0.disk, &self.0.path, &self.0.signs).map_err(|_| refused)?);
        Ok(())
    }

    /// What follows from a database that did not open while the agent runs.
    fn not_opened(&self, doing: &'static str, refusal: Refusal) -> StoreError {
        let Shared { disk, path, damaged, losses, .. } = &*self.0;
        match refusal {
            Refusal::Damaged(cause) => match set_aside(&**disk, path, &cause) {
                Ok(_) => {
                    damaged.store(aside::count(&**disk, path), Ordering::Relaxed);
                    losses.fetch_add(1, Ordering::Relaxed);
                    StoreError::Damaged { path: path.clone(), cause }
                }
                Err(error) => error,
            },
            Refusal::InUse => StoreError::InUse { path: path.clone() },
            Refusal::Disk(cause) => StoreError::Disk { doing, cause },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        // redb rolls back a transaction that a panic cut short, so what is behind the lock is whole.
        self.0.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After an error redb refuses all further work on an open file; after some it would be wrong to go on.
fn close(slot: &mut Slot, doing: &'static str, error: &redb::Error) -> StoreError {
    *slot = Slot::Closed;
    StoreError::Disk { doing, cause: error.to_string() }
}

fn closed(doing: &'static str) -> StoreError {
    StoreError::Disk { doing, cause: "it was damaged and is made anew".into() }
}

/// Sets a damaged database aside and says so.
fn set_aside(disk: &dyn Disk, path: &Path, cause: &str) -> Result<String, StoreError> {
    let number = aside::set_aside(disk, path).map_err(|error| StoreError::Open {
        path: path.to_owned(),
        cause: format!("it is damaged ({cause}) and cannot be set aside ({error})"),
    })?;
    let notice = format!(
        "the database was damaged ({cause}) and is set aside, {number} times now; trusted metadata, deployments and records that waited are taken up anew from the image's root and the broker"
    );
    tracing::error!(path = %path.display(), "{notice}");
    Ok(notice)
}

fn refused(path: &Path, refusal: Refusal) -> StoreError {
    let path = path.to_owned();
    match refusal {
        Refusal::InUse => StoreError::InUse { path },
        Refusal::Damaged(cause) | Refusal::Disk(cause) => StoreError::Open { path, cause },
    }
}

/// A line with its own digest, so that a flipped bit in it is found.
fn sealed(line: &str) -> String {
    format!("{line}\n{}\n", Digest::of(line.as_bytes()))
}

/// The line that was sealed; `None` where it is not whole.
fn unsealed(bytes: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(bytes).ok()?.lines().next()?;
    (sealed(line).as_bytes() == bytes).then(|| line.to_owned())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// [`Store`] in redb.
#[derive(Clone, Debug)]
pub struct RedbStore(Database);

impl RedbStore {
    /// The store in this database.
    pub fn new(database: Database) -> Self {
        Self(database)
    }
}

impl Store for RedbStore {
    fn get_bytes(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(|transaction| match transaction.open_table(table.records()) {
            Ok(records) => Ok(records.get(key)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    fn keys(&self, table: Table) -> Result<Vec<String>, StoreError> {
        self.0.read(|transaction| match transaction.open_table(table.records()) {
            Ok(records) => records.iter()?.map(|entry| Ok(entry?.0.value().to_owned())).collect(),
            Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        })
    }

    fn apply(&self, change: Change) -> Result<(), StoreError> {
        if change.is_empty() {
            return Ok(());
        }
        self.0.write(|transaction| {
            for step in &change.steps {
                match step {
                    Step::Put(table, key, bytes) => {
                        transaction.open_table(table.records())?.insert(key.as_str(), bytes.as_slice())?;
                    }
                    Step::Delete(table, key) => {
                        transaction.open_table(table.records())?.remove(key.as_str())?;
                    }
                    Step::Clear(table) => {
                        transaction.open_table(table.records())?.retain(|_, _| false)?;
                    }
                    Step::SettleState { committed, trial } => {
                        state::table::settle(transaction, committed.as_ref(), trial.as_ref())?;
                    }
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
