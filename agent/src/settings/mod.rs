//! The agent's configuration: TOML fragments in, validated [`Settings`] out.
//!
//! Purpose: `/etc/sanderling/agent.toml` is read, then every `*.toml` in `/etc/sanderling/agent.toml.d/` in name order.
//! A later file overrides an earlier one key by key; a `[sensor.<name>]` or `[sensor.<name>.…]` table replaces the earlier
//! sensor of that name as a whole, and so it is with `[sink.<name>]`. The main file or the directory may be missing, but not both.
//!
//! Invariants: nothing but a checked value leaves this module; an unknown key is an error, never ignored.
//!
//! Failure modes: every [`SettingsError`] names the file, the key and what is allowed.
//!
//! Limits: files of [`MAX_FILE`] bytes, [`MAX_SENSORS`] sensors, [`MAX_SINKS`] sinks. Read once, at start.

mod load;
mod metrics;
mod publish;
mod raw;
mod sensor;
mod sink;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use sanderling_protocol::{
    topics::{DeviceId, Topics},
    worker::Measure,
};
use thiserror::Error;

pub use metrics::MetricsSettings;
pub use publish::PublishSettings;
pub use sensor::SensorSettings;
pub use sink::SinkSettings;

use crate::{outbox::DrainSettings, store::capsules::Room};

/// Where the configuration lies unless the command line says otherwise.
pub const DEFAULT_FILE: &str = "/etc/sanderling/agent.toml";
/// A configuration file is at most this long, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// At most this many sensors.
pub const MAX_SENSORS: usize = 64;
/// At most this many sinks.
pub const MAX_SINKS: usize = 16;

/// Why the configuration is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A file is there and cannot be read.
    #[error("{file} cannot be read: {cause}")]
    Read {
        /// The file or directory.
        file: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{file}: {problem}")]
    Form {
        /// The file.
        file: PathBuf,
        /// Line, key, and what is expected there.
        problem: String,
    },
    /// A key must be given and is in no file.
    #[error("{file}: `{key}` is missing; {allowed}")]
    Missing {
        /// The main file.
        file: PathBuf,
        /// The key, dotted.
        key: &'static str,
        /// What to write there.
        allowed: &'static str,
    },
    /// A value is not allowed.
    #[error("{file}: `{key}` is {value}; allowed: {allowed}")]
    Value {
        /// The file that says so.
        file: PathBuf,
        /// The key, dotted.
        key: String,
        /// The value found.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A sensor of a kind that this build leaves out.
    #[error(
        "{file}: `sensor.{sensor}`: this build has no \"{kind}\" sensors; build sanderling-agent with the feature `{kind}`"
    )]
    Feature {
        /// The file that says so.
        file: PathBuf,
        /// The sensor's name.
        sensor: String,
        /// Its kind, which is also the feature's name.
        kind: &'static str,
    },
}

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who this device is: `device`, or else the common name of `[broker] cert`.
    pub device: DeviceId,
    /// What a deployment's audience matches.
    pub labels: BTreeMap<String, String>,
    /// `[broker]`.
    pub broker: BrokerSettings,
    /// `[paths]`.
    pub paths: PathSettings,
    /// `[trust] root`: the initial root metadata.
    pub trust_root: PathBuf,
    /// `[pull] window_bytes`: how many bytes of chunks are asked for at a time.
    pub pull_window_bytes: u64,
    /// `[outbox]`.
    pub outbox: OutboxSettings,
    /// `[publish.<name>]`.
    pub publish: PublishSettings,
    /// `[report]`.
    pub report: ReportSettings,
    /// `[limits]`.
    pub limits: LimitSettings,
    /// `[workloads]`.
    pub workloads: WorkloadSettings,
    /// `[capsules]`: `max`, how many are kept, 16 by default and none with 0; `max_kib`, how large they may be together, 8192 by default.
    pub capsules: Room,
    /// `[log] level`.
    pub log_level: LogLevel,
    /// `[metrics]`: where they can be scraped; absent: nowhere.
    pub metrics: Option<MetricsSettings>,
    /// `[sensor.<name>]`.
    pub sensors: BTreeMap<String, SensorSettings>,
    /// `[sink.<name>]`.
    pub sinks: BTreeMap<String, SinkSettings>,
}

/// `[broker]`: where the broker is and how to speak with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Host name or address; the broker's certificate must be for it.
    pub host: String,
    /// Port, 8883 by default.
    pub port: u16,
    /// The authority that signs the broker's certificate, PEM.
    pub ca: PathBuf,
    /// This device's certificate chain, PEM.
    pub cert: PathBuf,
    /// This device's private key, PEM.
    pub key: PathBuf,
    /// `prefix` of all topics.
    pub topics: Topics,
    /// `keep_alive_s`: 1 to 30 s; a dead peer is noticed within two of them.
    pub keep_alive: Duration,
    /// `connect_timeout_s`: for name, TCP, TLS and CONNECT together.
    pub connect_timeout: Duration,
    /// `backoff_min_s`: the wait after the first failure.
    pub backoff_min: Duration,
    /// `backoff_max_s`: the longest wait between attempts.
    pub backoff_max: Duration,
    /// `reload_s`: how often the files of certificate, key and CA are looked at, 5 s by default.
    pub reload: Duration,
}

/// `[paths]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSettings {
    /// Where database and blobs lie.
    pub state: PathBuf,
    /// The program that runs a module. Default: `sanderling-worker` beside this program if it is there, else
    /// `/usr/libexec/sanderling/sanderling-worker`.
    pub worker: PathBuf,
    /// For sockets and what need not survive a restart.
    pub runtime: PathBuf,
}

/// `[outbox]`: how much waits for the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Room for the records of all data channels together, in bytes.
    pub max_bytes: u64,
    /// Room for the records of `event`, in bytes, apart from the others'.
    pub event_max_bytes: u64,
    /// `commit_ms`: how long a record may wait until it is on disk, if it is not acknowledged before.
    pub commit_interval: Duration,
    /// `drain_per_s` and `drain_kib_per_s`: how fast what waited on disk is sent when the link comes up.
    pub drain: DrainSettings,
}

/// `[report]`: how often the reported state is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// `min_s`: no more often than this.
    pub min_interval: Duration,
    /// `max_s`: at least this often.
    pub max_interval: Duration,
}

/// `[limits]` of the device, whatever a deployment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// The longest frame of any sensor, in bytes.
    pub max_frame_bytes: usize,
    /// What must stay free on the state directory's disk, in bytes.
    pub reserve_bytes: u64,
}

/// `[workloads]`: the worker processes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadSettings {
    /// `memory_mib`: what all workers together may use, in bytes here. Two deployments side by side must fit in it; else the old one is
    /// stopped before the new one is started. Absent: what the machine has available. Set it where a cgroup gives the agent less.
    pub memory_bytes: Option<u64>,
    /// `load_s`: a module and its models must be loaded within this time, 60 s by default.
    pub load: Duration,
    /// `confinement`: what of its confinement a worker must have to run a module.
    pub confinement: Confinement,
}

/// `[workloads] confinement`: with which measures missing a worker is not let run. What is missing is reported in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confinement {
    /// Any.
    All,
    /// One without which it would not be confined; landlock, a second wall that many kernels do not have, may be missing.
    #[default]
    Essential,
    /// None: for machines whose kernel cannot be changed and whose modules are trusted.
    Report,
}

impl Confinement {
    /// Whether a worker without this measure is let run.
    pub fn permits(self, missing: Measure) -> bool {
        match self {
            Self::All => false,
            Self::Essential => !missing.is_essential(),
            Self::Report => true,
        }
    }
}

/// `[log] level`: lines of this level and of more urgent ones.
pub use sanderling_protocol::command::LogLevel;

/// The worker program where no configuration names one.
pub fn default_worker() -> PathBuf {
    load::default_worker()
}

impl Settings {
    /// Reads `file` and the fragments beside it (`file` with `.d` appended), and checks them.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        load::load(file)
    }
}

#[cfg(test)]
mod tests;
