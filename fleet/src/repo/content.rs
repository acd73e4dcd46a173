//! What was ever signed, what was published of it, and what the versions that devices may still be pulling refer to.
//!
//! All versions of metadata stay in `repo/metadata/`, so that what was ever published can be told without asking the broker, which
//! cannot list. Which snapshots were published is in `repo/published.json`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sanderling_protocol::{
    digest::Digest,
    topics::Published,
    tuf::{Snapshot, Targets, author},
};
use serde::{Deserialize, Serialize};

use super::{State, metadata_file};
use crate::home::{self, Home};

const LEDGER: &str = "repo/published.json";
/// So many published snapshots are remembered.
const REMEMBERED: usize = 1000;

/// Which snapshots were published, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ledger {
    published: Vec<u64>,
    /// One whose timestamp was about to be sent: it may have arrived or not.
    begun: Option<u64>,
}

impl Ledger {
    /// Reads it; an empty one where nothing was published from this folder.
    pub(crate) fn load(home: &Home) -> Result<Self> {
        let path = home.path(LEDGER);
        if !path.exists() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&home::read(&path)?).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Notes that the timestamp of this snapshot is about to be sent.
    pub(crate) fn begin(home: &Home, snapshot: u64) -> Result<()> {
        let mut ledger = Self::load(home)?;
        ledger.begun = Some(snapshot);
        ledger.save(home)
    }

    /// Notes that it is published.
    pub(crate) fn finish(home: &Home, snapshot: u64) -> Result<()> {
        let mut ledger = Self::load(home)?;
        ledger.begun = None;
        if ledger.published.last() != Some(&snapshot) {
            ledger.published.push(snapshot);
        }
        let surplus = ledger.published.len().saturating_sub(REMEMBERED);
        ledger.published.drain(..surplus);
        ledger.save(home)
    }

    fn save(&self, home: &Home) -> Result<()> {
        home::write(&home.path(LEDGER), &serde_json::to_vec(self)?)
    }
}

/// What metadata refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Referenced {
    /// Metadata but root and timestamp.
    pub(crate) metadata: BTreeSet<Published>,
    /// Blobs, with their lengths in bytes.
    pub(crate) blobs: BTreeMap<Digest, u64>,
}

/// All versions of metadata that are in the folder.
#[derive(Debug)]
pub(crate) struct History {
    snapshots: BTreeMap<u64, Snapshot>,
    targets: BTreeMap<(String, u64), Targets>,
    current: u64,
}

impl History {
    /// Reads `repo/metadata/`. What cannot be read is an error: it may say what is still referred to.
    pub(crate) fn load(home: &Home) -> Result<Self> {
        let state = State::load(home)?;
        let mut history =
            Self { snapshots: BTreeMap::new(), targets: BTreeMap::new(), current: state.version("snapshot") };
        for (role, last) in &state.signed {
            for version in 1..=last.version {
                let path = home.path(metadata_file(version, role));
                if matches!(role.as_str(), "root" | "timestamp") || !path.exists() {
                    continue;
                }
                let bytes = home::read(&path)?;
                let damaged = || format!("{} is damaged", path.display());
                if role == "snapshot" {
                    history.snapshots.insert(version, author::read(&bytes).with_context(damaged)?);
                } else {
                    history.targets.insert((role.clone(), version), author::read(&bytes).with_context(damaged)?);
                }
            }
        }
        Ok(history)
    }

    /// Whether this snapshot was signed here.
    pub(crate) fn has_snapshot(&self, version: u64) -> bool {
        self.snapshots.contains_key(&version)
    }

    /// The snapshots that devices may be pulling: the one that was signed last, the one that the broker names, what was published
    /// last and `keep` states before it. Snapshots that list the same are one state.
    pub(crate) fn kept(&self, ledger: &Ledger, at_broker: Option<u64>, keep: usize) -> BTreeSet<u64> {
        // A folder from before publishing was noted: all that was signed may have been published.
        let unknown = ledger.published.is_empty();
        let published: BTreeSet<u64> =
            if unknown { self.snapshots.keys().copied().collect() } else { ledger.published.iter().copied().collect() };
        let mut kept: BTreeSet<u64> = at_broker.into_iter().chain(ledger.begun).chain([self.current]).collect();
        let mut states: Vec<BTreeMap<&str, u64>> = Vec::new();
        for version in published.iter().rev().chain(&at_broker).copied().filter(|version| self.has_snapshot(*version)) {
            let state = self.listed(version);
            if !states.contains(&state) {
                if states.len() > keep {
                    break;
                }
                states.push(state);
            }
            kept.insert(version);
        }
        kept
    }

    fn listed(&self, snapshot: u64) -> BTreeMap<&str, u64> {
        let meta = self.snapshots.get(&snapshot).into_iter().flat_map(|snapshot| &snapshot.meta);
        meta.map(|(file, listed)| (file.strip_suffix(".json").unwrap_or(file), listed.version.get())).collect()
    }

    /// What these snapshots refer to.
    ///
    /// # Errors
    /// Where one of them, or metadata that it lists, is not in the folder.
    pub(crate) fn referenced(&self, snapshots: &BTreeSet<u64>) -> Result<Referenced> {
        let mut referenced = Referenced::default();
        for version in snapshots {
            let missing = |what: String| {
                format!(
                    "{what} is not in repo/metadata: nobody can tell what snapshot {version} refers to; bring the file back"
                )
            };
            self.snapshots.get(version).with_context(|| missing(format!("{version}.snapshot.json")))?;
            referenced.metadata.insert(metadata("snapshot", *version));
            for (role, at) in self.listed(*version) {
                let targets = self.targets.get(&(role.to_owned(), at));
                let targets = targets.with_context(|| missing(format!("{at}.{role}.json")))?;
                referenced.metadata.insert(metadata(role, at));
                referenced.blobs.extend(blobs(targets));
            }
        }
        Ok(referenced)
    }

    /// What anything that was ever signed refers to.
    pub(crate) fn ever(&self) -> Referenced {
        let mut ever = Referenced::default();
        ever.metadata.extend(self.snapshots.keys().map(|version| metadata("snapshot", *version)));
        for ((role, version), targets) in &self.targets {
            ever.metadata.insert(metadata(role, *version));
            ever.blobs.extend(blobs(targets));
        }
        ever
    }
}

fn metadata(role: &str, version: u64) -> Published {
    Published::Metadata { version, role: role.to_owned() }
}

fn blobs(targets: &Targets) -> impl Iterator<Item = (Digest, u64)> {
    targets.targets.values().filter_map(|file| Some((file.sha256()?, file.length)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU64;

    use sanderling_protocol::tuf::{MetaFile, author::Sealed};

    use super::*;

    /// Snapshots from 1 on; each lists releases in the version that is given for it.
    fn history(releases: &[u64]) -> History {
        let sealed = |version| Sealed { version: NonZeroU64::new(version).unwrap(), expires: 0 };
        let mut history =
            History { snapshots: BTreeMap::new(), targets: BTreeMap::new(), current: releases.len() as u64 };
        for (version, at) in (1..).zip(releases) {
            let content = format!("content {at}");
            let file = author::target(content.as_bytes(), None);
            let targets = author::targets(sealed(*at), BTreeMap::from([("models/m.onnx".to_owned(), file)]), None);
            history.targets.insert(("releases".to_owned(), *at), targets);
            let listed = MetaFile::of(NonZeroU64::new(*at).unwrap(), b"");
            let snapshot = author::snapshot(sealed(version), BTreeMap::from([("releases".to_owned(), listed)]));
            history.snapshots.insert(version, snapshot);
        }
        history
    }

    fn ledger(published: &[u64], begun: Option<u64>) -> Ledger {
        Ledger { published: published.to_vec(), begun }
    }

    #[test]
    fn keeps_the_current_state_and_so_many_before_it_of_those_that_were_published() {
        let history = history(&[1, 2, 3, 4, 5, 6]);
        let kept = |keep| history.kept(&ledger(&[1, 2, 5, 6], None), Some(6), keep);
        assert_eq!(kept(0), BTreeSet::from([6]));
        assert_eq!(kept(1), BTreeSet::from([5, 6]));
        assert_eq!(kept(2), BTreeSet::from([2, 5, 6]), "what was signed and never published is no state");
    }

    #[test]
    fn snapshots_that_list_the_same_are_one_state() {
        let history = history(&[1, 2, 2, 2]);
        assert_eq!(history.kept(&ledger(&[1, 2, 3, 4], None), Some(4), 0), BTreeSet::from([2, 3, 4]));
        assert_eq!(history.kept(&ledger(&[1, 2, 3, 4], None), Some(4), 1), BTreeSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn what_is_being_published_and_what_the_broker_names_is_kept_too() {
        let history = history(&[1, 2, 3, 4]);
        assert_eq!(history.kept(&ledger(&[1, 2], Some(3)), Some(2), 0), BTreeSet::from([2, 3, 4]));
        assert_eq!(history.kept(&ledger(&[1, 4], None), Some(2), 0), BTreeSet::from([2, 4]));
        assert_eq!(
            history.kept(&Ledger::default(), None, 1),
            BTreeSet::from([3, 4]),
            "nothing noted: all may be published"
        );
    }

    #[test]
    fn refers_to_metadata_and_blobs_and_says_what_is_missing() {
        let mut history = history(&[1, 2]);
        let referenced = history.referenced(&BTreeSet::from([2])).unwrap();
        assert_eq!(referenced.metadata, BTreeSet::from([metadata("snapshot", 2), metadata("releases", 2)]));
        assert_eq!(referenced.blobs.keys().collect::<Vec<_>>(), [&Digest::of(b"content 2")]);
        assert_eq!(history.ever().blobs.len(), 2);
        history.targets.remove(&("releases".to_owned(), 2));
        let error = history.referenced(&BTreeSet::from([2])).unwrap_err();
        assert!(error.to_string().contains("2.releases.json"), "{error}");
    }

    #[test]
    fn the_ledger_notes_the_begin_and_the_end_of_publishing() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        Ledger::begin(&home, 3).unwrap();
        assert_eq!(Ledger::load(&home).unwrap(), ledger(&[], Some(3)));
        Ledger::finish(&home, 3).unwrap();
        Ledger::finish(&home, 3).unwrap();
        Ledger::begin(&home, 4).unwrap();
        assert_eq!(Ledger::load(&home).unwrap(), ledger(&[3], Some(4)));
    }
}
