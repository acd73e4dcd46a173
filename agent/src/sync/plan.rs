//! What a deployment needs before it may be fetched: every artifact released, every grant below its ceiling, every sensor
//! there.
//!
//! A [`Plan`] is made of a signed document and of the signed metadata about what it names, and of nothing else. Once
//! made it stands on its own: its [`Slot`] is what survives a restart, and names each artifact by digest.

use std::collections::{BTreeMap, BTreeSet};

use sanderling_protocol::{
    blob::{MAX_CHUNK_LEN, MAX_CHUNKS},
    deployment::{Deployment, DeploymentError, MAX_DOCUMENT, MQTT, Module},
    digest::{Digest, Hasher},
    release::{Candidate, Release, ReleaseError, winner},
    tuf::{TrustError, Trusted},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Targets under this path are deployments.
pub(super) const DEPLOYMENTS: &str = "deployments/";
const MODULES: &str = "modules/";
const MODELS: &str = "models/";

/// Why a deployment is not run as it is.
#[derive(Debug, Error, PartialEq)]
pub enum PlanError {
    /// The document itself.
    #[error(transparent)]
    Document(#[from] DeploymentError),
    /// The document is not text.
    #[error("the deployment is not UTF-8 text; sign a JSON document")]
    NotText,
    /// An artifact is named by a path that is none of an artifact of its kind.
    #[error("{path:?} is not the path of a {kind}; name a target under {prefix}")]
    Path {
        /// The path in the document.
        path: String,
        /// `module` or `model`.
        kind: &'static str,
        /// Where targets of that kind are.
        prefix: &'static str,
    },
    /// No role releases what the document names.
    #[error("{path} is not released; add it to the repository and publish, or name another version")]
    NotReleased {
        /// The path in the document.
        path: String,
    },
    /// The metadata about the artifact cannot be looked up.
    #[error("{path}: {cause}")]
    Lookup {
        /// The path in the document.
        path: String,
        /// Why not.
        cause: TrustError,
    },
    /// What the release says of the artifact is not understood.
    #[error("{path}: {cause}; release it anew with a version of the tool that this agent understands")]
    Release {
        /// The path in the document.
        path: String,
        /// What is wrong.
        cause: ReleaseError,
    },
    /// The artifact is of another kind than the document uses it as.
    #[error("{path} is not released as a {kind}; name a {kind} there")]
    Kind {
        /// The path in the document.
        path: String,
        /// `module` or `model`.
        kind: &'static str,
    },
    /// The release lists no SHA-256 digest.
    #[error("{path} is released without a SHA-256 digest; release it anew")]
    NoDigest {
        /// The path in the document.
        path: String,
    },
    /// The artifact is longer than any index can list.
    #[error("{path} has {length} bytes; at most {max} can be pulled", max = longest())]
    TooLarge {
        /// The path in the document.
        path: String,
        /// Its signed length.
        length: u64,
    },
    /// The configuration has no sensor of that name.
    #[error(
        "module {module}: there is no sensor {sensor:?} in the configuration (there are: {known}); add it, or deploy for another sensor"
    )]
    Sensor {
        /// The module.
        module: String,
        /// The sensor that it wants.
        sensor: String,
        /// The sensors that are configured.
        known: String,
    },
    /// The configuration has no sink of that name.
    #[error(
        "module {module}, channel {channel}: there is no sink {sink:?} in the configuration (there are: {known}); add `[sink.{sink}]`, or deploy for another sink"
    )]
    Sink {
        /// The module.
        module: String,
        /// Its channel.
        channel: String,
        /// The sink that it names.
        sink: String,
        /// The sinks that there are.
        known: String,
    },
    /// The document and what it names cannot be kept in one record.
    #[error("the deployment takes {length} bytes to remember; at most {MAX_SLOT} are kept: shorten it, or split it")]
    TooLong {
        /// Its length as a record, in bytes.
        length: usize,
    },
    /// A record on disk contradicts itself.
    #[error("the stored deployment {name} is damaged")]
    Damaged {
        /// Its name.
        name: String,
    },
}

/// The longest slot, as a record in JSON, in bytes. A store keeps records of 256 KiB.
const MAX_SLOT: usize = 240 * 1024;

fn longest() -> u64 {
    MAX_CHUNKS as u64 * u64::from(MAX_CHUNK_LEN)
}

/// The deployment that metadata says this device runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its name: the target's path without `deployments/` and `.json`.
    pub name: String,
    /// The version of the metadata that lists it.
    pub version: u64,
    /// SHA-256 of the document.
    pub digest: Digest,
    /// Length of the document in bytes.
    pub length: u64,
}

/// A deployment target that was passed over, and why.
pub(super) type PassedOver = (String, String);

/// The deployment that a device runs by what is trusted, `None` if none includes it.
///
/// # Errors
/// `NotLoaded` before the first complete refresh.
pub(super) fn desired(
    trusted: &Trusted,
    device: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(Option<Desired>, Vec<PassedOver>), TrustError> {
    let mut passed_over = Vec::new();
    let mut offered = Vec::new();
    for target in trusted.targets_under(DEPLOYMENTS)? {
        let mut pass_over = |why: String| passed_over.push((target.path.to_owned(), why));
        let custom = target.file.custom.as_ref().ok_or(ReleaseError::Missing);
        let Some(digest) = target.file.sha256() else {
            pass_over("it is listed without a SHA-256 digest; sign it anew".into());
            continue;
        };
        match custom.and_then(Release::parse) {
            Ok(Release::Deployment(rollout)) => {
                let version = trusted.version(target.role).unwrap_or(0);
                let name = target.path.strip_prefix(DEPLOYMENTS).unwrap_or(target.path);
                let name = name.strip_suffix(".json").unwrap_or(name).to_owned();
                offered.push((Desired { name, version, digest, length: target.file.length }, rollout));
            }
            Ok(_) => pass_over("it is not signed as a deployment".into()),
            Err(cause) => pass_over(cause.to_string()),
        }
    }
    let candidates = offered.iter().map(|(desired, rollout)| Candidate { name: &desired.name, rollout });
    let name = winner(device, labels, candidates).map(|candidate| candidate.name.to_owned());
    let won = name.and_then(|name| offered.iter().find(|(desired, _)| desired.name == name));
    Ok((won.map(|(desired, _)| desired.clone()), passed_over))
}

/// A file that a deployment needs, by its signed digest and length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The target's path.
    pub path: String,
    /// SHA-256 of its content.
    pub sha256: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// A deployment as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// The version of the metadata that it came with.
    pub version: u64,
    /// SHA-256 of the document.
    pub digest: Digest,
    /// The document, byte for byte.
    pub document: String,
    /// What it needs, by path.
    pub artifacts: Vec<Artifact>,
    /// Modules of the document that do not run, since they are no longer released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<String>,
}

impl Slot {
    /// The digest of document and artifacts together: what tells one deployment from another.
    pub fn identity(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(self.digest.as_bytes());
        for artifact in &self.artifacts {
            hasher.update(Digest::of(artifact.path.as_bytes()).as_bytes());
            hasher.update(artifact.sha256.as_bytes());
        }
        hasher.finish()
    }

    /// The names of its modules, those that are withdrawn among them; `None` where the document cannot be read.
    pub fn module_names(&self) -> Option<Vec<String>> {
        let deployment = Deployment::parse(self.document.as_bytes()).ok()?;
        Some(deployment.modules.into_iter().map(|module| module.name).collect())
    }
}

/// A deployment that may be fetched and run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is kept of it.
    pub slot: Slot,
    /// The document, parsed, without the modules that are withdrawn.
    pub deployment: Deployment,
    /// The digest of document and artifacts together: what was refused or rolled back is remembered by it.
    pub identity: Digest,
}

impl Plan {
    /// Checks a document against what is trusted and what the device has.
    ///
    /// # Errors
    /// The first thing that keeps the device from running it, as a [`PlanError`] with cause and cure.
    pub fn make(
        trusted: &Trusted,
        sensors: &BTreeSet<String>,
        sinks: &BTreeSet<String>,
        desired: &Desired,
        document: &[u8],
    ) -> Result<Self, PlanError> {
        if Digest::of(document) != desired.digest {
            return Err(PlanError::Damaged { name: desired.name.clone() });
        }
        let deployment = Deployment::parse(document)?;
        let mut artifacts = BTreeMap::new();
        for module in &deployment.modules {
            for sensor in module.input.iter().filter_map(|input| input.source.sensor()) {
                if !sensors.contains(sensor) {
                    return Err(PlanError::Sensor {
                        module: module.name.clone(),
                        sensor: sensor.to_owned(),
                        known: sensors.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
                    });
                }
            }
            check_sinks(module, sinks)?;
            let (artifact, release) = released(trusted, &module.module, "module", MODULES)?;
            let Release::Module(released_module) = release else {
                return Err(PlanError::Kind { path: module.module.clone(), kind: "module" });
            };
            module.check_ceiling(&released_module.ceiling)?;
            artifacts.insert(artifact.path.clone(), artifact);
            for path in module.models.values() {
                let (artifact, release) = released(trusted, path, "model", MODELS)?;
                if !matches!(release, Release::Model(_)) {
                    return Err(PlanError::Kind { path: path.clone(), kind: "model" });
                }
                artifacts.insert(artifact.path.clone(), artifact);
            }
        }
        let document = String::from_utf8(document.to_vec()).map_err(|_| PlanError::NotText)?;
        let slot = Slot {
            name: desired.name.clone(),
            version: desired.version,
            digest: desired.digest,
            document,
            artifacts: artifacts.into_values().collect(),
            withdrawn: Vec::new(),
        };
        let length = serde_json::to_vec(&slot).map_or(usize::MAX, |record| record.len());
        if length > MAX_SLOT {
            return Err(PlanError::TooLong { length });
        }
        Ok(Self::whole(slot, deployment))
    }

    /// The plan of a slot that was stored.
    ///
    /// # Errors
    /// [`PlanError`] where the record is damaged, or written by an agent that understood more.
    pub fn restore(slot: Slot) -> Result<Self, PlanError> {
        if Digest::of(slot.document.as_bytes()) != slot.digest {
            return Err(PlanError::Damaged { name: slot.name });
        }
        let deployment = Deployment::parse(slot.document.as_bytes())?;
        let listed = |path: &str| slot.artifacts.iter().any(|artifact| artifact.path == path);
        if !deployment.artifacts().into_iter().all(listed) {
            return Err(PlanError::Damaged { name: slot.name });
        }
        Ok(Self::whole(slot, deployment))
    }

    /// The same without these modules.
    pub fn without(&self, modules: &[String]) -> Self {
        let mut plan = self.clone();
        plan.slot.withdrawn.extend_from_slice(modules);
        plan.deployment.modules.retain(|module| !modules.contains(&module.name));
        plan
    }

    /// Whether no module is withdrawn.
    pub fn is_whole(&self) -> bool {
        self.slot.withdrawn.is_empty()
    }

    /// Whether a module of this name is to run.
    pub fn has_module(&self, name: &str) -> bool {
        self.deployment.modules.iter().any(|module| module.name == name)
    }

    fn whole(slot: Slot, mut deployment: Deployment) -> Self {
        deployment.modules.retain(|module| !slot.withdrawn.contains(&module.name));
        Self { identity: slot.identity(), slot, deployment }
    }

    /// The artifact at a path.
    pub fn artifact(&self, path: &str) -> Option<&Artifact> {
        self.slot.artifacts.iter().find(|artifact| artifact.path == path)
    }

    /// The blobs that its modules need, each once, with its length in bytes.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        let needed = self.deployment.artifacts();
        let listed = needed.into_iter().filter_map(|path| self.artifact(path));
        listed.map(|artifact| (artifact.sha256, artifact.length)).collect()
    }
}

/// Whether the length of a document is one that would be read.
///
/// # Errors
/// [`DeploymentError::TooLong`], before a byte of it is fetched.
pub(super) fn check_length(desired: &Desired) -> Result<(), PlanError> {
    let length = usize::try_from(desired.length).unwrap_or(usize::MAX);
    if length > MAX_DOCUMENT { Err(DeploymentError::TooLong { length }.into()) } else { Ok(()) }
}

/// Whether each channel goes to sinks that there are; the broker is one in any case.
fn check_sinks(module: &Module, sinks: &BTreeSet<String>) -> Result<(), PlanError> {
    for (channel, policy) in &module.channels {
        if let Some(sink) = policy.sink.names().find(|sink| *sink != MQTT && !sinks.contains(*sink)) {
            return Err(PlanError::Sink {
                module: module.name.clone(),
                channel: channel.clone(),
                sink: sink.to_owned(),
                known: std::iter::once(MQTT).chain(sinks.iter().map(String::as_str)).collect::<Vec<_>>().join(", "),
            });
        }
    }
    Ok(())
}

fn released(
    trusted: &Trusted,
    path: &str,
    kind: &'static str,
    prefix: &'static str,
) -> Result<(Artifact, Release), PlanError> {
    // Paths decide which role may speak: under another prefix a deployer's key might release what it deploys.
    if !path.starts_with(prefix) {
        return Err(PlanError::Path { path: path.to_owned(), kind, prefix });
    }
    let lookup = |cause| PlanError::Lookup { path: path.to_owned(), cause };
    let found = trusted.target(path).map_err(lookup)?;
    let (file, _) = found.ok_or_else(|| PlanError::NotReleased { path: path.to_owned() })?;
    let misread = |cause| PlanError::Release { path: path.to_owned(), cause };
    let release = file.custom.as_ref().ok_or(ReleaseError::Missing).and_then(Release::parse).map_err(misread)?;
    let sha256 = file.sha256().ok_or_else(|| PlanError::NoDigest { path: path.to_owned() })?;
    if file.length > longest() {
        return Err(PlanError::TooLarge { path: path.to_owned(), length: file.length });
    }
    Ok((Artifact { path: path.to_owned(), sha256, length: file.length }, release))
}
