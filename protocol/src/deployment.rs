//! The deployment document: which modules a device runs, on which sensors and models, with which grants and limits.
//!
//! A deployment is a TUF target (`deployments/*`), so its bytes are signed; still it is checked field by field, since a
//! device must not run what it does not understand: unknown fields are refused, names are bounded, limits lie between a
//! floor and a ceiling. [`Deployment::parse`] is the only way in.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::release::Ceiling;

/// The only schema that this version understands.
pub const SCHEMA: &str = "sanderling.deployment/1";
/// A deployment document is at most this long, in bytes.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// A deployment has at most this many modules.
pub const MAX_MODULES: usize = 32;
/// A module has at most this many inputs, models or channels.
pub const MAX_BINDINGS: usize = 16;

/// Why a deployment document is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeploymentError {
    /// The document is too long to be looked at.
    #[error("the deployment is {length} bytes long; at most {MAX_DOCUMENT} are read")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not JSON of the expected form, an unknown field included.
    #[error("the deployment does not parse: {0}")]
    Form(String),
    /// Written for another version of Sanderling.
    #[error("the deployment has schema {found:?}; this agent understands {SCHEMA:?}")]
    Schema {
        /// The schema it names.
        found: String,
    },
    /// A name is empty, too long, or has a character outside `[A-Za-z0-9._-]`.
    #[error("{what} {name:?} is not a name: 1 to 64 characters of A-Z a-z 0-9 . _ - are")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name found.
        name: String,
    },
    /// Two things have one name.
    #[error("{what} {name:?} stands there twice")]
    Twice {
        /// What is named.
        what: &'static str,
        /// The name found twice.
        name: String,
    },
    /// A number is outside its range.
    #[error("module {module}: {field} is {value}; allowed is {min} to {max}")]
    Range {
        /// The module's name.
        module: String,
        /// The field, as in the document.
        field: &'static str,
        /// The value found.
        value: u64,
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// More entries than are allowed.
    #[error("{what}: {count} entries; at most {max} are allowed")]
    TooMany {
        /// The list.
        what: &'static str,
        /// Its length.
        count: usize,
        /// The most allowed.
        max: usize,
    },
    /// A channel is emitted to but not described, or described but not granted.
    #[error("module {module}: channel {channel:?} {problem}")]
    Channel {
        /// The module's name.
        module: String,
        /// The channel's name.
        channel: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// This version of the agent cannot do what is asked.
    #[error("module {module}: {what} is not supported by this agent; {cure}")]
    Unsupported {
        /// The module's name.
        module: String,
        /// What is asked for.
        what: String,
        /// What to do.
        cure: &'static str,
    },
    /// The deployment asks for more than the release allows.
    #[error(
        "module {module}: {what} exceeds the ceiling of its release; lower it, or release the module anew with a higher ceiling"
    )]
    AboveCeiling {
        /// The module's name.
        module: String,
        /// The grant or limit, with its value and ceiling.
        what: String,
    },
}

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
    /// The sensors whose frames the module is given.
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

/// A sensor bound to a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The sensor's name in the agent's configuration.
    pub sensor: String,
    /// What happens when frames come faster than the module takes them.
    #[serde(default)]
    pub policy: Policy,
    /// To what compressed images are decoded before the guest sees them.
    #[serde(default)]
    pub decode: Decode,
}

/// What happens when frames come faster than a module takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The module gets the newest frame; older ones that it did not get to are dropped.
    #[default]
    Latest,
    /// Up to this many frames wait; then the oldest is dropped.
    Queue(u32),
}

/// To what compressed images are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// The frame is handed over as it came.
    #[default]
    None,
    /// One byte a pixel.
    Gray8,
    /// Three bytes a pixel, red first.
    Rgb8,
}

/// How a module is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// One instance for all frames.
    #[default]
    Reactor,
}

/// A capability that a deployment gives to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Inference with the models bound in the deployment.
    Infer,
    /// Emitting records on this channel.
    Emit(String),
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
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 16, deadline_ms: 200, fuel_per_frame: 500_000_000, emit_per_s: 50, native_memory_mib: 64 }
    }
}

/// Where the records of a channel go, and how many wait while the link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Channel {
    /// Where they go.
    pub sink: Sink,
    /// What is kept when the channel is full.
    pub keep: Keep,
    /// The channel's room in the outbox, in bytes.
    pub max_bytes: u64,
    /// Records older than this are dropped, in seconds.
    pub max_age_s: u64,
}

impl Default for Channel {
    fn default() -> Self {
        Self { sink: Sink::Mqtt, keep: Keep::Newest, max_bytes: 4 << 20, max_age_s: 604_800 }
    }
}

/// Where records go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// `device/{id}/data/{module}/{channel}`, QoS 1, through the outbox.
    #[default]
    Mqtt,
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

impl Deployment {
    /// Parses and checks a document.
    ///
    /// # Errors
    /// The first thing found wrong, as a [`DeploymentError`] that names module, field and what is allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, DeploymentError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(DeploymentError::TooLong { length: bytes.len() });
        }
        let deployment: Self =
            serde_json::from_slice(bytes).map_err(|error| DeploymentError::Form(error.to_string()))?;
        deployment.check()?;
        Ok(deployment)
    }

    /// The target paths that the deployment refers to, modules and models, each once, sorted.
    pub fn artifacts(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = self
            .modules
            .iter()
            .flat_map(|module| std::iter::once(&module.module).chain(module.models.values()))
            .map(String::as_str)
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    fn check(&self) -> Result<(), DeploymentError> {
        if self.schema != SCHEMA {
            return Err(DeploymentError::Schema { found: self.schema.clone() });
        }
        name("the deployment's name", &self.name)?;
        at_most("modules", self.modules.len(), MAX_MODULES)?;
        once("module", self.modules.iter().map(|module| &module.name))?;
        self.modules.iter().try_for_each(Module::check)
    }
}

impl Module {
    /// Whether the guest may use inference.
    pub fn may_infer(&self) -> bool {
        self.grants.contains(&Grant::Infer)
    }

    /// Holds the module to the ceiling of the release that it runs.
    ///
    /// # Errors
    /// [`DeploymentError::AboveCeiling`] with the first grant or limit that the release does not allow.
    pub fn check_ceiling(&self, ceiling: &Ceiling) -> Result<(), DeploymentError> {
        let above = |what: String| Err(DeploymentError::AboveCeiling { module: self.name.clone(), what });
        for grant in &self.grants {
            let wanted = grant.to_string();
            if !ceiling
                .grants
                .iter()
                .any(|allowed| *allowed == wanted || (allowed == "emit:*" && wanted.starts_with("emit:")))
            {
                return above(format!("grant {wanted:?} (allowed: {})", ceiling.grants.join(", ")));
            }
        }
        if self.limits.memory_mib > ceiling.memory_mib {
            return above(format!("memory_mib {} (allowed: {})", self.limits.memory_mib, ceiling.memory_mib));
        }
        if self.limits.deadline_ms > ceiling.deadline_ms {
            return above(format!("deadline_ms {} (allowed: {})", self.limits.deadline_ms, ceiling.deadline_ms));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), DeploymentError> {
        name("module", &self.name)?;
        at_most("input", self.input.len(), MAX_BINDINGS)?;
        at_most("models", self.models.len(), MAX_BINDINGS)?;
        at_most("channels", self.channels.len(), MAX_BINDINGS)?;
        at_most("grants", self.grants.len(), 2 * MAX_BINDINGS)?;
        once("sensor", self.input.iter().map(|input| &input.sensor))?;
        self.input.iter().try_for_each(|input| name("sensor", &input.sensor))?;
        self.models.keys().try_for_each(|model| name("model", model))?;
        self.check_channels()?;
        self.check_ranges()
    }

    fn check_channels(&self) -> Result<(), DeploymentError> {
        let wrong = |channel: &str, problem| {
            Err(DeploymentError::Channel { module: self.name.clone(), channel: channel.to_owned(), problem })
        };
        for channel in self.channels.keys() {
            name("channel", channel)?;
            if !self.grants.contains(&Grant::Emit(channel.clone())) {
                return wrong(channel, "is described, but its grant `emit:…` is missing");
            }
        }
        for grant in &self.grants {
            if let Grant::Emit(channel) = grant {
                name("channel", channel)?;
                if !self.channels.contains_key(channel) {
                    return wrong(channel, "is granted, but `channels` does not say where its records go");
                }
            }
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), DeploymentError> {
        let limits = &self.limits;
        let queues = self.input.iter().filter_map(|input| match input.policy {
            Policy::Queue(frames) => Some(("queue", u64::from(frames), 1, 4096)),
            Policy::Latest => None,
        });
        let ranges = [
            ("memory_mib", u64::from(limits.memory_mib), 1, 1024),
            ("deadline_ms", u64::from(limits.deadline_ms), 1, 600_000),
            ("fuel_per_frame", limits.fuel_per_frame, 1_000, 1 << 50),
            ("emit_per_s", u64::from(limits.emit_per_s), 0, 1_000_000),
            ("native_memory_mib", u64::from(limits.native_memory_mib), 8, 4096),
            ("restart.max", u64::from(self.restart.max), 0, 1000),
            ("restart.within_s", u64::from(self.restart.within_s), 1, 86_400),
            ("probation.frames", u64::from(self.probation.frames), 0, 1_000_000),
            ("probation.seconds", u64::from(self.probation.seconds), 0, 86_400),
        ];
        let channels = self.channels.values().flat_map(|channel| {
            [("max_bytes", channel.max_bytes, 1024, 1 << 30), ("max_age_s", channel.max_age_s, 1, 31_536_000)]
        });
        for (field, value, min, max) in ranges.into_iter().chain(queues).chain(channels) {
            if !(min..=max).contains(&value) {
                return Err(DeploymentError::Range { module: self.name.clone(), field, value, min, max });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Infer => f.write_str("infer"),
            Self::Emit(channel) => write!(f, "emit:{channel}"),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "infer" => Ok(Self::Infer),
            Some(("emit", channel)) if !channel.is_empty() => Ok(Self::Emit(channel.to_owned())),
            _ => Err(format!("unknown grant {text:?}; known are `infer` and `emit:<channel>`")),
        }
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Whether `text` can be the name of a device, module, sensor, model or channel: `[A-Za-z0-9._-]{1,64}`.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn name(what: &'static str, text: &str) -> Result<(), DeploymentError> {
    if is_name(text) { Ok(()) } else { Err(DeploymentError::Name { what, name: text.chars().take(80).collect() }) }
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), DeploymentError> {
    if count <= max { Ok(()) } else { Err(DeploymentError::TooMany { what, count, max }) }
}

fn once<'a>(what: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), DeploymentError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(DeploymentError::Twice { what, name: name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> serde_json::Value {
        json!({ "schema": SCHEMA, "name": "line-a", "modules": [ {
            "name": "scratch", "module": "modules/surface-defect/1.2.0.wasm",
            "models": { "defect": "models/surface-defect/7.onnx" },
            "input": [ { "sensor": "cam0", "policy": "latest", "decode": "gray8" } ],
            "execution": "reactor",
            "config": { "threshold": 0.8 },
            "grants": [ "infer", "emit:defects" ],
            "limits": { "memory_mib": 16, "deadline_ms": 200 },
            "channels": { "defects": { "sink": "mqtt", "keep": "newest" } },
            "probation": { "frames": 20, "seconds": 30 } } ] })
    }

    fn parse(document: &serde_json::Value) -> Result<Deployment, DeploymentError> {
        Deployment::parse(&serde_json::to_vec(document).unwrap())
    }

    fn with(pointer: &str, value: serde_json::Value) -> serde_json::Value {
        let mut document = document();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value;
        document
    }

    #[test]
    fn reads_the_documented_example_and_writes_it_back() {
        let deployment = parse(&document()).unwrap();
        assert_eq!(deployment.artifacts(), ["models/surface-defect/7.onnx", "modules/surface-defect/1.2.0.wasm"]);
        let again = Deployment::parse(&serde_json::to_vec(&deployment).unwrap()).unwrap();
        assert_eq!(again, deployment);
    }

    #[test]
    fn refuses_unknown_fields_by_name() {
        let error = parse(&with("/modules/0/turbo", json!(true))).unwrap_err();
        assert!(error.to_string().contains("turbo"), "{error}");
    }

    #[test]
    fn refuses_another_schema() {
        assert!(matches!(
            parse(&with("/schema", json!("sanderling.deployment/2"))),
            Err(DeploymentError::Schema { .. })
        ));
    }

    #[test]
    fn refuses_names_that_would_change_a_topic() {
        for bad in ["", "a/b", "+", "#", "ä", &"x".repeat(65)] {
            assert!(matches!(parse(&with("/modules/0/name", json!(bad))), Err(DeploymentError::Name { .. })), "{bad}");
        }
    }

    #[test]
    fn refuses_limits_outside_their_range() {
        let error = parse(&with("/modules/0/limits/memory_mib", json!(0))).unwrap_err();
        assert!(matches!(error, DeploymentError::Range { field: "memory_mib", .. }), "{error}");
    }

    #[test]
    fn refuses_channels_without_grant_and_grants_without_channel() {
        assert!(matches!(parse(&with("/modules/0/grants", json!(["infer"]))), Err(DeploymentError::Channel { .. })));
        assert!(matches!(
            parse(&with("/modules/0/grants", json!(["emit:defects", "emit:other"]))),
            Err(DeploymentError::Channel { .. })
        ));
    }

    #[test]
    fn refuses_an_unknown_grant() {
        assert!(matches!(parse(&with("/modules/0/grants", json!(["root"]))), Err(DeploymentError::Form(_))));
    }

    #[test]
    fn refuses_two_modules_of_one_name() {
        let mut document = document();
        let module = document["modules"][0].clone();
        document["modules"].as_array_mut().unwrap().push(module);
        assert!(matches!(parse(&document), Err(DeploymentError::Twice { .. })));
    }

    #[test]
    fn refuses_what_is_longer_than_the_limit_without_parsing() {
        assert!(matches!(Deployment::parse(&vec![b' '; MAX_DOCUMENT + 1]), Err(DeploymentError::TooLong { .. })));
    }

    #[test]
    fn holds_a_module_to_the_ceiling_of_its_release() {
        let deployment = parse(&document()).unwrap();
        let module = &deployment.modules[0];
        let ceiling = |grants: &[&str], memory_mib, deadline_ms| Ceiling {
            grants: grants.iter().map(|g| (*g).to_owned()).collect(),
            memory_mib,
            deadline_ms,
        };
        assert_eq!(module.check_ceiling(&ceiling(&["infer", "emit:*"], 16, 200)), Ok(()));
        assert!(module.check_ceiling(&ceiling(&["infer"], 16, 200)).is_err());
        assert!(module.check_ceiling(&ceiling(&["infer", "emit:defects"], 15, 200)).is_err());
        assert!(module.check_ceiling(&ceiling(&["infer", "emit:defects"], 16, 199)).is_err());
    }
}
