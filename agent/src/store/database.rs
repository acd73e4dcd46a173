//! The records' database: one redb file, shared by the store and the outbox.
//!
//! Invariants: a transaction is on disk when its commit returns. The file is checked as a whole when it is opened, so
//! that flipped bits are found there and not by a module that reads them.
//!
//! Failure modes: a file that is damaged is renamed to `state.redb.damaged` (the last one is kept), and an empty one is
//! made; [`Database::damaged`] says how often that ever happened. After an I/O error (a full disk) redb refuses all
//! further work on the open file: it is closed, and opened again by the next call.
//!
//! Limits: 1 MiB of cache.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{
    DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
    WriteTransaction,
};

use super::{Change, Step, Store, StoreError, Table};
use crate::atomic_file;

/// redb's cache, in bytes; its default is 1 GiB.
const CACHE: usize = 1 << 20;
/// The name of the file in the state directory.
pub const FILE: &str = "state.redb";

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
pub struct Database {
    path: Arc<Path>,
    open: Arc<Mutex<Option<redb::Database>>>,
    damaged: u32,
    /// From now on everything fails as on a full disk.
    #[cfg(test)]
    full: Arc<std::sync::atomic::AtomicBool>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database in the state directory, and makes both where they are missing.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Open`].
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(FILE);
        fs::create_dir_all(state).map_err(|error| failed(&path, &error))?;
        let mut damaged = read_count(&path);
        let open = match open_file(&path) {
            Ok(open) => open,
            Err(error) if is_damage(&error) => {
                tracing::error!(path = %path.display(), %error, "the database is damaged; it is set aside and made anew");
                fs::rename(&path, beside(&path, ".damaged")).map_err(|error| failed(&path, &error))?;
                damaged = damaged.saturating_add(1);
                atomic_file::write(&beside(&path, ".damages"), damaged.to_string().as_bytes(), 0o600)
                    .map_err(|error| failed(&path, &error))?;
                open_file(&path).map_err(|error| refused(&path, &error))?
            }
            Err(error) => return Err(refused(&path, &error)),
        };
        Ok(Self {
            path: path.into(),
            open: Arc::new(Mutex::new(Some(open))),
            damaged,
            #[cfg(test)]
            full: Arc::default(),
        })
    }

    /// A database in memory, for tests.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn in_memory() -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        let open = redb::Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .map_err(|error| refused(path, &error))?;
        Ok(Self {
            path: path.into(),
            open: Arc::new(Mutex::new(Some(open))),
            damaged: 0,
            #[cfg(test)]
            full: Arc::default(),
        })
    }

    /// How often the database of this device was found damaged and set aside.
    pub fn damaged(&self) -> u32 {
        self.damaged
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub(crate) fn read<R>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        self.with("read", |open| work(&open.begin_read()?))
    }

    /// Writes in one transaction, which is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; then nothing is changed.
    pub(crate) fn write<R>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        self.with("written", |open| {
            let transaction = open.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    fn with<R>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&redb::Database) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        let mut guard = self.lock();
        if guard.is_none() {
            *guard = Some(open_file(&self.path).map_err(|error| refused(&self.path, &error))?);
        }
        let Some(open) = guard.as_ref() else {
            return Err(StoreError::Disk { doing, cause: "it is closed".to_owned() });
        };
        let done = if self.is_full() { Err(redb::Error::Io(io::ErrorKind::StorageFull.into())) } else { work(open) };
        done.map_err(|error| {
            if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::Corrupted(_)) {
                *guard = None;
            }
            StoreError::Disk { doing, cause: error.to_string() }
        })
    }

    #[cfg(not(test))]
    fn is_full(&self) -> bool {
        false
    }

    #[cfg(test)]
    fn is_full(&self) -> bool {
        self.full.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn fill_disk(&self, full: bool) {
        self.full.store(full, std::sync::atomic::Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<redb::Database>> {
        // redb rolls back a transaction that a panic cut short, so what is behind the lock is whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_file(path: &Path) -> Result<redb::Database, DatabaseError> {
    redb::Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).create(path)
}

/// Whether the file itself is at fault, and not the disk or another process.
fn is_damage(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(_))
        | DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_) => true,
        // redb says so of a file that does not begin as its own do, or that ends too early.
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

fn refused(path: &Path, error: &DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        other => StoreError::Open { path: path.to_owned(), cause: other.to_string() },
    }
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), cause: error.to_string() }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn read_count(path: &Path) -> u32 {
    fs::read_to_string(beside(path, ".damages")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
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
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{self, fake::MemoryStore};

    fn both(check: impl Fn(&dyn Store)) {
        let folder = tempfile::tempdir().unwrap();
        check(&RedbStore::new(Database::open(folder.path()).unwrap()));
        check(&MemoryStore::default());
    }

    #[test]
    fn a_change_happens_as_a_whole_and_in_order() {
        both(|store| {
            let change = Change::new()
                .put(Table::Slots, "candidate", &"new")
                .and_then(|change| change.put_bytes(Table::Trust, "root", b"{}".to_vec()))
                .and_then(|change| change.put(Table::Refused, "old", &1))
                .unwrap()
                .clear(Table::Refused)
                .delete(Table::Slots, "absent");
            store.apply(change).unwrap();
            assert_eq!(store::get::<String>(store, Table::Slots, "candidate").unwrap().as_deref(), Some("new"));
            assert_eq!(store.get_bytes(Table::Trust, "root").unwrap().as_deref(), Some(&b"{}"[..]));
            assert_eq!(store.keys(Table::Refused).unwrap(), Vec::<String>::new());
            assert_eq!(store.keys(Table::Slots).unwrap(), ["candidate"]);
        });
    }

    #[test]
    fn reads_nothing_from_tables_never_written() {
        both(|store| {
            assert_eq!(store.get_bytes(Table::Trust, "root").unwrap(), None);
            assert!(store.keys(Table::Values).unwrap().is_empty());
            assert_eq!(store::boots(store).unwrap(), 0);
            assert_eq!(store::saved_time(store).unwrap(), None);
        });
    }

    #[test]
    fn counts_boots_until_they_are_reset() {
        both(|store| {
            assert_eq!(store::count_boot(store).unwrap(), 1);
            assert_eq!(store::count_boot(store).unwrap(), 2);
            store.apply(store::save_time(store::reset_boots(Change::new()).unwrap(), 77).unwrap()).unwrap();
            assert_eq!(store::boots(store).unwrap(), 0);
            assert_eq!(store::saved_time(store).unwrap(), Some(77));
        });
    }

    #[test]
    fn a_record_of_another_form_is_an_error_that_names_it() {
        both(|store| {
            store.apply(Change::new().put(Table::Slots, "committed", &7).unwrap()).unwrap();
            let error = store::get::<String>(store, Table::Slots, "committed").unwrap_err();
            assert!(error.to_string().contains("committed"), "{error}");
        });
    }

    #[test]
    fn refuses_records_that_are_too_long() {
        let long = vec![0; store::MAX_RECORD + 1];
        assert!(matches!(
            Change::new().put_bytes(Table::Trust, "x", long),
            Err(StoreError::TooLong { length, .. }) if length == store::MAX_RECORD + 1
        ));
    }

    #[test]
    fn records_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = RedbStore::new(Database::open(folder.path()).unwrap());
        store.apply(Change::new().put(Table::Values, "x", &1).unwrap()).unwrap();
        drop(store);
        let store = RedbStore::new(Database::open(folder.path()).unwrap());
        assert_eq!(store::get(&store, Table::Values, "x").unwrap(), Some(1));
    }

    #[test]
    fn works_again_after_the_disk_was_full() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).unwrap();
        let store = RedbStore::new(database.clone());
        store.apply(Change::new().put(Table::Values, "x", &1).unwrap()).unwrap();
        database.fill_disk(true);
        let change = Change::new().put(Table::Values, "x", &2).unwrap();
        assert!(matches!(store.apply(change.clone()), Err(StoreError::Disk { .. })));
        database.fill_disk(false);
        assert_eq!(store::get(&store, Table::Values, "x").unwrap(), Some(1));
        store.apply(change).unwrap();
        assert_eq!(store::get(&store, Table::Values, "x").unwrap(), Some(2));
    }

    #[test]
    fn refuses_a_database_that_another_has_open() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Database::open(folder.path()).unwrap();
        assert!(matches!(Database::open(folder.path()), Err(StoreError::InUse { .. })));
    }

    #[test]
    fn a_damaged_database_is_set_aside_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for count in 1..=2 {
            fs::write(&path, vec![7; 8192]).unwrap();
            let database = Database::open(folder.path()).unwrap();
            assert_eq!(database.damaged(), count);
            assert!(beside(&path, ".damaged").exists());
            let store = RedbStore::new(database);
            store.apply(Change::new().put(Table::Values, "x", &1).unwrap()).unwrap();
        }
        assert_eq!(Database::open(folder.path()).unwrap().damaged(), 2);
    }

    #[test]
    fn flipped_bits_never_give_back_wrong_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let text = "a deployment ".repeat(2000);
        let store = RedbStore::new(Database::open(folder.path()).unwrap());
        store.apply(Change::new().put(Table::Slots, "committed", &text).unwrap()).unwrap();
        drop(store);
        let whole = fs::read(&path).unwrap();
        let mut damaged = 0;
        // Every 4099th byte: all pages of the file come up.
        for at in (0..whole.len()).step_by(4099) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let database = Database::open(folder.path()).unwrap();
            damaged = database.damaged();
            let read = store::get::<String>(&RedbStore::new(database), Table::Slots, "committed").unwrap();
            assert!(read.is_none() || read.as_ref() == Some(&text), "byte {at}");
        }
        assert!(damaged > 0);
    }
}
