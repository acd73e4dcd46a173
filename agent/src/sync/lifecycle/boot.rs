//! The start of the agent: what is stored runs, with or without a network.
//!
//! Signed metadata may have been stored and the power cut before what follows from it was: so it is looked at before anything
//! is started, and what it revoked is not started again. Where it is not complete, what is stored runs.

use std::sync::Arc;

use sanderling_protocol::reported::DeploymentState;

use super::{Env, Lifecycle};
use crate::sync::{
    plan::{DEPLOYMENTS, Desired, Plan, Slot},
    slots::{MOST_STARTS, Slots, Trial},
    turn::Turn,
};

impl Lifecycle {
    /// Starts what is stored. `desired` is what stored metadata says that should run, where it is complete.
    pub(in crate::sync) fn boot(&mut self, slots: Slots, desired: Option<Option<Desired>>, env: &mut Env<'_, '_>) {
        self.slots = slots;
        self.committed = self.slots.committed.take().and_then(|slot| restored(slot, env.turn));
        self.slots.committed = self.committed.as_ref().map(|plan| plan.slot.clone());
        let mut trial = None;
        if let Some(stored) = self.slots.trial.take() {
            trial = restored(stored.slot.clone(), env.turn).map(|plan| (plan, stored.starts));
            if trial.is_some() {
                self.slots.trial = Some(stored);
            } else {
                self.store(env.turn);
            }
        }
        match desired {
            Some(None) => return self.revoke(env),
            Some(Some(_)) => {
                if trial.as_ref().is_some_and(|(plan, _)| !Self::gone(plan, env.trusted).is_empty()) {
                    trial = None;
                    self.slots.trial = None;
                    self.store(env.turn);
                }
                self.withdraw(env);
            }
            None => {}
        }
        match trial {
            Some((plan, starts)) => self.boot_trial(plan, starts, env.turn),
            None => self.start_committed(env.turn),
        }
        if let Some(desired) = desired {
            self.decide(desired, env);
        }
    }

    fn boot_trial(&mut self, plan: Arc<Plan>, starts: u32, turn: &mut Turn<'_>) {
        let starts = starts.saturating_add(1);
        if starts >= MOST_STARTS {
            let why = format!("the agent was started {starts} times without its getting through probation");
            self.slots.trial = None;
            self.reject(&plan, DeploymentState::RolledBack, why, turn);
            return self.start_committed(turn);
        }
        self.slots.trial = Some(Trial { slot: plan.slot.clone(), starts });
        self.store(turn);
        self.start_active(plan, starts, turn);
    }
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
