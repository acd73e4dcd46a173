//! Generations: dry start, start beside the one that runs, switch, probation, commit, roll back.

use std::{collections::BTreeSet, sync::Arc};

use sanderling_protocol::{
    reported::{DeploymentState, EventKind},
    worker::Fault,
};

use super::{Active, Env, Lifecycle, Next, Verdict};
use crate::sync::{
    Effect, SyncError,
    plan::{DEPLOYMENTS, Plan, Slot},
    probation::Probation,
    slots::{MOST_STARTS, Slots, Trial},
    turn::Turn,
};

impl Lifecycle {
    /// Starts what is stored, at the start of the agent.
    pub(in crate::sync) fn boot(&mut self, slots: Slots, turn: &mut Turn<'_>) {
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
    pub(super) fn start_active(&mut self, plan: Arc<Plan>, starts: u32, turn: &mut Turn<'_>) {
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

    /// A dry start went well.
    pub(in crate::sync) fn staged(&mut self, generation: u64, env: &mut Env<'_, '_>) -> Result<(), SyncError> {
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
    pub(in crate::sync) fn stage_failed(
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
    pub(super) fn begin_start(&mut self, plan: Arc<Plan>, turn: &mut Turn<'_>) {
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
    pub(in crate::sync) fn damaged(&mut self, generation: u64, env: &mut Env<'_, '_>) -> Result<(), SyncError> {
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
    pub(in crate::sync) fn running(
        &mut self,
        generation: u64,
        module: &str,
        turn: &mut Turn<'_>,
    ) -> Result<(), SyncError> {
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
    pub(in crate::sync) fn faulted(
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
    pub(in crate::sync) fn counted(
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

    pub(in crate::sync) fn poll(&mut self, now_ms: u64, turn: &mut Turn<'_>) {
        let Some(active) = &mut self.active else { return };
        if active.probation.as_mut().is_some_and(|probation| probation.is_due(now_ms)) {
            turn.effect(Effect::Count { generation: active.generation });
        }
    }

    pub(in crate::sync) fn wake_at(&self) -> Option<u64> {
        Some(self.active.as_ref()?.probation.as_ref()?.wake_at())
    }
}

fn all_run(plan: &Plan, running: &BTreeSet<String>) -> bool {
    plan.deployment.modules.iter().all(|module| running.contains(&module.name))
}

fn restored(slot: Slot, turn: &mut Turn<'_>) -> Option<Arc<Plan>> {
    let (what, digest) = (format!("{DEPLOYMENTS}{}", slot.name), slot.digest);
    match Plan::restore(slot) {
        Ok(plan) => Some(Arc::new(plan)),
        Err(cause) => {
            turn.refuse(what, Some(digest), cause);
            None
        }
    }
}
