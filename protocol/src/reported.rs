//! What a device tells the fleet: status (birth and will), reported state, events, and answers to commands.
//!
//! All of it is JSON that people and scripts read, so fields are added in later versions and never change their meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    topics::DeviceId,
    worker::{Fault, Metric, Missing},
};

/// The schema of [`Reported`].
pub const SCHEMA: &str = "sanderling.reported/1";

/// `device/{id}/status`, retained: the birth that an agent publishes, and the will that the broker publishes for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// One id for birth and will of one connection, so that a late will of an older one is recognised.
    pub session: String,
    /// True in the birth, false in the will.
    pub online: bool,
    /// The agent's version.
    pub agent: String,
    /// The kernel's boot id.
    pub boot: String,
    /// When the connection was made, Unix seconds by the device's clock.
    pub since: i64,
}

/// `device/{id}/reported`, retained: everything that the fleet needs to know of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// [`SCHEMA`].
    pub schema: String,
    /// The device.
    pub device: DeviceId,
    /// As in [`Status`].
    pub session: String,
    /// The deployment that this device is to run, and how far it is.
    pub deployment: Option<DeploymentReport>,
    /// Versions of the trusted metadata.
    pub metadata: MetadataReport,
    /// Every module of the deployment that runs.
    pub modules: Vec<ModuleReport>,
    /// Sensors that are configured, and what keeps them from giving frames.
    #[serde(default)]
    pub sensors: Vec<SensorReport>,
    /// Sinks that are configured, and what keeps them from taking records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkReport>,
    /// What was refused and why, newest last, at most 16.
    pub refused: Vec<Refused>,
    /// The state directory's disk.
    pub storage: Storage,
    /// Records that wait for the link.
    pub outbox: Outbox,
    /// When this device's certificate expires, Unix seconds; absent before its first connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<i64>,
    /// Since when the metadata is expired, Unix seconds; absent while it is fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<i64>,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Blobs are pulled.
    Fetching,
    /// Workers make a dry start.
    Staging,
    /// It runs, and the one before it is kept.
    Probation,
    /// It runs and is committed.
    Active,
    /// It faulted in probation; the one before it runs again.
    RolledBack,
    /// It cannot be run as it is.
    Refused,
}

/// The deployment in [`Reported`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentReport {
    /// Its name.
    pub name: String,
    /// The version of the `deployments` metadata that it came with.
    pub version: u64,
    /// SHA-256 of the document.
    pub digest: Digest,
    /// How far it is.
    pub state: DeploymentState,
    /// Blob bytes held and needed, while fetching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it was refused or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How it took the place of the one before it; absent where nothing ran, and after a restart of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
}

/// In which order a deployment takes the place of the one that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Handover {
    /// The new one is loaded and started before the old one stops.
    MakeBeforeBreak,
    /// The old one stops before the new one begins; frames wait meanwhile, as each input's policy says.
    BreakBeforeMake {
        /// What keeps both from running side by side.
        why: String,
    },
}

/// How much of a deployment's blobs is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of content that are held, those of earlier versions included.
    pub held: u64,
    /// Bytes of content in all.
    pub total: u64,
    /// Bytes that came over the link for this deployment: chunk messages as they were sent.
    pub pulled: u64,
}

/// Versions of the trusted metadata; 0 where there is none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataReport {
    /// Root.
    pub root: u64,
    /// Timestamp.
    pub timestamp: u64,
    /// Snapshot.
    pub snapshot: u64,
    /// Top-level targets.
    pub targets: u64,
    /// When the first of them expires, Unix seconds.
    pub expires: i64,
}

/// The state of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// Its worker loads it.
    Starting,
    /// It takes frames.
    Running,
    /// It faulted and will be started again.
    Faulted,
    /// It faulted too often and is left alone.
    Quarantined,
    /// It was stopped.
    Stopped,
}

/// A module in [`Reported`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Its name in the deployment.
    pub name: String,
    /// SHA-256 of the wasm file.
    pub artifact: Digest,
    /// Its state.
    pub state: ModuleState,
    /// Since when, Unix seconds.
    pub since: i64,
    /// Restarts since the deployment was activated.
    pub restarts: u64,
    /// Frames handled since the deployment was activated.
    pub frames: u64,
    /// Frames that it was not given though its policy would have had it: the sum of `drops`.
    pub dropped: u64,
    /// The same, by what kept each from it.
    #[serde(default, skip_serializing_if = "Drops::is_none")]
    pub drops: Drops,
    /// Frames that its policy `sample` leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Frames that could not be decoded for it.
    #[serde(default)]
    pub unreadable: u64,
    /// The median time from the worker's taking a frame to the guest's return, over the last 1024 frames, in microseconds.
    #[serde(default)]
    pub frame_us_p50: u64,
    /// The 99th percentile of the same.
    #[serde(default)]
    pub frame_us_p99: u64,
    /// What its worker said beyond its rates, and was not taken.
    #[serde(default, skip_serializing_if = "Excess::is_none")]
    pub excess: Excess,
    /// What it counts and measures, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
    /// Host functions that it called without a grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
    /// The process that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When it will be started again, where it faulted and waits for that, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_restart: Option<i64>,
    /// Measures of confinement that its worker does without, as `sanderling-agent doctor` names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconfined: Vec<Missing>,
    /// Its last fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Frames that a module was not given, by what kept them from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drops {
    /// A newer one took their place: they came faster than the module takes them.
    #[serde(skip_serializing_if = "is_zero")]
    pub overtaken: u64,
    /// Its worker had them when it ended.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// They are larger than what its worker takes.
    #[serde(skip_serializing_if = "is_zero")]
    pub oversize: u64,
    /// They are no series, where the policy is `window`.
    #[serde(skip_serializing_if = "is_zero")]
    pub unfit: u64,
    /// Windows that were given up in the middle, since the series broke off or changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub broken: u64,
}

impl Drops {
    /// Whether there was none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_cause().into_iter().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Each cause by its name, and how many frames it kept away.
    pub fn by_cause(&self) -> [(&'static str, u64); 5] {
        [
            ("overtaken", self.overtaken),
            ("lost", self.lost),
            ("oversize", self.oversize),
            ("unfit", self.unfit),
            ("broken", self.broken),
        ]
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a worker said beyond the rates that hold for it. A worker that does its duty limits its guest before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excess {
    /// Records beyond twice `emit_per_s`.
    #[serde(default)]
    pub records: u64,
    /// Log lines beyond 100 a second.
    #[serde(default)]
    pub log_lines: u64,
}

impl Excess {
    /// Whether there was none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A sensor in [`Reported`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorReport {
    /// Its name in the configuration.
    pub name: String,
    /// Frames that it gave.
    pub frames: u64,
    /// Parts of its input that were no frames, or could not be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// What keeps it from giving frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A sink of the device in [`Reported`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkReport {
    /// Its name in the configuration.
    pub name: String,
    /// Records that came to it since the agent was started.
    pub records: u64,
    /// Those of them that it lost, by cause. A socket counts a record once for each reader that lost it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// What a sink of kind `gpio` did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulses: Option<Pulses>,
    /// What keeps it from taking records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The pulses of a line, since the agent was started. Times are over the last 1024 of them, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulses {
    /// Pulses that were given.
    pub given: u64,
    /// Records whose pulse would have touched another one, which was made longer instead.
    pub joined: u64,
    /// Pulses whose time was over when their record came: they were given at once.
    pub late: u64,
    /// The median time from the record, or from the moment that `delay_ms` names, to the line being set.
    pub set_us_p50: u64,
    /// The 99th percentile of the same.
    pub set_us_p99: u64,
    /// The median time from the capture of a frame to its record.
    pub record_us_p50: u64,
    /// The 99th percentile of the same: `delay_ms` must be longer.
    pub record_us_p99: u64,
}

/// Something that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What: a topic, a target path, a deployment.
    pub what: String,
    /// The digest of what was refused, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Why, naming cause and cure.
    pub why: String,
}

/// The state directory's disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// What Sanderling uses of it.
    pub used: u64,
    /// What is free.
    pub free: u64,
    /// What it gave back otherwise than it was written.
    #[serde(default, skip_serializing_if = "Damaged::is_none")]
    pub damaged: Damaged,
}

/// What was found damaged in the state directory, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Databases that were set aside, ever.
    #[serde(default)]
    pub databases: u32,
    /// Blobs that were removed to be pulled again, since the agent was started.
    #[serde(default)]
    pub blobs: u32,
}

impl Damaged {
    /// Whether nothing was.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The outbox in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// Records that wait.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that were dropped by policy, ever.
    pub dropped: u64,
}

/// `device/{id}/event`: something that happened, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, Unix milliseconds by the device's clock.
    pub at_ms: i64,
    /// What.
    #[serde(flatten)]
    pub what: EventKind,
}

/// What an [`Event`] tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A module faulted.
    Fault {
        /// The module.
        module: String,
        /// The fault.
        fault: Fault,
        /// Whether it will be started again.
        quarantined: bool,
    },
    /// A deployment was committed.
    Committed {
        /// Its name.
        deployment: String,
        /// Its digest.
        digest: Digest,
    },
    /// A deployment was rolled back.
    RolledBack {
        /// Its name.
        deployment: String,
        /// Its digest.
        digest: Digest,
        /// Why.
        why: String,
    },
    /// A deployment took the place of another; its probation begins.
    Switched {
        /// Its name.
        deployment: String,
        /// Its digest.
        digest: Digest,
        /// In which order.
        handover: Handover,
    },
    /// Something was refused.
    Refused(Refused),
}
