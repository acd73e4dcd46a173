//! What happens to the machine, what it wants done, and what it answers to an event that does not fit.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use sanderling_protocol::{
    blob::BlobIndex,
    digest::Digest,
    reported::{EventKind, Handover},
    topics::Published,
    worker::Fault,
};
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

/// What the broker said of itself when the link came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The messages of QoS 1 that it has under way with one client at a time.
    pub messages: u16,
    /// The longest packet that it takes, in bytes.
    pub packet: u32,
}

impl Default for Capacity {
    /// A broker that sets no limits.
    fn default() -> Self {
        Self { messages: u16::MAX, packet: u32::MAX }
    }
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlobFault {
    /// The content is not what is signed: the whole has another digest. Its parts are gone.
    #[error("{0}")]
    Corrupt(String),
    /// What was written of the blob is gone: it has to be begun again.
    #[error("{0}")]
    Gone(String),
    /// The disk is full or broken, or the record is not there.
    #[error("{0}")]
    Disk(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A connection stands; no subscription is left of the one before.
    LinkUp(Capacity),
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
        /// The number of the survey.
        number: u64,
        /// Those that are there.
        held: Vec<Digest>,
        /// What the parts of the others take on the disk already, in bytes.
        taken: u64,
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
    /// Answers [`Effect::Stage`]: every module was loaded, or there is no room to load one beside what runs.
    Staged {
        /// The number of the dry start.
        generation: u64,
        /// In which order the plan can take the place of what runs.
        handover: Handover,
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
    /// Store the trusted metadata in place of what was stored, and that a time was reached; in one transaction.
    PersistTrust {
        /// The metadata, by role.
        files: Vec<(String, Vec<u8>)>,
        /// The time, as [`super::Sync::time_to_save`] gives it.
        time: i64,
    },
    /// Store the slots in place of what was stored; in one transaction.
    PersistSlots(Box<Slots>),
    /// Say which of these blobs are there, and what is free. Answered by [`Event::Surveyed`].
    Survey {
        /// Names the survey in the answer.
        number: u64,
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
        /// Names the dry start in the answer, and the generation that [`Effect::Start`] makes of it.
        generation: u64,
        /// The plan.
        plan: Arc<Plan>,
    },
    /// Start the modules of a plan. [`Event::Running`] and [`Event::Faulted`] follow, or [`Event::Damaged`].
    ///
    /// What was staged under this number to be made before the other breaks is loaded already and starts at once. All else may
    /// have to wait until what is stopped is gone, so it is started where [`Effect::Route`] and [`Effect::Stop`] follow.
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
    /// Stop these modules of a generation for good; its others run on. They are not among those of its plan any more.
    Withdraw {
        /// The generation.
        generation: u64,
        /// The modules.
        modules: Vec<String>,
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
    #[error("survey {number} was not asked for, or no longer")]
    NotSurveying {
        /// The number in the answer.
        number: u64,
    },
    /// A message that nothing waits for: it came twice, or after it was no longer wanted.
    #[error("{what} came, and is not awaited, or no longer")]
    NotAwaited {
        /// Its topic, without the prefix.
        what: String,
    },
    /// The link came up twice.
    #[error("the link is said to be up, and is up")]
    LinkUp,
    /// A generation that is not in that state, or no longer.
    #[error("generation {generation} is said to be {what}, but is not awaited to be, or no longer")]
    Generation {
        /// What is said of it.
        what: &'static str,
        /// Its number.
        generation: u64,
    },
    /// A message came, or the link went down, while it was down.
    #[error("the link is down")]
    LinkDown,
}
