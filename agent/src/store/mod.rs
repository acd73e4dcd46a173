//! The store: what the agent must know after a power cut.
//!
//! Purpose: small records in tables, changed by transactions ([`Store`]), and files named by their digest ([`Blobs`]).
//! Records are opaque here: their owners give them meaning as serde types, in JSON.
//!
//! Invariants: a [`Change`] happens as a whole or not at all, and is on disk when [`Store::apply`] returns. A blob that
//! [`Blobs::has`] was hashed as a whole before it got its name.
//!
//! Failure modes: a damaged database is set aside under another name, counted and reported, and an empty one made; the
//! agent rebuilds from the image's root and the broker. A damaged blob is removed when it is opened. A full or broken
//! disk is an error that names the file; nothing is lost by it, and the next call after it has recovered succeeds.
//!
//! Limits: records of [`MAX_RECORD`] bytes; blobs are never read into memory as a whole.
//!
//! The adapters are [`database`] and [`blobs`], over the port [`disk`]; the fakes [`fake::MemoryStore`], [`fake::MemoryBlobs`]
//! and [`sim::SimDisk`].

pub mod blobs;
pub mod capsules;
pub mod counted;
pub mod database;
pub mod disk;
pub mod fake;
pub mod sim;

mod backend;
mod part;

use std::{collections::BTreeSet, fs::File, path::PathBuf};

use sanderling_protocol::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

pub use blobs::BlobError;

/// A record is at most this long, in bytes: TUF metadata is at most 128 KiB.
pub const MAX_RECORD: usize = 256 * 1024;

/// The tables of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Trusted TUF metadata as its signed bytes, by role.
    Trust,
    /// Deployment slots: `candidate`, `committed`, `previous`.
    Slots,
    /// What was refused or rolled back and must not be tried again, by digest.
    Refused,
    /// Single values: time last saved, damage counter.
    Values,
}

/// Why a record could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database cannot be opened, even after it was set aside.
    #[error(
        "the database {path} cannot be opened: {cause}; check that the disk is there, writable, and used by no other agent"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What redb says.
        cause: String,
    },
    /// Another process has it open.
    #[error("the database {path} is in use; is another sanderling-agent running on the same state directory?")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The database was found damaged while the agent runs, and set aside: what it held is gone.
    #[error("the database {path} was damaged ({cause}) and is set aside; what it held is taken up anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What redb says.
        cause: String,
    },
    /// Reading or writing failed: the disk is full, read-only, or broken.
    #[error("the database could not be {doing}: {cause}; check the state directory's disk")]
    Disk {
        /// `read` or `written`.
        doing: &'static str,
        /// What redb says.
        cause: String,
    },
    /// A record is not of the type that its owner expects.
    #[error("the record {key:?} in {table:?} does not parse: {cause}; it was written by another version of the agent")]
    Form {
        /// The table.
        table: Table,
        /// The key.
        key: String,
        /// What serde says.
        cause: String,
    },
    /// A record is longer than [`MAX_RECORD`].
    #[error("the record {key:?} in {table:?} has {length} bytes; at most {MAX_RECORD} are kept")]
    TooLong {
        /// The table.
        table: Table,
        /// The key.
        key: String,
        /// Its length in bytes.
        length: usize,
    },
}

/// One step of a [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Put(Table, String, Vec<u8>),
    Delete(Table, String),
    Clear(Table),
    SettleState { committed: Option<Digest>, trial: Option<Digest> },
}

/// Records to change together: all of it happens, in order, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a change does nothing until it is applied"]
pub struct Change {
    pub(crate) steps: Vec<Step>,
}

impl Change {
    /// A change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Writes a record as JSON.
    ///
    /// # Errors
    /// [`StoreError::Form`] where the value cannot be written as JSON, [`StoreError::TooLong`].
    pub fn put<T: Serialize + ?Sized>(self, table: Table, key: &str, value: &T) -> Result<Self, StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|error| form(table, key, &error))?;
        self.put_bytes(table, key, bytes)
    }

    /// Writes a record as it is.
    ///
    /// # Errors
    /// [`StoreError::TooLong`].
    pub fn put_bytes(mut self, table: Table, key: &str, bytes: Vec<u8>) -> Result<Self, StoreError> {
        if bytes.len() > MAX_RECORD {
            return Err(StoreError::TooLong { table, key: key.to_owned(), length: bytes.len() });
        }
        self.steps.push(Step::Put(table, key.to_owned(), bytes));
        Ok(self)
    }

    /// Removes a record, if it is there.
    pub fn delete(mut self, table: Table, key: &str) -> Self {
        self.steps.push(Step::Delete(table, key.to_owned()));
        self
    }

    /// Lets the state of modules follow the slots: see [`crate::state`]. Deployments are told by their identities.
    pub fn settle_state(mut self, committed: Option<Digest>, trial: Option<Digest>) -> Self {
        self.steps.push(Step::SettleState { committed, trial });
        self
    }

    /// Removes all records of a table.
    pub fn clear(mut self, table: Table) -> Self {
        self.steps.push(Step::Clear(table));
        self
    }
}

/// Records in tables.
pub trait Store: Send + Sync {
    /// The bytes of a record, `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    fn get_bytes(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// The keys of a table, sorted.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    fn keys(&self, table: Table) -> Result<Vec<String>, StoreError>;

    /// Carries out a change; it is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; then nothing is changed.
    fn apply(&self, change: Change) -> Result<(), StoreError>;
}

/// Reads a record of JSON.
///
/// # Errors
/// [`StoreError::Disk`]; [`StoreError::Form`] where it is not a `T`.
pub fn get<T: DeserializeOwned>(store: &dyn Store, table: Table, key: &str) -> Result<Option<T>, StoreError> {
    let Some(bytes) = store.get_bytes(table, key)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| form(table, key, &error))
}

fn form(table: Table, key: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Form { table, key: key.to_owned(), cause: error.to_string() }
}

const SAVED_TIME: &str = "saved_time";

/// The time last saved, Unix seconds; a floor for expiry ([`crate::clock::floor`]).
///
/// # Errors
/// [`StoreError`].
pub fn saved_time(store: &dyn Store) -> Result<Option<i64>, StoreError> {
    get(store, Table::Values, SAVED_TIME)
}

/// Adds to a change that `time`, Unix seconds, was reached.
///
/// # Errors
/// [`StoreError`].
pub fn save_time(change: Change, time: i64) -> Result<Change, StoreError> {
    change.put(Table::Values, SAVED_TIME, &time)
}

/// Where a chunk lies in a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobChunk {
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Its first byte's place in the blob.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
}

/// What the blobs take and leave, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// What blobs, parts of blobs and their indexes take.
    pub used: u64,
    /// What is free on their disk.
    pub free: u64,
    /// How many blobs, since the store was opened, were damaged on disk and removed to be pulled again.
    pub damaged: u32,
}

/// A verified blob, open for reading.
#[derive(Debug)]
pub struct OpenBlob {
    /// The file, read-only, at its start.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
}

/// Files named by their digest, and those that are still being put together.
pub trait Blobs: Send {
    /// Begins a blob, or goes on with it: after a restart, chunks that its part already holds are found by hashing them
    /// again. Chunks that other blobs hold are copied from there. Returns the indexes of the chunks that are missing;
    /// none are where the blob is there already.
    ///
    /// # Errors
    /// [`BlobError::Index`] where the chunks do not cover the length in order; [`BlobError::Full`] where the disk has no
    /// room for it; [`BlobError::Disk`].
    fn begin(&mut self, digest: &Digest, length: u64, chunks: &[BlobChunk]) -> Result<Vec<usize>, BlobError>;

    /// Writes one chunk where it belongs; `bytes` is its content, decoded. Returns how many chunks are missing now.
    ///
    /// # Errors
    /// [`BlobError::NotBegun`]; [`BlobError::Chunk`] where bytes and digest do not match; [`BlobError::Disk`].
    fn put_chunk(&mut self, digest: &Digest, index: usize, bytes: &[u8]) -> Result<usize, BlobError>;

    /// Hashes the whole and gives it its name.
    ///
    /// # Errors
    /// [`BlobError::NotBegun`]; [`BlobError::Missing`], also where the disk lost chunks that it was given;
    /// [`BlobError::Whole`] where the whole has another digest though each chunk is right: then its part is removed;
    /// [`BlobError::Disk`]: then [`Blobs::begin`] it again.
    fn finish(&mut self, digest: &Digest) -> Result<(), BlobError>;

    /// Opens a blob, hashed again.
    ///
    /// # Errors
    /// [`BlobError::Absent`]; [`BlobError::Damaged`], and it is removed; [`BlobError::Disk`].
    fn open(&mut self, digest: &Digest) -> Result<OpenBlob, BlobError>;

    /// Whether a finished blob of that name is there.
    fn has(&self, digest: &Digest) -> bool;

    /// What the part of a blob takes on the disk already, in bytes; 0 where it was not begun.
    fn taken(&self, digest: &Digest) -> u64;

    /// Removes every blob and every part whose digest is not in `keep`; returns the bytes that got free.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    fn collect(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, BlobError>;

    /// What is used and free.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    fn usage(&self) -> Result<Usage, BlobError>;
}
