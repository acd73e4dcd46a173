//! What the agent remembers of deployments over a restart.
//!
//! Invariants: a deployment is in at most one of the slots `committed` and `trial`; what was rejected is bounded to
//! [`MOST_REJECTED`], the oldest forgotten first. Each change of a slot reaches disk as one transaction.

use sanderling_protocol::digest::Digest;
use serde::{Deserialize, Serialize};

use super::plan::Slot;

/// How many rejected deployments are remembered.
pub(super) const MOST_REJECTED: usize = 16;
/// How often a deployment may be started without being committed. One start less than this is followed by another; at
/// this one the device falls back.
pub(super) const MOST_STARTS: u32 = 3;

/// The slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slots {
    /// What runs, or is fallen back to.
    pub committed: Option<Slot>,
    /// What was committed before; its blobs are kept.
    pub previous: Option<Slot>,
    /// What was activated and is on probation.
    pub trial: Option<Trial>,
    /// What is not tried again, oldest first.
    pub rejected: Vec<Rejected>,
}

/// A deployment on probation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The deployment.
    pub slot: Slot,
    /// How often it was started, this time included.
    pub starts: u32,
}

/// A deployment that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The digest of its document and artifacts.
    pub identity: Digest,
    /// Whether it had run, and the one before it was taken back.
    pub rolled_back: bool,
    /// Why.
    pub why: String,
}

impl Slots {
    /// What is known of a deployment that was rejected.
    pub fn rejected(&self, identity: &Digest) -> Option<&Rejected> {
        self.rejected.iter().find(|rejected| rejected.identity == *identity)
    }

    /// Remembers a rejection.
    pub fn reject(&mut self, rejected: Rejected) {
        self.rejected.retain(|other| other.identity != rejected.identity);
        while self.rejected.len() >= MOST_REJECTED {
            self.rejected.remove(0);
        }
        self.rejected.push(rejected);
    }

    /// The deployment on probation has proved itself.
    pub fn commit(&mut self) -> bool {
        let Some(trial) = self.trial.take() else { return false };
        self.previous = self.committed.replace(trial.slot).or(self.previous.take());
        true
    }

    /// The blobs that are kept.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let trial = self.trial.iter().map(|trial| &trial.slot);
        let slots = self.committed.iter().chain(&self.previous).chain(trial);
        slots.flat_map(|slot| slot.artifacts.iter().map(|artifact| artifact.sha256))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str) -> Slot {
        let digest = Digest::of(name.as_bytes());
        Slot {
            name: name.into(),
            version: 1,
            digest,
            document: String::new(),
            artifacts: Vec::new(),
            withdrawn: Vec::new(),
        }
    }

    #[test]
    fn committing_keeps_the_one_before() {
        let mut slots = Slots { committed: Some(slot("a")), ..Slots::default() };
        assert!(!slots.commit());
        slots.trial = Some(Trial { slot: slot("b"), starts: 1 });
        assert!(slots.commit());
        assert_eq!((slots.committed, slots.previous, slots.trial), (Some(slot("b")), Some(slot("a")), None));
    }

    #[test]
    fn what_was_rejected_is_remembered_once_and_bounded() {
        let mut slots = Slots::default();
        for number in 0..40_u8 {
            let rejected = |why: &str| Rejected { identity: Digest::of(&[number]), rolled_back: true, why: why.into() };
            slots.reject(rejected("first"));
            slots.reject(rejected("second"));
        }
        assert_eq!(slots.rejected.len(), MOST_REJECTED);
        assert_eq!(slots.rejected(&Digest::of(&[39])).map(|rejected| rejected.why.as_str()), Some("second"));
        assert_eq!(slots.rejected(&Digest::of(&[3])), None);
    }
}
