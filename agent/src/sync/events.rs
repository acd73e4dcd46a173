//! What happens to the machine, what it wants done, and what it answers to an event that does not fit.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use sanderling_protocol::{blob::BlobIndex, digest::Digest, reported::EventKind, topics::Published, worker::Fault};
use thiserror::Error;

use super::{Plan, Slots};

/// A message under `repo/`, `blob/` or `chunk/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is, by its topic.
    pub what: Published,
    /// Its payload.
    pub payload: Bytes,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlobFault {
    /// The content is not what is signed: the whole has another digest. Its parts are gone.
    #[error("{0}")]
    Corrupt(String),
    /// The disk is full or broken, or the record is not there.
    #[error("{0}")]
    Disk(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A connection stands; no subscription is left of the one before.
    LinkUp,
    /// The connection is lost.
    LinkDown,
    /// A message came.
    Message(Message),
    /// It is the time that [`super::Sync::wake_at`] named.
    Tick,
    /// Somebody asks for a look at the metadata now.
    Refresh,
    /// Something outside of this machine was refused or failed, to be listed with the rest.
    Refused {
        /// What.
        what: String,
        /// Why, naming cause and cure.
        why: String,
    },
    /// Answers [`Effect::Survey`].
    Surveyed {
        /// Those that are there.
        held: Vec<Digest>,
        /// What is free on the disk, in bytes.
        free: u64,
    },
    /// Answers [`Effect::Begin`].
    Begun {
        /// The blob.
        digest: Digest,
        /// The places in the index of the chunks that are missing.
        missing: Result<Vec<usize>, BlobFault>,
    },
    /// Answers [`Effect::Write`].
    Wrote {
        /// The blob.
        blob: Digest,
        /// The chunk's place in the index.
        index: usize,
        /// The chunk.
        chunk: Digest,
        /// Whether it is written.
        result: Result<(), BlobFault>,
    },
    /// Answers [`Effect::Finish`].
    Finished {
        /// The blob.
        digest: Digest,
        /// Whether it is whole.
        result: Result<(), BlobFault>,
    },
    /// Answers [`Effect::ReadDocument`].
    Document {
        /// The document.
        digest: Digest,
        /// Its content.
        content: Result<Vec<u8>, BlobFault>,
    },
    /// Answers [`Effect::Stage`]: every module was loaded.
    Staged {
        /// The number of the dry start.
        generation: u64,
    },
    /// Answers [`Effect::Stage`]: a module was not loaded.
    StageFailed {
        /// The number of the dry start.
        generation: u64,
        /// The module.
        module: String,
        /// Why.
        fault: Fault,
    },
    /// Answers [`Effect::Stage`] or [`Effect::Start`]: a blob was damaged since it was hashed, and is gone.
    Damaged {
        /// The generation that was to be staged or started.
        generation: u64,
    },
    /// A module takes frames.
    Running {
        /// Its generation.
        generation: u64,
        /// Its name.
        module: String,
    },
    /// A module faulted.
    Faulted {
        /// Its generation.
        generation: u64,
        /// Its name.
        module: String,
        /// Why.
        fault: Fault,
    },
    /// Answers [`Effect::Count`].
    Counted {
        /// The generation.
        generation: u64,
        /// Frames handled since it was started, by module.
        frames: Vec<(String, u64)>,
    },
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Subscribe in one packet, in this order. What is subscribed already is subscribed again.
    Subscribe(Vec<Published>),
    /// Unsubscribe in one packet.
    Unsubscribe(Vec<Published>),
    /// Store the trusted metadata, by role, in place of what was stored; in one transaction.
    PersistTrust(Vec<(String, Vec<u8>)>),
    /// Store the slots in place of what was stored; in one transaction.
    PersistSlots(Box<Slots>),
    /// Say which of these blobs are there, and what is free. Answered by [`Event::Surveyed`].
    Survey {
        /// The blobs.
        blobs: Vec<Digest>,
    },
    /// Begin a blob, or go on with it. Answered by [`Event::Begun`].
    Begin {
        /// The blob.
        digest: Digest,
        /// Its chunks, and its length.
        index: Arc<BlobIndex>,
    },
    /// Write a chunk, which matches its digest. Answered by [`Event::Wrote`].
    Write {
        /// The blob.
        blob: Digest,
        /// The chunk's place in the index.
        index: usize,
        /// The chunk.
        chunk: Digest,
        /// Its content.
        content: Arc<[u8]>,
    },
    /// Hash a blob as a whole, and keep it. Answered by [`Event::Finished`].
    Finish {
        /// The blob.
        digest: Digest,
    },
    /// Read a blob that is a deployment document. Answered by [`Event::Document`].
    ReadDocument {
        /// The blob.
        digest: Digest,
    },
    /// Remove every blob but these.
    Collect {
        /// The blobs to keep.
        keep: BTreeSet<Digest>,
    },
    /// Load every module of a plan without running it. Answered by [`Event::Staged`], [`Event::StageFailed`] or
    /// [`Event::Damaged`].
    Stage {
        /// Names the dry start in the answer.
        generation: u64,
        /// The plan.
        plan: Arc<Plan>,
    },
    /// Start the modules of a plan beside whatever runs. [`Event::Running`] and [`Event::Faulted`] follow, or
    /// [`Event::Damaged`].
    Start {
        /// The new generation.
        generation: u64,
        /// The plan.
        plan: Arc<Plan>,
    },
    /// Give frames to this generation from now on, or to none.
    Route {
        /// The generation.
        generation: Option<u64>,
    },
    /// Stop a generation, or a dry start. One that is not there is no error.
    Stop {
        /// The generation.
        generation: u64,
    },
    /// Count the frames of a generation. Answered by [`Event::Counted`].
    Count {
        /// The generation.
        generation: u64,
    },
    /// Tell the fleet.
    Tell(EventKind),
}

/// Why an event was not taken. The state is as before.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SyncError {
    /// An answer to a question that is no longer open.
    #[error("{what} was not asked for, or no longer: {digest}")]
    NotAsked {
        /// What came.
        what: &'static str,
        /// Of which blob or chunk.
        digest: Digest,
    },
    /// The store answered what it was not asked.
    #[error("a survey was not asked for, or no longer")]
    NotSurveying,
    /// A generation that is not in that state, or no longer.
    #[error("generation {generation} is said to be {what}, but is not awaited to be, or no longer")]
    Generation {
        /// What is said of it.
        what: &'static str,
        /// Its number.
        generation: u64,
    },
    /// Something happened before [`Event::LinkUp`].
    #[error("a message came while the link was down")]
    LinkDown,
}
