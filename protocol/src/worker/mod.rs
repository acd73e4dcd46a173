//! What the supervisor and one worker say to each other.
//!
//! Frames travel through a [`ring`] in shared memory; everything else travels over one stream socket as
//! length-prefixed messages: [`ToWorker`] down, [`FromWorker`] up. The supervisor treats whatever a worker writes as
//! hostile: every decoder here is bounded and returns a typed [`WireError`].
//!
//! The life of a worker:
//!
//! ```text
//! supervisor                     worker
//!   Start {module, models, …} ->   confine, compile, link, load the models, instantiate
//!                             <-   Ready                       (a dry start ends here, with Stop)
//!   State …, Begin            ->   _initialize, sanderling_start
//!                             <-   StateSet, StateDelete …, Running
//!   frame in the ring (+ Wake)->   sanderling_frame
//!                             <-   Emit, Log, Denied …, StateSet, StateDelete …, FrameDone | FrameRefused
//!   Stop                      ->   sanderling_stop
//!                             <-   StateSet, StateDelete …, Stopped, exit status 0
//!                             <-   Fault at any time, exit status 1
//! ```
//!
//! What the guest changed of its durable state a worker says when the call has ended well, each key at most once, and right before
//! the message that says so: `Running`, `FrameDone` or `Stopped`. The supervisor keeps the changes when that message comes, together
//! with the records of the frame; where another comes in its place, it keeps none of them.
//!
//! `Wake` is sent only when the ring says that the worker sleeps; a worker gathers what it has to say and writes it
//! when the ring is empty, when 16 KiB are waiting, or when the oldest message is 5 ms old. So hand-offs are batched under load and
//! immediate when idle.

mod confinement;
mod metric;
pub mod ring;
mod state;
mod wire;

use serde::{Deserialize, Serialize};

use crate::{
    capsule::CapsuleId,
    deployment::{Decode, Execution, Grant, Limits},
    digest::Digest,
};
pub use confinement::{Measure, Missing, UnknownMeasure};
pub use metric::{MAX_METRIC_NAME, MAX_METRICS, Metric, MetricKind, check_metric};
pub use state::{
    MAX_STATE, MAX_STATE_KEY, MAX_STATE_KEYS, MAX_STATE_VALUE, State, StateChanges, StateError, StateKey, StateSize,
    StateValue, check_key, check_value, state_memory,
};
pub use wire::{FromWorker, Inbox, MAX_MESSAGE, ToWorker, WireError};

/// The worker's end of the message socket, as an inherited file descriptor.
pub const SOCKET_FD: i32 = 3;
/// The shared memory of the frame ring, as an inherited file descriptor.
pub const RING_FD: i32 = 4;
/// The first inherited file descriptor of a blob: the module, then the models in the order of [`Start::models`].
pub const FIRST_BLOB_FD: i32 = 5;

impl Start {
    /// The memory of the flight recorder, as an inherited file descriptor behind those of the blobs; none where it is turned off.
    pub fn flight_fd(&self) -> Option<i32> {
        let blobs = i32::try_from(self.models.len()).ok()?.checked_add(1)?;
        if self.limits.capsule_kib == 0 { None } else { FIRST_BLOB_FD.checked_add(blobs) }
    }
}

/// A record that a guest emits is at most this long, in bytes.
pub const MAX_RECORD: usize = 64 * 1024;
/// A line that a guest logs is cut to this length, in bytes.
pub const MAX_LOG_LINE: usize = 1024;

/// Everything that a worker needs to know to load its guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The module's instance name in the deployment, for messages.
    pub name: String,
    /// The wasm file, open on [`FIRST_BLOB_FD`].
    pub module: Blob,
    /// The ONNX files, open on the descriptors after the module's.
    pub models: Vec<Model>,
    /// How the guest is run.
    pub execution: Execution,
    /// To what the frames of each sensor are decoded before the guest sees them, in the order of the deployment.
    pub inputs: Vec<InputDecode>,
    /// The deployment's `config`, as JSON text that the guest reads unchanged.
    pub config: String,
    /// What the guest may do.
    pub grants: Vec<Grant>,
    /// What the guest may use.
    pub limits: Limits,
}

/// A verified file that the worker inherits, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// SHA-256 of the content; the supervisor has checked it.
    pub sha256: Digest,
    /// Length in bytes.
    pub length: u64,
}

/// A model under the name by which the guest loads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name given to wasi-nn's `load_by_name`.
    pub name: String,
    /// The ONNX file.
    pub blob: Blob,
}

/// To what compressed frames of one sensor are decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDecode {
    /// The sensor's name, as in the frame header.
    pub sensor: String,
    /// The pixel format to decode to.
    pub decode: Decode,
}

/// What a worker reports when its guest is loaded and instantiated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Time to compile, link and instantiate the module, in microseconds.
    pub module_us: u64,
    /// Time to load all models, in microseconds.
    pub models_us: u64,
    /// Linear memory after instantiation, in bytes.
    pub memory_bytes: u64,
    /// Measures of confinement that are not in force; empty when all are.
    pub unconfined: Vec<Missing>,
}

/// One frame was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameDone {
    /// The frame's sequence number.
    pub seq: u64,
    /// From the moment the worker took the frame from the ring to the guest's return, in nanoseconds.
    pub took_ns: u64,
    /// Fuel that the frame used, native work included.
    pub fuel: u64,
    /// Linear memory of the guest after the frame, in bytes.
    pub memory_bytes: u64,
}

/// The stable code of a fault, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The guest executed a trapping instruction.
    Trap,
    /// A frame used more fuel than `fuel_per_frame`.
    Fuel,
    /// A frame took longer than `deadline_ms`.
    Deadline,
    /// The guest asked for more linear memory, tables or stack than it may have.
    Memory,
    /// Native work (a model, an image) needed more than `native_memory_mib`.
    NativeMemory,
    /// The module needs a grant to load that its deployment does not give.
    Denied,
    /// The module, its models or its start function could not be brought up.
    Init,
    /// The worker process ended without a word: a signal, an abort, a lost socket.
    Crash,
    /// The guest itself returned a positive number.
    Guest,
}

/// Why a worker stopped running its guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The stable code.
    pub code: FaultCode,
    /// What happened and what to do about it, one sentence each, for people.
    pub message: String,
    /// The trap's kind, where the code is `trap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trap: Option<String>,
    /// The export that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<String>,
    /// The number that the guest returned, where the code is `guest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_code: Option<i32>,
    /// The sequence number of the frame that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Fuel used by the call that failed.
    #[serde(default)]
    pub fuel_used: u64,
    /// Linear memory when it failed, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Host functions that the call had called, for a frame since the frame began.
    #[serde(default)]
    pub host_calls: u64,
    /// SHA-256 of the module; the supervisor's word, not the worker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Digest>,
    /// SHA-256 of the content of the frame that ran, as it came from the sensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<Digest>,
    /// The capsule that was kept of it; the supervisor's word, not the worker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capsule: Option<CapsuleId>,
}

impl Fault {
    /// A fault with a code and a message alone.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            trap: None,
            export: None,
            guest_code: None,
            seq: None,
            fuel_used: 0,
            memory_bytes: 0,
            host_calls: 0,
            module: None,
            frame: None,
            capsule: None,
        }
    }
}

impl std::fmt::Display for FaultCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Fuel => "fuel",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::NativeMemory => "native_memory",
            Self::Denied => "denied",
            Self::Init => "init",
            Self::Crash => "crash",
            Self::Guest => "guest",
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
