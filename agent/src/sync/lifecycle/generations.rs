//! Generations: dry start, start beside the one that runs, switch, probation, commit, roll back.

use std::{collections::BTreeSet, sync::Arc};

use sanderling_protocol::{
    reported::{DeploymentState, EventKind, Handover},
    worker::Fault,
};

use super::{Active, Env, Lifecycle, Next, Verdict};
use crate::sync::{
    Effect, SyncError,
    plan::{DEPLOYMENTS, Plan},
    probation::Probation,
    slots::Trial,
    turn::Turn,
};

impl Lifecycle {
    pub(super) fn start_committed(&mut self, turn: &mut Turn<'_>) {
        if let Some(plan) = self.committed.clone() {
            self.start_active(plan, 0, turn);
        }
    }

    /// Starts a plan in place of what runs, which is broken or not there.
    pub(super) fn start_active(&mut self, plan: Arc<Plan>, starts: u32, turn: &mut Turn<'_>) {
        let generation = self.new_generation();
        self.replace(plan, generation, starts, turn);
    }

    /// Starts a plan and gives it the frames at once; what runs is stopped.
    fn replace(&mut self, plan: Arc<Plan>, generation: u64, starts: u32, turn: &mut Turn<'_>) {
        turn.effect(Effect::Start { generation, plan: plan.clone() });
        self.switch(
            Active {
                plan,
                generation,
                running: BTreeSet::new(),
                starts,
                probation: None,
                handover: None,
                damaged: false,
            },
            turn,
        );
    }

    /// Frames go to `new` from now on; what runs is stopped.
    fn switch(&mut self, new: Active, turn: &mut Turn<'_>) {
        turn.effect(Effect::Route { generation: Some(new.generation) });
        if let Some(old) = self.active.replace(new) {
            turn.effect(Effect::Stop { generation: old.generation });
        }
        self.begin_probation(turn);
    }

    /// A dry start went well.
    pub(in crate::sync) fn staged(
        &mut self,
        generation: u64,
        handover: Handover,
        env: &mut Env<'_, '_>,
    ) -> Result<(), SyncError> {
        match self.next.take() {
            Some(Next::Staging(plan, staged)) if staged == generation => {
                match handover {
                    Handover::MakeBeforeBreak => self.begin_start(plan, generation, env.turn),
                    Handover::BreakBeforeMake { .. } => self.start_in_place(plan, generation, handover, env.turn),
                }
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
                self.give_up(&plan, DeploymentState::Refused, format!("module {module}: {fault}"), env.turn);
                Ok(())
            }
            other => {
                self.next = other;
                Err(SyncError::Generation { what: "staged", generation })
            }
        }
    }

    /// Starts a plan beside what runs.
    fn begin_start(&mut self, plan: Arc<Plan>, generation: u64, turn: &mut Turn<'_>) {
        if !self.is_committed(&plan) {
            self.slots.trial = Some(Trial { slot: plan.slot.clone(), starts: 1 });
            self.store(turn);
        }
        turn.effect(Effect::Start { generation, plan: plan.clone() });
        self.next = Some(Next::Starting { plan, generation, running: BTreeSet::new() });
        self.switch_if_running(turn);
    }

    /// Starts a plan in the place of what runs, since there is no room for both.
    fn start_in_place(&mut self, plan: Arc<Plan>, generation: u64, handover: Handover, turn: &mut Turn<'_>) {
        let starts = self.store_switch(&plan, turn);
        let handover = self.active.is_some().then_some(handover);
        self.replace(plan, generation, starts, turn);
        self.handed_over(handover, turn);
    }

    /// Stores that this plan is to run; gives how often it was started on trial, 0 if it is committed.
    fn store_switch(&mut self, plan: &Arc<Plan>, turn: &mut Turn<'_>) -> u32 {
        let starts = u32::from(!self.is_committed(plan));
        let before = self.slots.clone();
        self.slots.trial = (starts > 0).then(|| Trial { slot: plan.slot.clone(), starts });
        if starts == 0 {
            // Modules that were withdrawn from it may be released again.
            self.slots.committed = Some(plan.slot.clone());
            self.committed = Some(plan.clone());
        }
        if self.slots != before {
            self.store(turn);
        }
        starts
    }

    /// Notes how what is active now took the place of another, and tells the fleet.
    fn handed_over(&mut self, handover: Option<Handover>, turn: &mut Turn<'_>) {
        let Some(active) = &mut self.active else { return };
        active.handover = handover.clone();
        if let Some(handover) = handover {
            let slot = &active.plan.slot;
            let (deployment, digest) = (slot.name.clone(), slot.digest);
            turn.effect(Effect::Tell(EventKind::Switched { deployment, digest, handover }));
        }
    }

    /// The blobs of a generation turned out damaged when they were opened: they are pulled again. What is committed takes the
    /// place of what is on probation meanwhile, since nothing else runs.
    pub(in crate::sync) fn damaged(&mut self, generation: u64, env: &mut Env<'_, '_>) -> Result<(), SyncError> {
        if let Some(active) = self.active.as_mut().filter(|active| active.generation == generation) {
            active.damaged = true;
            if active.starts > 0 && self.committed.is_some() {
                self.leave_trial(env.turn);
                self.consider(env);
            }
            return Ok(());
        }
        match self.next.take() {
            Some(Next::Staging(plan, staged)) if staged == generation => self.fetch_again(plan, env.turn),
            Some(Next::Starting { plan, generation: started, .. }) if started == generation => {
                env.turn.effect(Effect::Stop { generation });
                self.restore_trial(env.turn);
                self.fetch_again(plan, env.turn);
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
        if let Some(Next::Starting { plan, generation: starting, running }) = &mut self.next
            && *starting == generation
            && plan.has_module(module)
        {
            running.insert(module.to_owned());
            self.switch_if_running(turn);
            return Ok(());
        }
        match self.active.as_mut().filter(|active| active.generation == generation && active.plan.has_module(module)) {
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
        let handover = self.active.is_some().then_some(Handover::MakeBeforeBreak);
        let starts = self.store_switch(&plan, turn);
        self.switch(
            Active { plan, generation, running, starts, probation: None, handover: None, damaged: false },
            turn,
        );
        self.handed_over(handover, turn);
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
                self.give_up(&plan, DeploymentState::RolledBack, why(), turn);
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

    /// A plan failed before it got a frame; what runs goes on. What is committed has proved itself before and is not rejected.
    fn give_up(&mut self, plan: &Plan, state: DeploymentState, why: String, turn: &mut Turn<'_>) {
        if self.is_committed(plan) {
            self.look_again_later(format!("{DEPLOYMENTS}{}", plan.slot.name), why.clone(), turn);
            self.verdict = Some(Verdict { state: DeploymentState::Refused, why });
        } else {
            self.reject(plan, state, why, turn);
            self.collect(turn);
        }
    }

    fn roll_back(&mut self, plan: &Plan, why: String, turn: &mut Turn<'_>) {
        if self.slots.trial.as_ref().is_some_and(|trial| trial.slot == plan.slot) {
            self.slots.trial = None;
        }
        self.reject(plan, DeploymentState::RolledBack, why, turn);
        if self.committed.is_some() {
            self.start_committed(turn);
        } else {
            self.stop_active(turn);
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
        let Some(probation) = &active.probation else {
            return Err(SyncError::Generation { what: "counted", generation });
        };
        let on_trial = self.slots.trial.as_ref().is_some_and(|trial| trial.slot == active.plan.slot);
        if !(on_trial && probation.is_passed(turn.now.ms, frames)) {
            return Ok(());
        }
        active.probation = None;
        active.starts = 0;
        self.committed = Some(active.plan.clone());
        let (deployment, digest) = (active.plan.slot.name.clone(), active.plan.slot.digest);
        self.slots.commit();
        // Where another one is wanted by now, what is to be done again is for that one.
        if self.desired.as_ref().is_none_or(|desired| desired.digest == digest) {
            self.again.forget();
        }
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
        let probation = self.active.as_ref().and_then(|active| active.probation.as_ref());
        probation.map(Probation::wake_at).into_iter().chain(self.again_at()).min()
    }
}

fn all_run(plan: &Plan, running: &BTreeSet<String>) -> bool {
    plan.deployment.modules.iter().all(|module| running.contains(&module.name))
}
