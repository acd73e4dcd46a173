//! `state_get`, `state_set` and `state_delete`: what a module keeps over restarts, updates and power cuts.
//!
//! Purpose: a call into the guest sees what earlier calls kept, and its own changes at once. When the call ends well, its changes
//! go to the port [`Keep`], all together; when it ends in any other way, they are forgotten.
//!
//! Invariants: a call that faults, is interrupted or whose frame is refused changes nothing. What the guest may keep is held to its
//! quota, over keys and values, and to the bounds of [`State`]. The state belongs to no instance: an executor that makes a new one
//! moves the [`ModuleState`] on.
//!
//! Failure modes, as errnos: `EACCES` without the grant; `ENODATA` before the start functions, since the state of a module that is
//! loaded beside its predecessor is not known yet; `EINVAL` for an empty key, `E2BIG` for a key or value that is too long,
//! `ENOENT` for a key that is not there, `ENOSPC` above the quota or the number of keys.

use std::{
    collections::btree_map::Entry,
    sync::{Arc, Mutex, PoisonError},
};

use sanderling_guest::IMPORTS;
use sanderling_protocol::worker::{
    MAX_STATE_KEY, MAX_STATE_KEYS, MAX_STATE_VALUE, State, StateChanges, StateError, StateKey, StateSize, StateValue,
    check_key, check_value,
};
use wasmi::{Caller, errors::LinkerError};

use super::{Errno, HostState, Linker, answer, at_most, charge_copy};
use crate::GuestMemory;

// What guests are told is what is held to.
const _: () = assert!(
    MAX_STATE_KEY == sanderling_guest::state::MAX_KEY
        && MAX_STATE_VALUE == sanderling_guest::state::MAX_VALUE
        && MAX_STATE_KEYS == sanderling_guest::state::MAX_KEYS
);

/// Takes what a guest changed in a call that ended well.
pub trait Keep: Send {
    /// Keeps all of the changes, never empty, or none. Called between calls into the guest.
    fn keep(&mut self, changes: &StateChanges);
}

/// Keeps a state in memory: for tests and for local runs. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryState(Arc<Mutex<State>>);

impl MemoryState {
    /// Begins with this.
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// What is kept now.
    pub fn get(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keep for MemoryState {
    fn keep(&mut self, changes: &StateChanges) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            state.put(key.clone(), value.clone());
        }
    }
}

/// What a module keeps, and what the call under way changed of it.
#[derive(Default)]
pub struct ModuleState {
    kept: State,
    changes: StateChanges,
    /// Of what is kept with the changes.
    size: StateSize,
    /// Whether the guest may ask.
    open: bool,
    port: Option<Box<dyn Keep>>,
}

impl ModuleState {
    /// What an earlier run kept, and where changes go.
    pub(crate) fn new(kept: State, port: Box<dyn Keep>) -> Self {
        Self { size: kept.size(), kept, port: Some(port), ..Self::default() }
    }

    /// Keys and values as they were when the call under way began, in the order of the keys: without a copy, and right
    /// after a call that failed too.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&StateKey, &StateValue)> {
        self.kept.iter()
    }

    /// How much is kept, changes of the call under way included.
    pub fn size(&self) -> StateSize {
        self.size
    }

    /// From now on the guest may ask.
    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    /// A call is over: its changes are kept where it ended `well`, and forgotten otherwise.
    pub(crate) fn end_call(&mut self, well: bool) {
        let changes = std::mem::take(&mut self.changes);
        if well && !changes.is_empty() {
            if let Some(port) = &mut self.port {
                port.keep(&changes);
            }
            for (key, value) in changes {
                self.kept.put(key, value);
            }
        }
        self.size = self.kept.size();
    }

    fn get(&self, key: &[u8]) -> Option<&StateValue> {
        match self.changes.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.kept.get(key),
        }
    }

    fn change(&mut self, key: &[u8], value: Option<&[u8]>, quota: u64) -> Result<(), StateError> {
        let before = self.get(key).map(|value| value.len());
        let after = self.size.after(key, before, value.map(<[u8]>::len));
        after.check(self.size, quota)?;
        self.size = after;
        let value = value.map(StateValue::from);
        match self.changes.entry(key.into()) {
            // A key that was not there before the call and is not there now was not changed.
            Entry::Occupied(entry) if value.is_none() && self.kept.get(key).is_none() => drop(entry.remove()),
            Entry::Occupied(mut entry) => drop(entry.insert(value)),
            Entry::Vacant(entry) => drop(entry.insert(value)),
        }
        Ok(())
    }
}

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(
        IMPORTS,
        "state_get",
        |mut caller: Caller<'_, HostState>, key: i32, key_len: i32, ptr: i32, cap: i32| -> i32 {
            let found = get(&mut caller, (key, key_len), (ptr, cap));
            charge_copy(&mut caller, at_most(cap, found.unwrap_or(0).unsigned_abs() as usize) + MAX_STATE_KEY);
            answer(found)
        },
    )?;
    linker.func_wrap(
        IMPORTS,
        "state_set",
        |mut caller: Caller<'_, HostState>, key: i32, key_len: i32, ptr: i32, len: i32| -> i32 {
            charge_copy(&mut caller, at_most(len, MAX_STATE_VALUE) + MAX_STATE_KEY);
            answer(set(&mut caller, (key, key_len), (ptr, len)))
        },
    )?;
    linker.func_wrap(IMPORTS, "state_delete", |mut caller: Caller<'_, HostState>, key: i32, key_len: i32| -> i32 {
        charge_copy(&mut caller, MAX_STATE_KEY);
        answer(delete(&mut caller, (key, key_len)))
    })?;
    Ok(())
}

/// Returns the whole length, and copies as much as there is room for.
fn get(caller: &mut Caller<'_, HostState>, key: (i32, i32), to: (i32, i32)) -> Result<i32, Errno> {
    let (mut memory, state) = GuestMemory::split(caller)?;
    quota(state, "state_get")?;
    let value = state.state.get(read_key(&memory, key)?).cloned();
    memory.fill(to.0, to.1, value.as_deref().unwrap_or_default())?;
    let value = value.ok_or(Errno::NOENT)?;
    i32::try_from(value.len()).map_err(|_| Errno::TOO_BIG)
}

fn set(caller: &mut Caller<'_, HostState>, key: (i32, i32), value: (i32, i32)) -> Result<i32, Errno> {
    let (memory, state) = GuestMemory::split(caller)?;
    let quota = quota(state, "state_set")?;
    let key = read_key(&memory, key)?;
    let value = memory.read(value.0, value.1)?;
    check_value(value).map_err(errno)?;
    state.state.change(key, Some(value), quota).map_err(errno)?;
    Ok(0)
}

fn delete(caller: &mut Caller<'_, HostState>, key: (i32, i32)) -> Result<i32, Errno> {
    let (memory, state) = GuestMemory::split(caller)?;
    let quota = quota(state, "state_delete")?;
    let key = read_key(&memory, key)?;
    state.state.get(key).ok_or(Errno::NOENT)?;
    state.state.change(key, None, quota).map_err(errno)?;
    Ok(0)
}

/// What the guest may keep, where it may ask at all.
fn quota(state: &mut HostState, function: &'static str) -> Result<u64, Errno> {
    let granted = state.grants.state;
    state.allow(granted.is_some(), function)?;
    if state.state.open { granted.ok_or(Errno::ACCES) } else { Err(Errno::NODATA) }
}

fn read_key<'m>(memory: &'m GuestMemory<'_>, (ptr, len): (i32, i32)) -> Result<&'m [u8], Errno> {
    let key = memory.read(ptr, len)?;
    check_key(key).map_err(errno)?;
    Ok(key)
}

fn errno(error: StateError) -> Errno {
    match error {
        StateError::Key { length: 0 } => Errno::INVAL,
        StateError::Key { .. } | StateError::Value { .. } => Errno::TOO_BIG,
        StateError::Quota { .. } | StateError::Keys { .. } => Errno::NOSPC,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
