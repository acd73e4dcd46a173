//! One input of a module: what waits for it, and how much may.

use std::collections::VecDeque;

use sanderling_protocol::deployment::Policy;

use super::sieve::{self, Sieve};
use crate::{frames::Frame, workload::spec};

/// One input of a module.
pub(super) struct Lane {
    pub(super) policy: Policy,
    pub(super) sieve: Sieve,
    pub(super) in_ring: usize,
    pub(super) most_in_ring: usize,
    pub(super) waiting: VecDeque<Frame>,
    pub(super) most_waiting: usize,
    pub(super) bytes: usize,
    pub(super) dropped: u32,
}

impl Lane {
    pub(super) fn new(policy: Policy) -> Self {
        let most_waiting = spec::waiting(policy).max(1);
        Self {
            policy,
            sieve: Sieve::new(policy),
            in_ring: 0,
            most_in_ring: spec::in_ring(policy),
            waiting: VecDeque::with_capacity(most_waiting),
            most_waiting,
            bytes: 0,
            dropped: 0,
        }
    }

    /// What cuts its frames, where something does; to be put back.
    pub(super) fn take_cutter(&mut self) -> Option<sieve::Cutter> {
        if !matches!(self.sieve, Sieve::Cut(_)) {
            return None;
        }
        match std::mem::replace(&mut self.sieve, Sieve::All) {
            Sieve::Cut(cutter) => Some(cutter),
            _ => None,
        }
    }

    /// How many frames may wait outside the ring: one is at work, or will be, and as many wait in all as the policy says.
    pub(super) fn room(&self) -> usize {
        (self.most_in_ring + self.most_waiting).saturating_sub(self.in_ring.max(1)).max(1)
    }

    pub(super) fn pop(&mut self) {
        if let Some(frame) = self.waiting.pop_front() {
            self.bytes = self.bytes.saturating_sub(frame.held());
        }
    }
}
