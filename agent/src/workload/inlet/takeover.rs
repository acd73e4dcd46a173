//! From one generation of a module to the next: what waits at its entrance goes to the next one's, before any newer frame. What the
//! worker has been handed it answers itself; what it does not answer any more is counted where the frames go now.
//!
//! Invariants: each frame is at one entrance at a time; those that move stay in order, and the policy of the new entrance holds for
//! them. Whatever is lost on the way is in the new entrance's counts, and in the header of the frame after it.

use std::rc::Rc;

use sanderling_protocol::deployment::Policy;

use super::{Inlet, sieve::Sieve};
use crate::frames::Frame;

impl Inlet {
    /// Lets another generation of the module take over: what waits here goes to `heir`, and nothing is taken here any more. What the
    /// worker was handed stays with it.
    pub fn hand_over(&self, heir: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        for (source, lane) in self.sources.iter().zip(&mut state.lanes) {
            lane.bytes = 0;
            let sieve = std::mem::replace(&mut lane.sieve, Sieve::All);
            heir.inherit(source, lane.waiting.drain(..), std::mem::take(&mut lane.dropped), (lane.policy, sieve));
        }
        state.heir = Some(heir.clone());
        drop(state);
        heir.pump();
    }

    /// Takes what waited at the entrance before; `dropped` frames are missing before the first of them. Where the policy is the same, a
    /// window that was begun goes on, and so does the count of what is left out.
    fn inherit(&self, source: &str, frames: impl Iterator<Item = Frame>, dropped: u32, sieve: (Policy, Sieve)) {
        let mut state = self.state.borrow_mut();
        let Some(lane) = self.sources.iter().position(|own| own == source).filter(|_| !state.closed) else { return };
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.dropped = lane.dropped.saturating_add(dropped);
            if sieve.0 == lane.policy {
                lane.sieve = sieve.1;
            }
        }
        for frame in frames {
            state.wait(lane, frame);
        }
    }

    /// A frame of this source was lost at the entrance before.
    pub(super) fn lost(&self, source: Option<&String>) {
        let lane = self.sources.iter().position(|own| Some(own) == source);
        self.state.borrow_mut().lost(lane.unwrap_or(usize::MAX));
    }
}
