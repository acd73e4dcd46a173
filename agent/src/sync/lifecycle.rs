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

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sanderling_protocol::{
    digest::Digest,
    reported::{DeploymentReport, DeploymentState, EventKind, Progress},
    tuf::Trusted,
    worker::Fault,
};

use super::{
    BlobFault, Effect, SyncError,
    plan::{DEPLOYMENTS, Desired, Plan, check_length},
    probation::Probation,
    pull::Pull,
    slots::{MOST_STARTS, Rejected, Slots, Trial},
    turn::Turn,
};

/// What a decision about deployments may look at and touch.
pub(super) struct Env<'a, 't> {
    pub(super) turn: &'a mut Turn<'t>,
    pub(super) pull: &'a mut Pull,
    pub(super) trusted: &'a Trusted,
    pub(super) sensors: &'a BTreeSet<String>,
    pub(super) reserve_bytes: u64,
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
pub(super) struct Lifecycle {
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
    /// Starts what is stored, at the start of the agent.
    pub(super) fn boot(&mut self, slots: Slots, turn: &mut Turn<'_>) {
        self.slots = slots;
        self.committed = self.slots.committed.take().and_then(|slot| restored(slot, turn));
        self.slots.committed = self.committed.as_ref().map(|plan| plan.slot.clone());
        if let Some(trial) = self.slots.trial.take() {
            let starts = trial.starts;
            if let Some(plan) = restored(trial.slot, turn) {
                return self.boot_trial(plan, starts, turn);
            }
            self.store(turn);
        }
        self.start_committed(turn);
    }

    fn boot_trial(&mut self, plan: Arc<Plan>, starts: u32, turn: &mut Turn<'_>) {
        let starts = starts.saturating_add(1);
        if starts >= MOST_STARTS {
            let why = format!("the agent was started {starts} times without its getting through probation");
            self.reject(&plan, DeploymentState::RolledBack, why, turn);
            return self.start_committed(turn);
        }
        self.slots.trial = Some(Trial { slot: plan.slot.clone(), starts });
        self.store(turn);
        self.start_active(plan, starts, turn);
    }

    fn start_committed(&mut self, turn: &mut Turn<'_>) {
        if let Some(plan) = self.committed.clone() {
            self.start_active(plan, 0, turn);
        }
    }

    /// Starts a plan in place of what runs, which is broken or not there.
    fn start_active(&mut self, plan: Arc<Plan>, starts: u32, turn: &mut Turn<'_>) {
        let generation = self.new_generation();
        turn.effect(Effect::Start { generation, plan: plan.clone() });
        turn.effect(Effect::Route { generation: Some(generation) });
        if let Some(old) = self.active.take() {
            turn.effect(Effect::Stop { generation: old.generation });
        }
        let active = Active { plan, generation, running: BTreeSet::new(), starts, probation: None };
        self.active = Some(active);
        self.begin_probation(turn);
    }

    /// This is what the device should run, by metadata that was just refreshed.
    pub(super) fn decide(&mut self, desired: Option<Desired>, env: &mut Env<'_, '_>) {
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
    pub(super) fn admit(&mut self, needed: u64, free: u64, env: &mut Env<'_, '_>) {
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
    pub(super) fn pulled(&mut self, env: &mut Env<'_, '_>) {
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
    pub(super) fn read(
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

    /// A dry start went well.
    pub(super) fn staged(&mut self, generation: u64, env: &mut Env<'_, '_>) -> Result<(), SyncError> {
        match self.next.take() {
            Some(Next::Staging(plan, staged)) if staged == generation => {
                self.begin_start(plan, env.turn);
                Ok(())
            }
            other => {
                self.next = other;
                Err(SyncError::Generation { what: "staged", generation })
            }
        }
    }

    /// A dry start failed: the deployment is refused.
    pub(super) fn stage_failed(
        &mut self,
        generation: u64,
        module: &str,
        fault: &Fault,
        env: &mut Env<'_, '_>,
    ) -> Result<(), SyncError> {
        match self.next.take() {
            Some(Next::Staging(plan, staged)) if staged == generation => {
                self.reject(&plan, DeploymentState::Refused, format!("module {module}: {fault}"), env.turn);
                self.collect(env.turn);
                Ok(())
            }
            other => {
                self.next = other;
                Err(SyncError::Generation { what: "staged", generation })
            }
        }
    }

    /// Starts a plan beside what runs.
    fn begin_start(&mut self, plan: Arc<Plan>, turn: &mut Turn<'_>) {
        let generation = self.new_generation();
        if !self.is_committed(&plan) {
            self.slots.trial = Some(Trial { slot: plan.slot.clone(), starts: 1 });
            self.store(turn);
        }
        turn.effect(Effect::Start { generation, plan: plan.clone() });
        self.next = Some(Next::Starting { plan, generation, running: BTreeSet::new() });
        self.switch_if_running(turn);
    }

    /// The blobs of a generation turned out damaged when they were opened: they are pulled again.
    pub(super) fn damaged(&mut self, generation: u64, env: &mut Env<'_, '_>) -> Result<(), SyncError> {
        if let Some(active) = self.active.as_ref().filter(|active| active.generation == generation) {
            let plan = active.plan.clone();
            self.drop_next(env);
            self.fetch(plan, env);
            return Ok(());
        }
        match self.next.take() {
            Some(Next::Staging(plan, staged)) if staged == generation => self.fetch(plan, env),
            Some(Next::Starting { plan, generation: started, .. }) if started == generation => {
                env.turn.effect(Effect::Stop { generation });
                self.restore_trial(env.turn);
                self.fetch(plan, env);
            }
            other => {
                self.next = other;
                return Err(SyncError::Generation { what: "opened", generation });
            }
        }
        Ok(())
    }

    /// A module takes frames.
    pub(super) fn running(&mut self, generation: u64, module: &str, turn: &mut Turn<'_>) -> Result<(), SyncError> {
        if let Some(Next::Starting { generation: starting, running, .. }) = &mut self.next
            && *starting == generation
        {
            running.insert(module.to_owned());
            self.switch_if_running(turn);
            return Ok(());
        }
        match self.active.as_mut().filter(|active| active.generation == generation) {
            Some(active) => {
                active.running.insert(module.to_owned());
                self.begin_probation(turn);
                Ok(())
            }
            None => Err(SyncError::Generation { what: "running", generation }),
        }
    }

    fn switch_if_running(&mut self, turn: &mut Turn<'_>) {
        let (plan, generation, running) = match self.next.take() {
            Some(Next::Starting { plan, generation, running }) if all_run(&plan, &running) => {
                (plan, generation, running)
            }
            other => {
                self.next = other;
                return;
            }
        };
        turn.effect(Effect::Route { generation: Some(generation) });
        let committed = self.is_committed(&plan);
        if committed && self.slots.trial.take().is_some() {
            self.store(turn);
        }
        if let Some(old) = self.active.take() {
            turn.effect(Effect::Stop { generation: old.generation });
        }
        let starts = if committed { 0 } else { 1 };
        self.active = Some(Active { plan, generation, running, starts, probation: None });
        self.begin_probation(turn);
    }

    fn begin_probation(&mut self, turn: &mut Turn<'_>) {
        let Some(active) = &mut self.active else { return };
        if active.starts > 0 && active.probation.is_none() && all_run(&active.plan, &active.running) {
            active.probation = Some(Probation::begin(&active.plan.deployment, turn.now.ms));
        }
    }

    /// A module faulted.
    pub(super) fn faulted(
        &mut self,
        generation: u64,
        module: &str,
        fault: &Fault,
        turn: &mut Turn<'_>,
    ) -> Result<(), SyncError> {
        let why = || format!("module {module}: {fault}");
        match self.next.take() {
            Some(Next::Starting { plan, generation: starting, .. }) if starting == generation => {
                turn.effect(Effect::Stop { generation });
                self.restore_trial(turn);
                if self.is_committed(&plan) {
                    self.verdict = Some(Verdict { state: DeploymentState::Refused, why: why() });
                } else {
                    self.reject(&plan, DeploymentState::RolledBack, why(), turn);
                    self.collect(turn);
                }
                return Ok(());
            }
            other => self.next = other,
        }
        let Some(active) = self.active.as_ref().filter(|active| active.generation == generation) else {
            return Err(SyncError::Generation { what: "running", generation });
        };
        if active.starts > 0 {
            let plan = active.plan.clone();
            self.roll_back(&plan, why(), turn);
        }
        Ok(())
    }

    fn roll_back(&mut self, plan: &Plan, why: String, turn: &mut Turn<'_>) {
        if self.slots.trial.as_ref().is_some_and(|trial| trial.slot == plan.slot) {
            self.slots.trial = None;
        }
        self.reject(plan, DeploymentState::RolledBack, why, turn);
        if self.committed.is_some() {
            self.start_committed(turn);
        } else if let Some(old) = self.active.take() {
            turn.effect(Effect::Route { generation: None });
            turn.effect(Effect::Stop { generation: old.generation });
        }
        self.collect(turn);
    }

    /// Frames that the modules of a generation have handled.
    pub(super) fn counted(
        &mut self,
        generation: u64,
        frames: &[(String, u64)],
        turn: &mut Turn<'_>,
    ) -> Result<(), SyncError> {
        let Some(active) = self.active.as_mut().filter(|active| active.generation == generation) else {
            return Err(SyncError::Generation { what: "counted", generation });
        };
        let on_trial = self.slots.trial.as_ref().is_some_and(|trial| trial.slot == active.plan.slot);
        let passed = active.probation.as_ref().is_some_and(|probation| probation.is_passed(turn.now.ms, frames));
        if !(on_trial && passed) {
            return Ok(());
        }
        active.probation = None;
        active.starts = 0;
        self.committed = Some(active.plan.clone());
        let (deployment, digest) = (active.plan.slot.name.clone(), active.plan.slot.digest);
        self.slots.commit();
        self.store(turn);
        turn.effect(Effect::Tell(EventKind::Committed { deployment, digest }));
        self.collect(turn);
        Ok(())
    }

    pub(super) fn poll(&mut self, now_ms: u64, turn: &mut Turn<'_>) {
        let Some(active) = &mut self.active else { return };
        if active.probation.as_mut().is_some_and(|probation| probation.is_due(now_ms)) {
            turn.effect(Effect::Count { generation: active.generation });
        }
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        Some(self.active.as_ref()?.probation.as_ref()?.wake_at())
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

    /// The generation that frames go to.
    pub(super) fn generation(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.generation)
    }

    /// The deployment as it is reported.
    pub(super) fn report(&self, pull: &Pull) -> Option<DeploymentReport> {
        let (name, version, digest) = match (&self.desired, &self.active) {
            (Some(desired), _) => (&desired.name, desired.version, desired.digest),
            (None, Some(active)) => (&active.plan.slot.name, active.plan.slot.version, active.plan.slot.digest),
            (None, None) => return None,
        };
        let fetching = matches!(self.next, Some(Next::Fetching(_)));
        Some(DeploymentReport {
            name: name.clone(),
            version,
            digest,
            state: self.state(),
            progress: if fetching { Some(pull.progress()) } else { self.progress },
            why: self.verdict.as_ref().filter(|_| self.desired.is_some()).map(|verdict| verdict.why.clone()),
        })
    }

    fn state(&self) -> DeploymentState {
        match (&self.verdict, &self.next, &self.active) {
            (Some(verdict), ..) if self.desired.is_some() => verdict.state,
            (_, Some(Next::Document(_) | Next::Reading(_) | Next::Fetching(_)), _) => DeploymentState::Fetching,
            (_, Some(Next::Staging(..) | Next::Starting { .. }), _) => DeploymentState::Staging,
            (_, None, Some(active)) if active.starts > 0 => DeploymentState::Probation,
            (_, None, Some(_)) => DeploymentState::Active,
            (_, None, None) => DeploymentState::Fetching,
        }
    }
}

fn all_run(plan: &Plan, running: &BTreeSet<String>) -> bool {
    plan.deployment.modules.iter().all(|module| running.contains(&module.name))
}

fn restored(slot: super::plan::Slot, turn: &mut Turn<'_>) -> Option<Arc<Plan>> {
    let (what, digest) = (format!("{DEPLOYMENTS}{}", slot.name), slot.digest);
    match Plan::restore(slot) {
        Ok(plan) => Some(Arc::new(plan)),
        Err(cause) => {
            turn.refuse(what, Some(digest), cause);
            None
        }
    }
}
