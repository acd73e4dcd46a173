//! What signed targets metadata says of an artifact, in `custom.sanderling`, and which deployment a device runs.
//!
//! Invariants: unknown fields and values are refused, never passed over; the choice of a deployment depends on nothing but the
//! device's id and labels and on what is signed, so that every device and the operator's tool come to the same one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::deployment::Grant;
use crate::digest::Digest;
use crate::tuf::pattern::wildcard_matches;

/// The version of the contract between guest and host that is known.
pub const ABI: u32 = 1;
/// Into how many parts the fleet is divided for `percent`.
const BUCKETS: u64 = 10_000;

/// `custom.sanderling` of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Release {
    /// A WebAssembly module.
    Module(ModuleRelease),
    /// A model.
    Model(ModelRelease),
    /// A deployment document.
    Deployment(Rollout),
}

/// A module that may be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRelease {
    /// The version of the contract between guest and host that it is built for.
    pub abi: u32,
    /// The most that a deployment may give it.
    pub ceiling: Ceiling,
}

/// The most that a deployment may give a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// The grants, as a deployment writes them; `emit:*` stands for every channel, `state:<bytes>` for all quotas up to this one.
    pub grants: Vec<String>,
    /// Linear memory in MiB.
    pub memory_mib: u32,
    /// Wall-clock time for a frame in milliseconds.
    pub deadline_ms: u32,
}

impl Ceiling {
    /// Whether a deployment may give this: the same words, a channel where the ceiling says `emit:*`, or a quota of state
    /// that is no larger than the ceiling's.
    pub fn allows(&self, grant: &Grant) -> bool {
        let asked = grant.to_string();
        self.grants.iter().any(|allowed| {
            *allowed == asked
                || match grant {
                    Grant::Emit(_) => allowed == "emit:*",
                    Grant::State(bytes) => matches!(allowed.parse(), Ok(Grant::State(most)) if *bytes <= most),
                    _ => false,
                }
        })
    }
}

/// A model that may be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRelease {
    /// How it is encoded.
    pub format: ModelFormat,
}

/// How a model is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelFormat {
    /// ONNX.
    Onnx,
}

/// Which devices run a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Which devices are meant.
    #[serde(default)]
    pub audience: Audience,
    /// How many of them in a hundred, 0 to 100.
    pub percent: u8,
    /// Which of them come first: devices are drawn anew for each salt.
    pub salt: String,
    /// The highest wins.
    #[serde(default)]
    pub priority: i32,
}

/// Which devices are meant: those that one of the patterns and all of the labels fit. What is left out fits every device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// Patterns of device ids, with `*` and `?`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Labels that a device must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// How narrow an audience is; the narrower wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// Every device.
    All,
    /// Devices by label.
    Label,
    /// Devices by id, by label too or not.
    Device,
}

/// Why `custom` is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The target has no `custom.sanderling`.
    #[error("the target carries no custom.sanderling, so nothing says what it is")]
    Missing,
    /// A field is unknown, missing or of another type.
    #[error("custom.sanderling: {0}")]
    Malformed(String),
    /// The module needs a contract that this agent does not have.
    #[error("the module is built for ABI {0}, this agent has ABI {ABI}")]
    UnknownAbi(u32),
    /// The percentage is past 100.
    #[error("percent is {0}, it goes from 0 to 100")]
    Percent(u8),
}

impl Release {
    /// Reads a target's `custom`. Fields beside `sanderling` belong to others and are passed over.
    pub fn parse(custom: &Value) -> Result<Self, ReleaseError> {
        let ours = custom.get("sanderling").ok_or(ReleaseError::Missing)?;
        let release = Self::deserialize(ours).map_err(|cause| ReleaseError::Malformed(cause.to_string()))?;
        match &release {
            Self::Module(module) if module.abi != ABI => Err(ReleaseError::UnknownAbi(module.abi)),
            Self::Deployment(rollout) if rollout.percent > 100 => Err(ReleaseError::Percent(rollout.percent)),
            _ => Ok(release),
        }
    }

    /// A target's `custom` that says this.
    pub fn to_custom(&self) -> Result<Value, ReleaseError> {
        let ours = serde_json::to_value(self).map_err(|cause| ReleaseError::Malformed(cause.to_string()))?;
        Ok(serde_json::json!({ "sanderling": ours }))
    }
}

impl Audience {
    /// Whether a device is meant.
    pub fn includes(&self, device: &str, labels: &BTreeMap<String, String>) -> bool {
        let by_id = self.devices.is_empty() || self.devices.iter().any(|pattern| wildcard_matches(pattern, device));
        by_id && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    /// How narrow it is.
    pub fn specificity(&self) -> Specificity {
        match (self.devices.is_empty(), self.labels.is_empty()) {
            (false, _) => Specificity::Device,
            (true, false) => Specificity::Label,
            (true, true) => Specificity::All,
        }
    }
}

impl Rollout {
    /// Whether a device runs this deployment, if no other wins.
    pub fn includes(&self, device: &str, labels: &BTreeMap<String, String>) -> bool {
        self.audience.includes(device, labels) && bucket(&self.salt, device) < u64::from(self.percent) * (BUCKETS / 100)
    }
}

/// The part of the fleet that a device falls into: the first 8 bytes of SHA-256 over salt, `:` and device id, as a
/// big-endian number, modulo 10,000. A greater `percent` adds parts and takes none away.
fn bucket(salt: &str, device: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *Digest::of(format!("{salt}:{device}").as_bytes()).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) % BUCKETS
}

/// A deployment that a device may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its name: the target's path without `deployments/`.
    pub name: &'a str,
    /// Which devices run it.
    pub rollout: &'a Rollout,
}

/// The deployment that a device runs: of those that include it the one with the highest priority, then the one with the
/// narrowest audience, then the one whose name sorts first by its bytes.
pub fn winner<'a>(
    device: &str,
    labels: &BTreeMap<String, String>,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
) -> Option<Candidate<'a>> {
    let rank = |candidate: &Candidate<'a>| {
        let Candidate { name, rollout } = *candidate;
        (rollout.priority, rollout.audience.specificity(), std::cmp::Reverse(name))
    };
    candidates.into_iter().filter(|candidate| candidate.rollout.includes(device, labels)).max_by_key(rank)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(ours: Value) -> Result<Release, ReleaseError> {
        Release::parse(&json!({ "sanderling": ours, "other": 1 }))
    }

    fn rollout(audience: Value, percent: u8, priority: i32) -> Rollout {
        let audience = serde_json::from_value(audience).unwrap();
        Rollout { audience, percent, salt: "s".into(), priority }
    }

    fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn wins(
        device: &str,
        labels: &BTreeMap<String, String>,
        candidates: &[(&'static str, Rollout)],
    ) -> Option<&'static str> {
        let offered = |(name, rollout): &(&'static str, Rollout)| (*name, rollout.clone());
        let offered: Vec<_> = candidates.iter().map(offered).collect();
        let names = winner(device, labels, offered.iter().map(|(name, rollout)| Candidate { name, rollout }))?.name;
        candidates.iter().map(|(name, _)| *name).find(|name| *name == names)
    }

    #[test]
    fn reads_what_it_writes() {
        for ours in [
            json!({"kind": "module", "abi": 1, "ceiling": {"grants": ["infer", "emit:a"], "memory_mib": 16, "deadline_ms": 200}}),
            json!({"kind": "model", "format": "onnx"}),
            json!({"kind": "deployment", "audience": {"devices": ["gw-*"], "labels": {"line": "a"}}, "percent": 10, "salt": "x", "priority": -3}),
        ] {
            let release = parse(ours.clone()).unwrap();
            assert_eq!(release.to_custom().unwrap(), json!({ "sanderling": ours }));
        }
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        assert_eq!(Release::parse(&json!({})), Err(ReleaseError::Missing));
        assert_eq!(Release::parse(&json!("sanderling")), Err(ReleaseError::Missing));
        for ours in [
            json!({}),
            json!({"kind": "plugin"}),
            json!({"kind": "model", "format": "tflite"}),
            json!({"kind": "model", "format": "onnx", "extra": 1}),
            json!({"kind": "module", "abi": 1}),
            json!({"kind": "module", "abi": 1, "ceiling": {"grants": [], "memory_mib": 1, "deadline_ms": 1, "fuel": 1}}),
            json!({"kind": "module", "abi": 1, "ceiling": {"grants": [], "memory_mib": -1, "deadline_ms": 1}}),
            json!({"kind": "deployment", "percent": 256, "salt": ""}),
            json!({"kind": "deployment", "percent": 1, "salt": "", "audience": {"groups": []}}),
            json!({"kind": "deployment", "percent": 1}),
        ] {
            assert!(matches!(parse(ours.clone()), Err(ReleaseError::Malformed(_))), "{ours}");
        }
        let module = json!({"kind": "module", "abi": 2, "ceiling": {"grants": [], "memory_mib": 1, "deadline_ms": 1}});
        assert_eq!(parse(module), Err(ReleaseError::UnknownAbi(2)));
        assert_eq!(parse(json!({"kind": "deployment", "percent": 101, "salt": ""})), Err(ReleaseError::Percent(101)));
    }

    #[test]
    fn an_audience_is_patterns_and_labels_together() {
        let both = rollout(json!({"devices": ["gw-?", "x"], "labels": {"line": "a"}}), 100, 0).audience;
        assert!(both.includes("gw-1", &labels(&[("line", "a"), ("site", "b")])));
        assert!(!both.includes("gw-1", &labels(&[("line", "b")])));
        assert!(!both.includes("gw-10", &labels(&[("line", "a")])));
        assert!(Audience::default().includes("anything", &labels(&[])));
    }

    #[test]
    fn the_bucket_is_the_one_that_is_documented() {
        // int.from_bytes(hashlib.sha256(b"s:gw-1").digest()[:8], "big") % 10000
        assert_eq!(bucket("s", "gw-1"), 8573);
    }

    #[test]
    fn priority_then_specificity_then_name_decides() {
        let all = || rollout(json!({}), 100, 0);
        let label = || rollout(json!({"labels": {"line": "a"}}), 100, 0);
        let device = || rollout(json!({"devices": ["gw-1"]}), 100, 0);
        let urgent = || rollout(json!({}), 100, 1);
        let line = labels(&[("line", "a")]);
        assert_eq!(wins("gw-1", &line, &[("a", all()), ("b", urgent()), ("c", device())]), Some("b"));
        assert_eq!(wins("gw-1", &line, &[("a", all()), ("b", label()), ("c", device())]), Some("c"));
        assert_eq!(wins("gw-2", &line, &[("a", all()), ("b", label()), ("c", device())]), Some("b"));
        assert_eq!(wins("gw-2", &labels(&[]), &[("b", all()), ("a", all()), ("c", device())]), Some("a"));
        assert_eq!(wins("gw-2", &labels(&[]), &[("c", device())]), None);
        assert_eq!(wins("gw-1", &line, &[]), None);
    }

    #[test]
    fn none_run_at_nought_percent_and_all_at_a_hundred() {
        for at in 0..1000 {
            let device = format!("gw-{at}");
            assert!(!rollout(json!({}), 0, 9).includes(&device, &labels(&[])));
            assert!(rollout(json!({}), 100, 9).includes(&device, &labels(&[])));
        }
    }

    #[test]
    fn a_quarter_is_about_a_quarter() {
        let quarter = rollout(json!({}), 25, 0);
        let count = (0..4000).filter(|at| quarter.includes(&format!("gw-{at}"), &labels(&[]))).count();
        assert!((900..1100).contains(&count), "{count}");
    }

    proptest! {
        #[test]
        fn raising_percent_keeps_the_devices_that_are_in(device in "[a-z0-9]{1,12}", salt: String, low in 0..=100_u8, high in 0..=100_u8) {
            let at = |percent| Rollout { salt: salt.clone(), ..rollout(json!({}), percent, 0) };
            prop_assume!(low <= high);
            prop_assert!(!at(low).includes(&device, &labels(&[])) || at(high).includes(&device, &labels(&[])));
        }

        #[test]
        fn the_order_of_candidates_does_not_matter(priorities in proptest::collection::vec(-1..2_i32, 1..5)) {
            const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
            let mut candidates: Vec<_> = NAMES.into_iter().zip(&priorities).map(|(name, p)| (name, rollout(json!({}), 100, *p))).collect();
            let first = wins("gw", &labels(&[]), &candidates);
            candidates.reverse();
            prop_assert_eq!(wins("gw", &labels(&[]), &candidates), first);
        }
    }
}
