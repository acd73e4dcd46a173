//! The deployment document: which modules a device runs, on which sensors and models, with which grants and limits.
//!
//! A deployment is a TUF target (`deployments/*`), so its bytes are signed; still it is checked field by field, since a
//! device must not run what it does not understand: unknown fields are refused, names are bounded, limits lie between a
//! floor and a ceiling. [`Deployment::parse`] is the only way in.

mod check;
mod error;
mod grant;
mod graph;
mod input;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use error::DeploymentError;
pub use grant::Grant;
pub use input::{Decode, Input, MAX_SOURCE, Policy, Sample, Source, Window};

/// The only schema that this version understands.
pub const SCHEMA: &str = "sanderling.deployment/1";
/// A deployment document is at most this long, in bytes.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// A deployment has at most this many modules.
pub const MAX_MODULES: usize = 32;
/// The channel of a command's standard output.
pub const STDOUT: &str = "stdout";
/// The records of a channel go to at most this many sinks.
pub const MAX_SINKS: usize = 4;
/// A module has at most this many inputs, models or channels.
pub const MAX_BINDINGS: usize = 16;

/// A checked deployment document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// [`SCHEMA`].
    pub schema: String,
    /// The deployment's name; its target path is `deployments/{name}.json`.
    pub name: String,
    /// The modules, each run by a worker of its own.
    pub modules: Vec<Module>,
}

/// One module of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// The instance's name, unique in the deployment; part of topics.
    pub name: String,
    /// The target path of the wasm file.
    pub module: String,
    /// Target paths of ONNX files by the name under which the guest loads them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, String>,
    /// Whose frames the module is given.
    pub input: Vec<Input>,
    /// How the module is run.
    #[serde(default)]
    pub execution: Execution,
    /// What the guest reads with `config`; any JSON.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub config: serde_json::Value,
    /// What the guest may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// What the guest may use.
    #[serde(default)]
    pub limits: Limits,
    /// Where the records of each channel go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<String, Channel>,
    /// How often a faulting module is started again before it is quarantined.
    #[serde(default)]
    pub restart: Restart,
    /// How long a new version must run without a fault before it is committed.
    #[serde(default)]
    pub probation: Probation,
}

/// How a module is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// One instance for all frames.
    #[default]
    Reactor,
    /// The same exports, and a fresh instance for every frame.
    Isolated,
    /// A plain WASI program, run once for every frame: the frame on its standard input, each line of its standard output a record on
    /// [`STDOUT`].
    Command,
}

/// What a guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of the guest, in MiB.
    pub memory_mib: u32,
    /// Wall-clock time for one frame, in milliseconds.
    pub deadline_ms: u32,
    /// Fuel for one frame (about one unit for each instruction).
    pub fuel_per_frame: u64,
    /// Records per second over all channels; bursts of one second's worth pass.
    pub emit_per_s: u32,
    /// Memory of the worker beyond the guest's own: models, tensors, decoded images; in MiB.
    pub native_memory_mib: u32,
    /// Memory for the flight recorder of the worker, in KiB; 0 turns it off. What it holds is what a capsule of a fault holds.
    pub capsule_kib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 16,
            deadline_ms: 200,
            fuel_per_frame: 500_000_000,
            emit_per_s: 50,
            native_memory_mib: 64,
            capsule_kib: 1024,
        }
    }
}

/// Where the records of a channel go, and how many wait while the link is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Channel {
    /// Where they go.
    pub sink: Sinks,
    /// What is kept when the channel is full.
    pub keep: Keep,
    /// The channel's room in the outbox, in bytes.
    pub max_bytes: u64,
    /// Records older than this are dropped, in seconds.
    pub max_age_s: u64,
    /// Whose records are sent first.
    pub priority: Priority,
    /// Whether records that wait are sent many at a time.
    pub batch: Batch,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            sink: Sinks::default(),
            keep: Keep::Newest,
            max_bytes: 4 << 20,
            max_age_s: 604_800,
            priority: Priority::Normal,
            batch: Batch::None,
        }
    }
}

/// The sink that every device has: the broker, `device/{id}/data/{module}/{channel}`, QoS 1, through the outbox.
pub const MQTT: &str = "mqtt";

/// The names of sinks: [`MQTT`], or what the device's configuration calls one of its own. One name or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Sinks(Vec<String>);

impl Sinks {
    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether records go to the broker.
    pub fn mqtt(&self) -> bool {
        self.names().any(|name| name == MQTT)
    }
}

impl Default for Sinks {
    fn default() -> Self {
        Self(vec![MQTT.to_owned()])
    }
}

impl<N: Into<String>> FromIterator<N> for Sinks {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Sinks {
    fn from(names: OneOrMany) -> Self {
        Self(match names {
            OneOrMany::One(name) => vec![name],
            OneOrMany::Many(names) => names,
        })
    }
}

impl From<Sinks> for OneOrMany {
    fn from(sinks: Sinks) -> Self {
        match <[String; 1]>::try_from(sinks.0) {
            Ok([name]) => Self::One(name),
            Err(names) => Self::Many(names),
        }
    }
}

/// Whose records are sent first. Events of the device come before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before those of other channels.
    High,
    /// In turn with the other channels.
    #[default]
    Normal,
    /// When no other channel has any that may be sent.
    Low,
}

/// Whether records that wait are sent many at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    /// Each in a message of its own.
    #[default]
    None,
    /// Those that wait together in one message, compressed with zstd.
    Zstd,
}

/// What a full channel keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The oldest records are dropped.
    #[default]
    Newest,
    /// New records are dropped.
    Oldest,
}

/// How often a faulting module is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// After this many restarts …
    pub max: u32,
    /// … within this many seconds the module is quarantined.
    pub within_s: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Self { max: 5, within_s: 300 }
    }
}

/// How long a new version must run without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probation {
    /// At least this many frames handled …
    pub frames: u32,
    /// … and at least this many seconds passed.
    pub seconds: u32,
}

impl Default for Probation {
    fn default() -> Self {
        Self { frames: 20, seconds: 30 }
    }
}

/// Whether `text` can be the name of a device, module, sensor, model or channel: `[A-Za-z0-9._-]{1,64}`, and neither `.` nor `..`,
/// since names become folders too.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !matches!(text, "." | "..")
}
