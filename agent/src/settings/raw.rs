//! What a configuration file may say, before it is checked.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{Confinement, LogLevel, publish::RawPublish, sensor::RawSensor, sink::RawSink};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) device: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) broker: RawBroker,
    pub(super) paths: RawPaths,
    pub(super) trust: RawTrust,
    pub(super) publish: RawPublish,
    pub(super) pull: RawPull,
    pub(super) outbox: RawOutbox,
    pub(super) report: RawReport,
    pub(super) limits: RawLimits,
    pub(super) workloads: RawWorkloads,
    pub(super) capsules: RawCapsules,
    pub(super) log: RawLog,
    pub(super) metrics: Option<RawMetrics>,
    pub(super) sensor: BTreeMap<String, RawSensor>,
    pub(super) sink: BTreeMap<String, RawSink>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBroker {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) prefix: Option<String>,
    pub(super) keep_alive_s: Option<u64>,
    pub(super) connect_timeout_s: Option<u64>,
    pub(super) backoff_min_s: Option<f64>,
    pub(super) backoff_max_s: Option<f64>,
    pub(super) reload_s: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPaths {
    pub(super) state: Option<PathBuf>,
    pub(super) worker: Option<PathBuf>,
    pub(super) runtime: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTrust {
    pub(super) root: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPull {
    pub(super) window_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOutbox {
    pub(super) max_bytes: Option<u64>,
    pub(super) event_max_bytes: Option<u64>,
    pub(super) commit_ms: Option<u64>,
    pub(super) drain_per_s: Option<u32>,
    pub(super) drain_kib_per_s: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawReport {
    pub(super) min_s: Option<f64>,
    pub(super) max_s: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) max_frame_bytes: Option<usize>,
    pub(super) reserve_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWorkloads {
    pub(super) memory_mib: Option<u64>,
    pub(super) load_s: Option<u64>,
    pub(super) confinement: Option<Confinement>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCapsules {
    pub(super) max: Option<usize>,
    pub(super) max_kib: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) level: Option<LogLevel>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    pub(super) listen: Option<String>,
    pub(super) path: Option<PathBuf>,
}
