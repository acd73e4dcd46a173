//! The life of a deployment on this device: fetched, staged, started beside the one that runs, switched to, on probation,
//! and committed or rolled back.
//!
//! ```text
//! desired -> document -> fetching -> staging -> starting -> (switch) probation -> committed
//!               |         |    ^        |          |            |
//!               |       short -+        |          +------------+-> rolled back: the committed one runs on, or again
//!               +- refused -+-----------+
//! ```
//!
//! Invariants: what is committed runs, or is being started, unless something on probation runs in its place; a slot is
//! stored before what follows from it happens; nothing is started whose blobs were not hashed as a whole; what was
//! rejected is not tried again before its document or an artifact changes; what a slot or a running generation needs is never
//! collected.
//!
//! The switch makes the new one before it breaks the old one: it is started and ready before frames go to it and the old one stops.
//! Where there is no room for both, the old one is stopped first; which of the two it is, the answer to the dry start says.
//!
//! A device that stops in probation starts the same deployment once more; at the third start without a commit it falls back.
//!
//! Failure modes: a deployment that the disk has no room for waits for it (`admission`). Blobs that turn out damaged when
//! they are opened are pulled again beside whatever else is pulled, and the deployment is started again when they are there.

mod admission;
mod boot;
mod generations;
mod report;
mod revocation;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentState, EventKind, Handover, Progress},
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

use admission::Again;

/// What a decision about deployments may look at and touch.
pub(in crate::sync) struct Env<'a, 't> {
    pub(in crate::sync) turn: &'a mut Turn<'t>,
    pub(in crate::sync) pull: &'a mut Pull,
    pub(in crate::sync) trusted: &'a Trusted,
    pub(in crate::sync) sensors: &'a BTreeSet<String>,
    pub(in crate::sync) sinks: &'a BTreeSet<String>,
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
    /// How it took the place of another, where it did.
    handover: Option<Handover>,
    /// Its blobs turned out damaged: they are pulled again, and it is started then.
    damaged: bool,
}

#[derive(Debug)]
enum Next {
    /// The document is pulled.
    Document(Digest),
    /// The store reads the document.
    Reading(Digest),
    /// The blobs are pulled.
    Fetching(Arc<Plan>),
    /// There is no room for the blobs; it is looked again.
    Short(Arc<Plan>),
    /// A dry start is made under this number.
    Staging(Arc<Plan>, u64),
    /// It is started beside what runs.
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
    again: Again,
    /// What earlier runs left behind was collected.
    swept: bool,
}

impl Lifecycle {
    /// This is what the device should run, by metadata that was just refreshed.
    pub(in crate::sync) fn decide(&mut self, desired: Option<Desired>, env: &mut Env<'_, '_>) {
        self.withdraw(env);
        let Some(desired) = desired else { return self.revoke(env) };
        if self.desired.as_ref().is_none_or(|before| before.digest != desired.digest) {
            env.pull.reset_progress();
            self.progress = None;
            self.again.forget();
        }
        self.desired = Some(desired);
        self.consider(env);
    }

    fn consider(&mut self, env: &mut Env<'_, '_>) {
        let Some(desired) = self.desired.clone() else { return };
        if let Err(cause) = check_length(&desired) {
            return self.refuse(&desired, cause.to_string(), env);
        }
        let Some(document) = self.document_of(&desired.digest) else {
            let awaited =
                matches!(self.next, Some(Next::Document(digest) | Next::Reading(digest)) if digest == desired.digest);
            if !awaited {
                self.drop_next(env);
                self.verdict = None;
                self.document = None;
                self.next = Some(Next::Document(desired.digest));
            }
            return;
        };
        match Plan::make(env.trusted, env.sensors, env.sinks, &desired, &document) {
            Ok(plan) => self.adopt(Arc::new(plan), env),
            Err(cause) => self.refuse(&desired, cause.to_string(), env),
        }
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
        match &self.next {
            Some(Next::Short(short)) if short.identity == plan.identity => return self.fetch(plan, env.turn),
            _ if self.next_plan().is_some_and(|next| next.identity == plan.identity) => {
                self.verdict = None;
                return;
            }
            _ => {}
        }
        self.verdict = None;
        self.drop_next(env);
        let runs = |active: &Active| active.plan.identity == plan.identity && active.plan.is_whole();
        if self.active.as_ref().is_some_and(runs) {
            self.sweep(env);
        } else if self.is_committed(&plan) {
            self.stage(plan, env.turn);
        } else {
            self.fetch(plan, env.turn);
        }
    }

    fn fetch(&mut self, plan: Arc<Plan>, turn: &mut Turn<'_>) {
        self.next = Some(Next::Fetching(plan));
        // With no record of what was committed, what lies on the disk may be most of what is wanted: it is kept until there is a
        // commit, or no room.
        if self.swept || self.slots.committed.is_some() {
            self.collect(turn);
        }
    }

    /// Wants the blobs that are needed now, and no others.
    pub(in crate::sync) fn want(&self, env: &mut Env<'_, '_>) {
        let mut blobs = BTreeMap::new();
        match (&self.next, &self.desired) {
            (Some(Next::Document(digest)), Some(desired)) => drop(blobs.insert(*digest, desired.length)),
            (Some(Next::Fetching(plan)), _) => blobs = plan.blobs(),
            _ => {}
        }
        if let Some(active) = self.active.as_ref().filter(|active| active.damaged) {
            blobs.extend(active.plan.blobs());
        }
        env.pull.want(blobs, env.turn);
    }

    /// Goes on where the pull allows it; says whether it did.
    pub(in crate::sync) fn pulled(&mut self, env: &mut Env<'_, '_>) -> bool {
        let mended = self.active.as_ref().filter(|active| active.damaged);
        if let Some(active) = mended.filter(|active| env.pull.holds(active.plan.blobs().keys())) {
            let (plan, starts) = (active.plan.clone(), active.starts);
            self.start_active(plan, starts, env.turn);
            return true;
        }
        match self.next.take() {
            Some(Next::Document(digest)) if env.pull.holds([&digest]) => {
                env.turn.effect(Effect::ReadDocument { digest });
                self.next = Some(Next::Reading(digest));
                true
            }
            Some(Next::Fetching(plan)) if env.pull.holds(plan.blobs().keys()) => {
                self.progress = Some(env.pull.progress(&plan.blobs()));
                self.stage(plan, env.turn);
                true
            }
            other => {
                self.next = other;
                false
            }
        }
    }

    fn stage(&mut self, plan: Arc<Plan>, turn: &mut Turn<'_>) {
        let generation = self.new_generation();
        turn.effect(Effect::Stage { generation, plan: plan.clone() });
        self.next = Some(Next::Staging(plan, generation));
    }

    /// The store has read the document.
    pub(in crate::sync) fn read(
        &mut self,
        digest: Digest,
        content: Result<Vec<u8>, BlobFault>,
        env: &mut Env<'_, '_>,
    ) -> Result<(), SyncError> {
        if !matches!(self.next, Some(Next::Reading(awaited)) if awaited == digest) {
            return Err(SyncError::NotAsked { what: "a document that was read", digest });
        }
        self.next = None;
        match content {
            Ok(content) if Digest::of(&content) == digest => {
                self.document = Some((digest, content));
                self.consider(env);
            }
            Ok(_) => self.look_again_later(format!("blob/{digest}"), "its content changed on disk".into(), env.turn),
            Err(fault) => self.look_again_later(format!("blob/{digest}"), fault.to_string(), env.turn),
        }
        Ok(())
    }

    /// Gives up what is under way; what runs is not touched.
    fn drop_next(&mut self, env: &mut Env<'_, '_>) {
        self.again.forget();
        match self.next.take() {
            Some(Next::Staging(_, generation)) => env.turn.effect(Effect::Stop { generation }),
            Some(Next::Starting { generation, .. }) => {
                env.turn.effect(Effect::Stop { generation });
                self.restore_trial(env.turn);
            }
            Some(Next::Document(_) | Next::Reading(_) | Next::Fetching(_) | Next::Short(_)) | None => {}
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
        self.sweep(env);
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

    /// Has everything removed that nothing needs any more.
    fn collect(&mut self, turn: &mut Turn<'_>) {
        self.swept = true;
        turn.effect(Effect::Collect { keep: self.needed() });
    }

    /// Collects what earlier runs left behind, once it is known what is needed.
    fn sweep(&mut self, env: &mut Env<'_, '_>) {
        if !self.swept {
            self.collect(env.turn);
        }
    }

    /// The blobs of what is committed, was before, runs, and is under way, the document among them.
    fn needed(&self) -> BTreeSet<Digest> {
        let next = self.next_plan().into_iter().flat_map(|plan| plan.blobs().into_keys());
        let active = self.active.iter().flat_map(|active| active.plan.blobs().into_keys());
        let document = self.desired.iter().filter(|_| self.next.is_some()).map(|desired| desired.digest);
        self.slots.blobs().chain(next).chain(active).chain(document).collect()
    }

    fn next_plan(&self) -> Option<&Arc<Plan>> {
        match self.next.as_ref()? {
            Next::Document(_) | Next::Reading(_) => None,
            Next::Fetching(plan) | Next::Short(plan) | Next::Staging(plan, _) | Next::Starting { plan, .. } => {
                Some(plan)
            }
        }
    }

    fn is_committed(&self, plan: &Plan) -> bool {
        self.committed.as_ref().is_some_and(|committed| committed.identity == plan.identity)
    }

    fn new_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}
