//! What must hold, whatever happens.

use std::collections::BTreeSet;

use sanderling_protocol::{digest::Digest, topics::Published, tuf::Trusted};

use super::Device;
use crate::sync::{Effect, Event, Plan, Slot, Slots, Sync, tests::repository::Repository};

/// What is remembered to hold the next step against.
pub(super) struct Watch {
    root: Vec<u8>,
    /// The digests of all that was ever signed.
    pub(super) signed: BTreeSet<Digest>,
    versions: [u64; 3],
    stored: [u64; 3],
    /// Something ran since the start of the device.
    ran: bool,
}

impl Watch {
    pub(super) fn new(repository: &Repository, sync: &Sync) -> Self {
        let versions = versions(sync.trust.trusted());
        Self {
            root: repository.shipped_root(),
            signed: repository.signed.clone(),
            versions,
            stored: versions,
            ran: false,
        }
    }
}

fn versions(trusted: &Trusted) -> [u64; 3] {
    ["root", "timestamp", "snapshot"].map(|role| trusted.version(role).unwrap_or(0))
}

fn rise(what: &str, before: &mut [u64; 3], now: [u64; 3]) {
    assert!(before.iter().zip(now).all(|(before, now)| *before <= now), "{what} fell from {before:?} to {now:?}");
    *before = now;
}

/// Whether two records are of the same content. What is withdrawn of it does not count.
fn same(one: Option<&Slot>, other: Option<&Slot>) -> bool {
    one.map(|slot| (slot.digest, &slot.artifacts)) == other.map(|slot| (slot.digest, &slot.artifacts))
}

impl Device {
    /// Looks at an effect before it is carried out.
    pub(super) fn check_before(&mut self, effect: &Effect) {
        match effect {
            Effect::PersistTrust { files, .. } => {
                let files = files.iter().cloned().collect();
                let restored = Trusted::restore(&self.watch.root, &files).unwrap();
                assert_eq!(restored.refused, [], "nothing unsigned is stored");
                rise("a stored version", &mut self.watch.stored, versions(&restored.trusted));
            }
            Effect::PersistSlots(slots) => self.check_commit(slots),
            Effect::Stage { plan, .. } => self.check_plan(plan),
            Effect::Start { plan, .. } => {
                self.check_plan(plan);
                let slots = &self.disk.slots;
                let trial = slots.trial.as_ref().map(|trial| &trial.slot);
                let stored = same(slots.committed.as_ref(), Some(&plan.slot)) || same(trial, Some(&plan.slot));
                assert!(stored, "it is started before it is stored");
                let starts = slots.trial.as_ref().map_or(0, |trial| trial.starts);
                assert!(starts < 3, "the third start falls back");
            }
            Effect::Begin { digest, .. } => {
                assert!(!self.disk.blobs.contains_key(digest), "a blob that is held is pulled again");
            }
            Effect::Subscribe(topics) => {
                let missing = |wanted: &Digest| {
                    let mut parts = self.disk.parts.iter();
                    parts.any(|(blob, (index, _))| {
                        self.disk.missing(blob).iter().any(|at| index.chunks()[*at].digest == *wanted)
                    })
                };
                for what in topics {
                    // A part that is lost is noticed at the next write.
                    let lost = self.disk.parts.is_empty();
                    assert!(!matches!(what, Published::Chunk(chunk) if !lost && !missing(chunk)), "{what:?} is held");
                }
            }
            Effect::Collect { keep } => {
                let needed = self.disk.slots.blobs();
                let running = self.generations.values().flat_map(|one| one.plan.blobs().into_keys());
                for digest in needed.chain(running) {
                    assert!(keep.contains(&digest), "{digest} is needed and collected");
                }
            }
            _ => {}
        }
    }

    fn check_plan(&self, plan: &Plan) {
        let signed = |digest: &Digest| self.watch.signed.contains(digest);
        assert!(signed(&plan.slot.digest), "an unsigned deployment is started");
        assert!(plan.blobs().keys().all(signed), "an unsigned artifact is started");
        assert_eq!(self.disk.slots.rejected(&plan.identity), None, "what was rejected is started");
    }

    /// What is committed has passed its probation: seconds, frames, and no fault.
    fn check_commit(&self, slots: &Slots) {
        let before = &self.disk.slots;
        if slots.committed.is_none() || same(slots.committed.as_ref(), before.committed.as_ref()) {
            return;
        }
        let trial = before.trial.as_ref().map(|trial| &trial.slot);
        assert!(same(slots.committed.as_ref(), trial), "only what is on trial is committed");
        assert!(same(slots.previous.as_ref(), before.committed.as_ref().or(before.previous.as_ref())));
        let one = self.routed.and_then(|generation| self.generations.get(&generation)).expect("it runs");
        assert!(same(slots.committed.as_ref(), Some(&one.plan.slot)), "another one runs");
        assert!(!one.faulted, "it faulted");
        assert!(self.now.ms >= one.since + 10_000, "too early");
    }

    /// What must hold after every single step.
    pub(super) fn check(&mut self) {
        let trusted = self.sync.trust.trusted();
        rise("a version", &mut self.watch.versions, versions(trusted));
        let slots = &self.disk.slots;
        let damaged = |slot: &Slot| {
            let wrong =
                |digest: &Digest| self.disk.blobs.get(digest).is_none_or(|content| Digest::of(content) != *digest);
            slot.artifacts.iter().any(|artifact| wrong(&artifact.sha256))
        };
        self.check_window();
        self.watch.ran |= self.routed.is_some_and(|generation| self.generations.contains_key(&generation));
        if let Some(committed) = &slots.committed
            && self.watch.ran
        {
            let trial = slots.trial.as_ref().map(|trial| &trial.slot);
            let broken = damaged(committed) || trial.is_some_and(damaged) || self.sync.lifecycle.wants_repair();
            let starting = self.queue.iter().any(|effect| matches!(effect, Effect::Start { .. }));
            assert!(!self.generations.is_empty() || broken || starting, "neither of the versions runs");
        }
        if !self.queue.is_empty() {
            return;
        }
        self.check_settled();
    }

    /// What must hold when all that was decided is carried out.
    fn check_settled(&self) {
        let slots = &self.disk.slots;
        let active = self.sync.generation();
        assert_eq!(active, self.routed, "frames go to what is active");
        if let Some(generation) = active {
            let opened = self.generations.get(&generation);
            let damaged = !self.events.is_empty() || self.sync.lifecycle.wants_repair();
            assert!(opened.is_some() || damaged, "generation {generation} was never started");
        }
        assert!(slots.committed.is_none() || active.is_some(), "something is committed, and nothing is active");
        for one in self.generations.values() {
            let trial = slots.trial.as_ref().map(|trial| &trial.slot);
            let slot = Some(&one.plan.slot);
            assert!(same(slots.committed.as_ref(), slot) || same(trial, slot) || self.generations.len() > 1);
            for module in &one.plan.deployment.modules {
                let released = self.sync.trust.trusted().target(&module.module);
                assert_ne!(released, Ok(None), "{} runs and is not released", module.name);
            }
        }
        let metadata = self.report().metadata;
        assert_eq!([metadata.root, metadata.timestamp, metadata.snapshot], self.watch.versions);
    }

    /// What is under way and not on disk is bounded by the window.
    fn check_window(&self) {
        let came = self.events.iter().map(|event| match event {
            Event::Message(message) if matches!(message.what, Published::Chunk(_) | Published::Index(_)) => {
                message.payload.len()
            }
            _ => 0,
        });
        let written = self.queue.iter().map(|effect| match effect {
            Effect::Write { content, .. } => content.len(),
            _ => 0,
        });
        let bytes: usize = came.chain(written).sum();
        let window = usize::try_from(super::config().limits.window).unwrap();
        assert!(bytes <= window + 64 * 1024, "{bytes} bytes are under way");
    }
}
