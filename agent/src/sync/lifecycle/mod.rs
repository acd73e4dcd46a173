//! The life of a deployment on this device: fetched, staged, started beside the one that runs, switched to, on probation,
//! and committed or rolled back.
//!
//! ```text
//! desired -> document -> fetching -> staging -> starting -> (switch) probation -> committed
//!               |           |           |          |            |
//!               +- refused -+- refused -+          +------------+-> rolled back: the committed one runs on, or again
//! ```
//!
//! Invariants: what is committed runs, or is being started, unless something on probation runs in its place; a slot is
//! stored before what follows from it happens; nothing is started whose blobs were not hashed as a whole; what was
//! rejected is not tried again before its document or an artifact changes.
//!
//! A device that stops in probation starts the same deployment once more; at the third start without a commit it falls back.

mod generations;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, Progress},
    tuf::Trusted,
};

use super::{
    BlobFault, Effect, SyncError,
    plan::{DEPLOYMENTS, Desired, Plan, check_length},
    probation::Probation,
    pull::Pull,
    slots::{Rejected, Slots, Trial},
    turn::Turn,
};

/// What a decision about deployments may look at and touch.
pub(in crate::sync) struct Env<'a, 't> {
    pub(in crate::sync) turn: &'a mut Turn<'t>,
    pub(in crate::sync) pull: &'a mut Pull,
    pub(in crate::sync) trusted: &'a Trusted,
    pub(in crate::sync) sensors: &'a BTreeSet<String>,
    pub(in crate::sync) reserve_bytes: u64,
}

#[derive(Debug)]
struct Active {
    plan: Arc<Plan>,
    generation: u64,
    running: BTreeSet<String>,
    /// How often it was started on trial; 0 once it is committed.
    starts: u32,
    probation: Option<Probation>,
}

#[derive(Debug)]
enum Next {
    Document(Digest),
    Reading(Digest),
    Fetching(Arc<Plan>),
    Staging(Arc<Plan>, u64),
    Starting { plan: Arc<Plan>, generation: u64, running: BTreeSet<String> },
}

#[derive(Debug)]
struct Verdict {
    state: DeploymentState,
    why: String,
}

/// What runs, what is to run, and what lies between.
#[derive(Debug, Default)]
pub(in crate::sync) struct Lifecycle {
    slots: Slots,
    committed: Option<Arc<Plan>>,
    active: Option<Active>,
    desired: Option<Desired>,
    next: Option<Next>,
    verdict: Option<Verdict>,
    document: Option<(Digest, Vec<u8>)>,
    progress: Option<Progress>,
    generation: u64,
}

impl Lifecycle {
    /// This is what the device should run, by metadata that was just refreshed.
    pub(in crate::sync) fn decide(&mut self, desired: Option<Desired>, env: &mut Env<'_, '_>) {
        let Some(desired) = desired else { return self.revoke(env) };
        if self.desired.as_ref().is_none_or(|before| before.digest != desired.digest) {
            env.pull.reset_progress();
            self.progress = None;
        }
        self.desired = Some(desired);
        self.consider(env);
    }

    fn consider(&mut self, env: &mut Env<'_, '_>) {
        let Some(desired) = self.desired.clone().filter(|_| !self.is_repairing()) else { return };
        if let Err(cause) = check_length(&desired) {
            return self.refuse(&desired, cause.to_string(), env);
        }
        let Some(document) = self.document_of(&desired.digest) else {
            let awaited =
                matches!(self.next, Some(Next::Document(digest) | Next::Reading(digest)) if digest == desired.digest);
            if !awaited {
                self.fetch_document(&desired, env);
            }
            return;
        };
        match Plan::make(env.trusted, env.sensors, &desired, &document) {
            Ok(plan) => self.adopt(Arc::new(plan), env),
            Err(cause) => self.refuse(&desired, cause.to_string(), env),
        }
    }

    fn fetch_document(&mut self, desired: &Desired, env: &mut Env<'_, '_>) {
        self.drop_next(env);
        self.verdict = None;
        self.document = None;
        self.next = Some(Next::Document(desired.digest));
        env.pull.start(BTreeMap::from([(desired.digest, desired.length)]), env.turn);
    }

    /// The document, if it was fetched before.
    fn document_of(&self, digest: &Digest) -> Option<Vec<u8>> {
        if let Some((held, document)) = &self.document
            && held == digest
        {
            return Some(document.clone());
        }
        let trial = self.slots.trial.iter().map(|trial| &trial.slot);
        let mut slots = self.slots.committed.iter().chain(trial).chain(&self.slots.previous);
        slots.find(|slot| slot.digest == *digest).map(|slot| slot.document.clone().into_bytes())
    }

    fn adopt(&mut self, plan: Arc<Plan>, env: &mut Env<'_, '_>) {
        if let Some(rejected) = self.slots.rejected(&plan.identity) {
            let state = if rejected.rolled_back { DeploymentState::RolledBack } else { DeploymentState::Refused };
            self.verdict = Some(Verdict { state, why: rejected.why.clone() });
            return self.drop_next(env);
        }
        self.verdict = None;
        if self.next_plan().is_some_and(|next| next.identity == plan.identity) {
            return;
        }
        self.drop_next(env);
        if self.active.as_ref().is_some_and(|active| active.plan.identity == plan.identity) {
            return;
        }
        if self.is_committed(&plan) {
            return self.begin_start(plan, env.turn);
        }
        self.fetch(plan, env);
    }

    fn fetch(&mut self, plan: Arc<Plan>, env: &mut Env<'_, '_>) {
        let blobs = plan.blobs();
        self.next = Some(Next::Fetching(plan));
        self.collect(env.turn);
        env.pull.start(blobs, env.turn);
    }

    /// The store said what it holds: that much is still needed, and that much is free.
    pub(in crate::sync) fn admit(&mut self, needed: u64, free: u64, env: &mut Env<'_, '_>) {
        let kept = env.reserve_bytes;
        if !self.is_repairing()
            && matches!(self.next, Some(Next::Fetching(_)))
            && needed > 0
            && needed.saturating_add(kept) > free
        {
            let why = format!(
                "it needs {needed} bytes more, {free} are free and {kept} of these are kept in reserve; free space on the disk of the state directory"
            );
            if let Some(desired) = self.desired.clone() {
                self.refuse(&desired, why, env);
            }
        }
    }

    /// Goes on where the pull allows it.
    pub(in crate::sync) fn pulled(&mut self, env: &mut Env<'_, '_>) {
        if !env.pull.is_done() {
            return;
        }
        match self.next.take() {
            Some(Next::Document(digest)) => {
                env.pull.stop();
                env.turn.effect(Effect::ReadDocument { digest });
                self.next = Some(Next::Reading(digest));
            }
            Some(Next::Fetching(plan)) => {
                self.progress = Some(env.pull.progress());
                env.pull.stop();
                self.fetched(plan, env);
            }
            other => self.next = other,
        }
    }

    fn fetched(&mut self, plan: Arc<Plan>, env: &mut Env<'_, '_>) {
        let repaired = self.active.as_ref().filter(|active| active.plan.identity == plan.identity);
        if let Some(starts) = repaired.map(|active| active.starts) {
            self.start_active(plan, starts, env.turn);
            return self.consider(env);
        }
        let generation = self.new_generation();
        env.turn.effect(Effect::Stage { generation, plan: plan.clone() });
        self.next = Some(Next::Staging(plan, generation));
    }

    /// The store has read the document.
    pub(in crate::sync) fn read(
        &mut self,
        digest: Digest,
        content: Result<Vec<u8>, BlobFault>,
        env: &mut Env<'_, '_>,
    ) -> Result<(), SyncError> {
        let awaited = matches!(self.next, Some(Next::Reading(awaited)) if awaited == digest);
        let Some(desired) = self.desired.clone().filter(|_| awaited) else {
            return Err(SyncError::NotAsked { what: "a document that was read", digest });
        };
        self.next = None;
        match content {
            Ok(content) => {
                self.document = Some((digest, content));
                self.consider(env);
            }
            Err(fault) => self.refuse(&desired, fault.to_string(), env),
        }
        Ok(())
    }

    /// No deployment is meant for this device any more.
    fn revoke(&mut self, env: &mut Env<'_, '_>) {
        self.desired = None;
        self.verdict = None;
        self.progress = None;
        self.drop_next(env);
        self.document = None;
        if self.committed.is_none() && self.active.is_none() && self.slots.trial.is_none() {
            return;
        }
        self.committed = None;
        self.slots.trial = None;
        self.slots.previous = self.slots.committed.take().or(self.slots.previous.take());
        self.store(env.turn);
        if let Some(old) = self.active.take() {
            env.turn.effect(Effect::Route { generation: None });
            env.turn.effect(Effect::Stop { generation: old.generation });
        }
        self.collect(env.turn);
    }

    /// Gives up what is under way; what runs is not touched.
    fn drop_next(&mut self, env: &mut Env<'_, '_>) {
        match self.next.take() {
            Some(Next::Document(_) | Next::Reading(_) | Next::Fetching(_)) => env.pull.stop(),
            Some(Next::Staging(_, generation)) => env.turn.effect(Effect::Stop { generation }),
            Some(Next::Starting { generation, .. }) => {
                env.turn.effect(Effect::Stop { generation });
                self.restore_trial(env.turn);
            }
            None => {}
        }
    }

    /// What was started beside the active one is given up: the slot says again what runs.
    fn restore_trial(&mut self, turn: &mut Turn<'_>) {
        let running = self.active.as_ref().filter(|active| active.starts > 0);
        let trial = running.map(|active| Trial { slot: active.plan.slot.clone(), starts: active.starts });
        if self.slots.trial != trial {
            self.slots.trial = trial;
            self.store(turn);
        }
    }

    fn refuse(&mut self, desired: &Desired, why: String, env: &mut Env<'_, '_>) {
        self.drop_next(env);
        env.turn.refuse(format!("{DEPLOYMENTS}{}", desired.name), Some(desired.digest), &why);
        self.verdict = Some(Verdict { state: DeploymentState::Refused, why });
    }

    /// Remembers that a plan failed, and says so.
    fn reject(&mut self, plan: &Plan, state: DeploymentState, why: String, turn: &mut Turn<'_>) {
        let rolled_back = state == DeploymentState::RolledBack;
        self.slots.reject(Rejected { identity: plan.identity, rolled_back, why: why.clone() });
        self.store(turn);
        let (deployment, digest) = (plan.slot.name.clone(), plan.slot.digest);
        turn.refuse(format!("{DEPLOYMENTS}{deployment}"), Some(digest), &why);
        if rolled_back {
            turn.effect(Effect::Tell(EventKind::RolledBack { deployment, digest, why: why.clone() }));
        }
        if self.desired.as_ref().is_none_or(|desired| desired.digest == digest) {
            self.verdict = Some(Verdict { state, why });
        }
    }

    fn store(&self, turn: &mut Turn<'_>) {
        turn.effect(Effect::PersistSlots(Box::new(self.slots.clone())));
    }

    fn collect(&self, turn: &mut Turn<'_>) {
        let next = self.next_plan().into_iter().flat_map(|plan| plan.blobs().into_keys());
        let active = self.active.iter().flat_map(|active| active.plan.blobs().into_keys());
        let keep: BTreeSet<Digest> = self.slots.blobs().chain(next).chain(active).collect();
        turn.effect(Effect::Collect { keep });
    }

    fn next_plan(&self) -> Option<&Arc<Plan>> {
        match self.next.as_ref()? {
            Next::Document(_) | Next::Reading(_) => None,
            Next::Fetching(plan) | Next::Staging(plan, _) | Next::Starting { plan, .. } => Some(plan),
        }
    }

    fn is_committed(&self, plan: &Plan) -> bool {
        self.committed.as_ref().is_some_and(|committed| committed.identity == plan.identity)
    }

    /// Whether damaged blobs of what should run are pulled again. That comes before anything else.
    fn is_repairing(&self) -> bool {
        match (&self.next, &self.active) {
            (Some(Next::Fetching(plan)), Some(active)) => plan.identity == active.plan.identity,
            _ => false,
        }
    }

    fn new_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}
