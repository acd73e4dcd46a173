//! The workers: they load, run and fault as their module behaves.

use std::sync::Arc;

use sanderling_protocol::{
    digest::Digest,
    worker::{Fault, FaultCode},
};

use super::Device;
use crate::sync::{Effect, Event, Plan};

/// How modules behave, by the digest of the wasm file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync::tests) enum Behaviour {
    FailsDryStart,
    FailsStart,
    /// Runs, and faults when its first frame comes.
    FaultsOnFrames,
}

/// What was started.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sync::tests) struct Generation {
    pub(in crate::sync::tests) plan: Arc<Plan>,
    /// When.
    pub(super) since: u64,
    /// Whether it faulted before it was committed.
    pub(super) faulted: bool,
}

impl Device {
    pub(super) fn work(&mut self, effect: Effect) {
        match effect {
            Effect::Stage { generation, plan } => {
                let event = if !self.open(&plan) {
                    Event::Damaged { generation }
                } else if let Some(module) = self.behaves(&plan, Behaviour::FailsDryStart) {
                    Event::StageFailed { generation, module, fault: fault() }
                } else {
                    Event::Staged { generation, handover: self.handover.clone() }
                };
                self.events.push_back(event);
            }
            Effect::Start { generation, plan } => {
                if !self.open(&plan) {
                    self.events.push_back(Event::Damaged { generation });
                    return;
                }
                let failing = self.behaves(&plan, Behaviour::FailsStart);
                let since = self.now.ms;
                self.generations.insert(generation, Generation { plan: plan.clone(), since, faulted: false });
                for module in plan.deployment.modules.iter().map(|module| module.name.clone()) {
                    self.events.push_back(if failing.as_ref() == Some(&module) {
                        Event::Faulted { generation, module, fault: fault() }
                    } else {
                        Event::Running { generation, module }
                    });
                }
            }
            Effect::Route { generation } => {
                self.routed = generation;
                let routed = generation.and_then(|generation| self.generations.get(&generation));
                let faulty = routed.and_then(|one| self.behaves(&one.plan, Behaviour::FaultsOnFrames));
                if let (Some(generation), Some(module)) = (generation, faulty.filter(|_| self.frames_come)) {
                    self.fault(generation, module);
                }
            }
            Effect::Withdraw { generation, modules } => {
                if let Some(one) = self.generations.get_mut(&generation) {
                    one.plan = Arc::new(one.plan.without(&modules));
                }
            }
            Effect::Stop { generation } => drop(self.generations.remove(&generation)),
            Effect::Count { generation } => {
                let Some(one) = self.generations.get(&generation) else { return };
                let frames = if self.frames_come { (self.now.ms - one.since) / 100 } else { 0 };
                let modules = one.plan.deployment.modules.iter();
                let frames = modules.map(|module| (module.name.clone(), frames)).collect();
                self.events.push_back(Event::Counted { generation, frames });
            }
            other => panic!("{other:?} is nobody's to carry out"),
        }
    }

    /// A module faults.
    pub(in crate::sync::tests) fn fault(&mut self, generation: u64, module: String) {
        if let Some(one) = self.generations.get_mut(&generation) {
            // What is committed already, and only waits for the disk, has passed its probation.
            let digest = Some(one.plan.slot.digest);
            let commits = |effect: &Effect| matches!(effect, Effect::PersistSlots(slots) if slots.committed.as_ref().map(|slot| slot.digest) == digest);
            one.faulted |= !self.queue.iter().any(commits);
        }
        self.events.push_back(Event::Faulted { generation, module, fault: fault() });
    }

    /// Whether the blobs of a plan are there and right. One that is not is removed.
    fn open(&mut self, plan: &Plan) -> bool {
        let rots = self.disk.rots;
        let blobs = &mut self.disk.blobs;
        blobs.retain(|digest, _| !(rots && plan.blobs().contains_key(digest)));
        blobs.retain(|digest, content| !plan.blobs().contains_key(digest) || Digest::of(content) == *digest);
        plan.blobs().keys().all(|digest| blobs.contains_key(digest))
    }

    /// The first module of a plan that behaves so.
    fn behaves(&self, plan: &Plan, behaviour: Behaviour) -> Option<String> {
        let behaves = |path: &str| {
            let artifact = plan.artifact(path)?;
            (self.behaviours.get(&artifact.sha256) == Some(&behaviour)).then_some(())
        };
        plan.deployment
            .modules
            .iter()
            .find(|module| behaves(&module.module).is_some())
            .map(|module| module.name.clone())
    }
}

pub(in crate::sync::tests) fn fault() -> Fault {
    Fault::new(FaultCode::Trap, "unreachable")
}
