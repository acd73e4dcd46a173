//! What the modules of a deployment stand on: where their blobs come from, and where goes what they say, keep and leave behind. Their fakes
//! are in [`super::fake`].

use std::{cell::RefCell, fs::File, io, rc::Rc, sync::Arc};

use bytes::Bytes;
use sanderling_protocol::{
    capsule::CapsuleId,
    digest::Digest,
    worker::{Fault, State, StateChanges, StateError},
};

use super::{ModuleSpec, flight::FlightFile};
use crate::{clock::Clock, frames::Pool};

/// What [`Workloads`](super::Workloads) stands on.
#[derive(Clone)]
pub struct Ports {
    /// Where modules and models are read from.
    pub blobs: Rc<dyn Blobs>,
    /// Where records and log lines go.
    pub records: Rc<RefCell<dyn Records>>,
    /// Where modules' state is kept.
    pub states: Rc<RefCell<dyn States>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Memory for frames that wait; the sensors' pool.
    pub pool: Pool,
    /// Who keeps capsules.
    pub capsules: Rc<dyn Capsules>,
}

/// Opens verified blobs for workers.
pub trait Blobs {
    /// The content with this digest, open for reading from its start. Each call opens the file anew.
    ///
    /// # Errors
    /// Whatever keeps it from being read: it is absent, damaged, or the disk fails.
    fn open(&self, digest: &Digest) -> io::Result<File>;
}

/// Takes what guests say. Called on the frame path with borrowed data, so that nothing is allocated on the way.
pub trait Records {
    /// A record that `module` emitted on `channel` while it handled the frame `seq` (0 from its start function), which was captured at
    /// `captured_ns` of the kernel's monotonic clock. The channel is one that the deployment grants.
    fn record(&mut self, module: &str, channel: &str, seq: u64, captured_ns: Option<u64>, payload: &[u8]);

    /// A line that `module` logged: level 0 error, 1 warn, 2 info, 3 debug, 4 and more trace. At most
    /// [`sanderling_protocol::worker::MAX_LOG_LINE`] bytes, limited in rate.
    fn log(&mut self, module: &str, level: u8, text: &str);
}

/// A record that a module emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// The channel, which the deployment grants.
    pub channel: String,
    /// The frame during which it was emitted; 0 from the start function.
    pub seq: u64,
    /// When that frame was captured, nanoseconds of the kernel's monotonic clock.
    pub captured_ns: Option<u64>,
    /// The record.
    pub payload: Bytes,
}

/// Keeps what modules keep over restarts.
pub trait States {
    /// What `module` of this generation kept last; it begins with that.
    fn state(&self, generation: u64, module: &str) -> State;

    /// Keeps what one call into the guest changed, together with the records that it emitted: as a whole or not at all.
    ///
    /// # Errors
    /// [`StateError`] where the module would hold more than `quota` and the bounds allow; then the records are not taken either.
    fn keep(&mut self, of: StateOf<'_>, records: Vec<Emitted>, changes: StateChanges) -> Result<(), StateError>;
}

/// Whose state is kept.
#[derive(Clone, Copy, Debug)]
pub struct StateOf<'a> {
    /// The generation that the module runs in.
    pub generation: u64,
    /// Its name in the deployment.
    pub module: &'a str,
    /// How many bytes of keys and values it may keep.
    pub quota: u64,
}

/// Keeps capsules.
pub trait Capsules {
    /// Keeps a capsule of a module of this generation, and names it; `None` where none is kept.
    fn keep(&self, generation: u64, spec: &ModuleSpec, recorded: Recorded<'_>) -> Option<CapsuleId>;
}

/// Keeps none.
#[derive(Debug)]
pub struct NoCapsules;

impl Capsules for NoCapsules {
    fn keep(&self, _generation: u64, _spec: &ModuleSpec, _recorded: Recorded<'_>) -> Option<CapsuleId> {
        None
    }
}

/// What there is for a capsule.
#[derive(Debug)]
pub struct Recorded<'a> {
    /// The fault; none where somebody asked for a frame that went well.
    pub fault: Option<&'a Fault>,
    /// Whether the record lacks the state that the guest was in.
    pub partial: bool,
    /// How long the record is, in bytes.
    pub length: usize,
    /// The record.
    pub record: Record,
}

/// A record, or where it is.
#[derive(Debug)]
pub enum Record {
    /// In memory that nobody writes to any more.
    Flight(FlightFile),
    /// Here.
    Read(Vec<u8>),
}
