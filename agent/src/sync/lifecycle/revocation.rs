//! Revocation: what signed metadata no longer has is stopped.
//!
//! A deployment that no longer includes the device stops with all its modules. A module is stopped when its own path, or that of
//! one of its models, is no longer released; the others of its deployment run on. A path that is released with other content is
//! an update and no revocation: the old content runs until the new one takes its place.
//!
//! Invariants: only complete metadata revokes. Metadata that is expired, missing or refused, and a broker that is out of sight, stop
//! nothing. What is stopped is stored first, so that it does not run after a restart without a network either.

use std::sync::Arc;

use sanderling_protocol::tuf::Trusted;

use super::{Env, Lifecycle};
use crate::sync::{Effect, plan::Plan, turn::Turn};

impl Lifecycle {
    /// No deployment is meant for this device any more.
    pub(super) fn revoke(&mut self, env: &mut Env<'_, '_>) {
        self.desired = None;
        self.verdict = None;
        self.progress = None;
        self.drop_next(env);
        self.document = None;
        self.committed = None;
        if self.slots.committed.is_some() || self.slots.trial.is_some() {
            self.slots.trial = None;
            self.slots.previous = self.slots.committed.take().or(self.slots.previous.take());
            self.store(env.turn);
        }
        self.stop_active(env.turn);
        self.collect(env.turn);
    }

    /// Stops the modules of what runs and is committed that are no longer released.
    pub(super) fn withdraw(&mut self, env: &mut Env<'_, '_>) {
        let on_trial = self.active.as_ref().filter(|active| active.starts > 0);
        if let Some(plan) = on_trial.map(|active| active.plan.clone()) {
            let gone = Self::gone(&plan, env.trusted);
            if !gone.is_empty() {
                tell(&plan, &gone, env.turn);
                self.leave_trial(env.turn);
            }
        }
        let Some(committed) = self.committed.clone() else { return };
        let gone = Self::gone(&committed, env.trusted);
        if gone.is_empty() {
            return;
        }
        tell(&committed, &gone, env.turn);
        let modules: Vec<String> = gone.into_iter().map(|(module, _)| module).collect();
        let left = Arc::new(committed.without(&modules));
        self.slots.committed = Some(left.slot.clone());
        self.committed = Some(left.clone());
        self.store(env.turn);
        if let Some(active) = self.active.as_mut().filter(|active| active.plan.identity == left.identity) {
            active.plan = left;
            active.running.retain(|module| !modules.contains(module));
            let generation = active.generation;
            env.turn.effect(Effect::Withdraw { generation, modules });
        }
    }

    /// Stops what is on probation without rejecting it: what is committed takes its place again.
    pub(super) fn leave_trial(&mut self, turn: &mut Turn<'_>) {
        self.slots.trial = None;
        self.store(turn);
        if self.committed.is_some() {
            self.start_committed(turn);
        } else {
            self.stop_active(turn);
        }
        self.collect(turn);
    }

    pub(super) fn stop_active(&mut self, turn: &mut Turn<'_>) {
        if let Some(old) = self.active.take() {
            turn.effect(Effect::Route { generation: None });
            turn.effect(Effect::Stop { generation: old.generation });
        }
    }

    /// The modules of a plan that are no longer released, each with the path that is not.
    pub(super) fn gone(plan: &Plan, trusted: &Trusted) -> Vec<(String, String)> {
        // What cannot be looked up is not known to be gone.
        let is_gone = |path: &&String| matches!(trusted.target(path), Ok(None));
        let modules = plan.deployment.modules.iter();
        let gone = modules.filter_map(|module| {
            let mut paths = std::iter::once(&module.module).chain(module.models.values());
            Some((module.name.clone(), paths.find(is_gone)?.clone()))
        });
        gone.collect()
    }
}

fn tell(plan: &Plan, gone: &[(String, String)], turn: &mut Turn<'_>) {
    for (module, path) in gone {
        let digest = plan.artifact(path).map(|artifact| artifact.sha256);
        let why =
            format!("it is no longer released, so module {module} is stopped; release it again, or deploy another");
        turn.refuse(path, digest, why);
    }
}
