//! Room on the disk for what is to be pulled, and what could not be done and is done again later.
//!
//! A deployment is pulled only where the disk holds it beside what is committed, with the reserve left free. Where it does not,
//! the blobs of the deployment before the committed one make room first; then the deployment waits, is reported as refused, and is
//! looked at again after growing waits until there is room.

use std::sync::Arc;

use sanderling_protocol::reported::DeploymentState;

use super::{Env, Lifecycle, Next, Verdict};
use crate::sync::{
    backoff::Backoff,
    plan::{DEPLOYMENTS, Plan},
    turn::Turn,
};

/// The waits before something is looked at again.
const WAITS: Backoff = Backoff { first_ms: 5_000, longest_ms: 120_000 };

/// What is to be done again.
#[derive(Debug, Default)]
pub(super) struct Again {
    failures: u32,
    at: Option<u64>,
}

impl Again {
    /// Nothing is to be done again, and what failed is over.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn later(&mut self, turn: &mut Turn<'_>) {
        self.failures = self.failures.saturating_add(1);
        self.at = Some(turn.now.ms.saturating_add(WAITS.wait_ms(self.failures, turn.chance)));
    }
}

impl Lifecycle {
    /// The store said what it holds: that much is still needed, and that much is free.
    pub(in crate::sync) fn admit(&mut self, needed: u64, free: u64, env: &mut Env<'_, '_>) {
        let Some(Next::Fetching(plan)) = &self.next else { return };
        let what = format!("{DEPLOYMENTS}{}", plan.slot.name);
        let kept = env.reserve_bytes;
        if needed == 0 || needed.saturating_add(kept) <= free {
            env.turn.refusals.came(&what);
            self.verdict = None;
            return;
        }
        let plan = plan.clone();
        if self.give_room(env.turn) {
            return env.pull.look_again(env.turn);
        }
        let why = format!(
            "it needs {needed} bytes more, {free} are free and {kept} of these are kept in reserve; free space on the disk of the state directory, and it is tried again"
        );
        self.next = Some(Next::Short(plan));
        self.verdict = Some(Verdict { state: DeploymentState::Refused, why: why.clone() });
        self.look_again_later(what, why, env.turn);
    }

    /// Lets go of what an earlier run left behind, or of the deployment before the committed one, if blobs get free by that.
    fn give_room(&mut self, turn: &mut Turn<'_>) -> bool {
        if !self.swept {
            self.collect(turn);
            return true;
        }
        let before = self.needed();
        let previous = self.slots.previous.take();
        if self.needed().len() == before.len() {
            self.slots.previous = previous;
            return false;
        }
        self.store(turn);
        self.collect(turn);
        true
    }

    /// Notes what is lacking; what is desired is looked at again after a while.
    pub(super) fn look_again_later(&mut self, what: String, why: String, turn: &mut Turn<'_>) {
        self.again.later(turn);
        turn.lacking(what, why, self.again.failures == 1);
    }

    /// Pulls again what turned out damaged: at once, and after a while where that was of no use.
    pub(super) fn fetch_again(&mut self, plan: Arc<Plan>, turn: &mut Turn<'_>) {
        if self.again.failures == 0 {
            self.again.failures = 1;
            self.fetch(plan, turn);
        } else {
            self.again.later(turn);
        }
    }

    /// What is to be done again, and is due.
    pub(in crate::sync) fn again(&mut self, env: &mut Env<'_, '_>) -> bool {
        let now_ms = env.turn.now.ms;
        let due = self.again.at.take_if(|at| *at <= now_ms).is_some();
        if due {
            match self.next.take() {
                Some(Next::Short(plan)) => self.fetch(plan, env.turn),
                other => {
                    self.next = other;
                    self.consider(env);
                }
            }
        }
        due
    }

    pub(super) fn again_at(&self) -> Option<u64> {
        self.again.at
    }
}
