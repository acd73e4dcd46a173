//! What a module with state says during one call into its guest: records and changes, which are kept together.
//!
//! Invariants: changes are kept when the worker says that the call ended well, and never otherwise. Records are handed over in any
//! case: together with the changes, or alone. Records of modules without state are handed over as they come.
//!
//! Limits: [`MOST_HELD`] bytes of records wait for the end of their call; beyond that the earlier ones are handed over
//! alone. The changes of one call are bounded by what a state may hold.

use std::rc::Rc;

use bytes::Bytes;
use sanderling_protocol::worker::{MAX_STATE, MAX_STATE_KEYS, StateChanges, ToWorker};

use super::{Emitted, StateOf, instance::Instance, worker::Worker};

/// Bytes of records that wait for the end of their call.
const MOST_HELD: usize = 512 * 1024;

/// Holds together what belongs together.
pub(super) struct Keeping {
    instance: Rc<Instance>,
    quota: Option<u64>,
    records: Vec<Emitted>,
    /// Bytes of the records.
    held: usize,
    changes: StateChanges,
    /// Bytes of the changes.
    changed: u64,
}

impl Keeping {
    /// Nothing was said yet.
    pub(super) fn new(instance: &Rc<Instance>) -> Self {
        Self {
            instance: instance.clone(),
            quota: instance.spec.module.state_quota(),
            records: Vec::new(),
            held: 0,
            changes: StateChanges::new(),
            changed: 0,
        }
    }

    /// Tells the worker what its module kept last.
    pub(super) fn restore(&self, worker: &Worker) {
        if self.quota.is_none() {
            return;
        }
        let state = self.instance.ports.states.borrow().state(self.instance.generation, self.instance.name());
        for (key, value) in state.iter() {
            worker.say(&ToWorker::State { key: key.to_vec(), value: value.to_vec() });
        }
    }

    /// A record was emitted, on a channel that is granted.
    pub(super) fn record(&mut self, channel: &str, seq: u64, captured_ns: Option<u64>, payload: &[u8]) {
        if self.quota.is_none() {
            let mut to = self.instance.ports.records.borrow_mut();
            to.record(self.instance.name(), channel, seq, captured_ns, payload);
            return;
        }
        if self.held.saturating_add(payload.len()) > MOST_HELD {
            self.hand_over();
        }
        self.held += payload.len();
        let (channel, payload) = (channel.to_owned(), Bytes::copy_from_slice(payload));
        self.records.push(Emitted { channel, seq, captured_ns, payload });
    }

    /// The call changes a value; `None` deletes it.
    ///
    /// # Errors
    /// What is wrong, where no worker that does its duty would say so.
    pub(super) fn change(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        if self.quota.is_none() {
            return Err("a change of its state, which is not granted".into());
        }
        let bytes = u64::try_from(key.len() + value.map_or(0, <[u8]>::len)).unwrap_or(u64::MAX);
        self.changed = self.changed.saturating_add(if value.is_some() { bytes } else { 0 });
        if self.changed > MAX_STATE || self.changes.len() >= 2 * MAX_STATE_KEYS {
            return Err("more changes of its state in one call than a state holds".into());
        }
        match self.changes.insert(key.into(), value.map(Into::into)) {
            None => Ok(()),
            Some(_) => Err("two changes of one key in one call".into()),
        }
    }

    /// The call ended well: all of it is kept.
    ///
    /// # Errors
    /// Why the changes are refused, where no worker that does its duty would say them.
    pub(super) fn keep(&mut self) -> Result<(), String> {
        let Some(quota) = self.quota.filter(|_| !self.changes.is_empty()) else {
            self.hand_over();
            return Ok(());
        };
        (self.held, self.changed) = (0, 0);
        let (records, changes) = (std::mem::take(&mut self.records), std::mem::take(&mut self.changes));
        let of = StateOf { generation: self.instance.generation, module: self.instance.name(), quota };
        self.instance.ports.states.borrow_mut().keep(of, records, changes).map_err(|error| error.to_string())
    }

    /// The call did not end well: its changes are forgotten, its records are not.
    pub(super) fn forget(&mut self) {
        self.changes.clear();
        self.changed = 0;
        self.hand_over();
    }

    /// Hands the records over alone.
    fn hand_over(&mut self) {
        if self.records.is_empty() {
            return;
        }
        self.held = 0;
        let mut to = self.instance.ports.records.borrow_mut();
        for Emitted { channel, seq, captured_ns, payload } in self.records.drain(..) {
            to.record(self.instance.name(), &channel, seq, captured_ns, &payload);
        }
    }
}
