//! What modules keep (`state_set` of their guests): in memory, as workers are given it, and as the rows that the outbox stores
//! with the records of a frame.
//!
//! State belongs to a module's name. A deployment on probation does not touch what was kept before it: its modules begin with that,
//! and what they change lies apart, under the deployment's identity. When it is committed, its changes take the place of what was
//! there; when it is rolled back, they are dropped. What of it is on disk follows in the transaction that stores the slots
//! (`table::settle`), what is in memory when that is done ([`States::settle`]); what a power cut leaves is made good at the next start
//! ([`States::load`]).
//!
//! Invariants: what is in memory is what is on disk with the rows that were given out since. Rows of one call into a guest are given
//! out together. The quota is kept here too, whatever a worker says. State is removed when neither the committed deployment, nor the one
//! before it, nor the one on trial names its module, and not while one of their documents cannot be read.
//!
//! Limits: those of [`sanderling_protocol::worker::State`] for each module; all of it is in memory, once for the committed deployment and,
//! where a value differs, once more for the one on trial.

pub mod table;

use std::collections::{BTreeMap, BTreeSet};

use sanderling_protocol::{
    digest::Digest,
    worker::{State, StateChanges, StateError, StateKey, StateValue},
};

use crate::sync::Slots;

/// Where a row lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The identity of the deployment whose trial it belongs to; `None` for what is committed.
    pub trial: Option<Digest>,
    /// The module's name.
    pub module: String,
    /// The guest's key.
    pub key: StateKey,
}

/// What a row is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A value.
    Value(StateValue),
    /// A trial has deleted a value that is committed.
    Deleted,
    /// There is no such row.
    Gone,
}

/// Rows to be changed together.
pub type Rows = BTreeMap<RowKey, Row>;

/// What the rows take, in bytes.
pub fn bytes(rows: &Rows) -> usize {
    let one = |(key, row): (&RowKey, &Row)| {
        let value = if let Row::Value(value) = row { value.len() } else { 0 };
        key.module.len() + key.key.len() + value
    };
    rows.iter().map(one).sum()
}

/// A module's state as a trial sees it.
#[derive(Clone, Debug, Default)]
struct Overlay {
    state: State,
    /// The keys by which it differs from what is committed.
    changed: BTreeSet<StateKey>,
}

/// Where a generation's state lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Committed,
    Trial(Digest),
}

/// The state of all modules.
#[derive(Debug, Default)]
pub struct States {
    committed: BTreeMap<String, State>,
    trials: BTreeMap<Digest, BTreeMap<String, Overlay>>,
    /// The deployment on trial.
    trial: Option<Digest>,
    /// The generations that run.
    placed: BTreeMap<u64, Space>,
}

impl States {
    /// What an earlier run stored, and the rows that it had no time to change.
    pub fn load(found: Rows, slots: &Slots) -> (Self, Rows) {
        let mut states = Self::default();
        let (trials, committed): (Rows, Rows) = found.into_iter().partition(|(key, _)| key.trial.is_some());
        for (key, row) in committed {
            states.committed.entry(key.module).or_default().put(key.key, value(row));
        }
        for (key, row) in trials {
            let Some(trial) = key.trial else { continue };
            let overlay = states.overlay(trial, &key.module);
            overlay.changed.insert(key.key.clone());
            overlay.state.put(key.key, value(row));
        }
        let mut rows = Rows::new();
        states.settle_trials(slots, &mut rows);
        // Where no slot could be read, it is not known what is named.
        if slots.committed.is_some() || slots.previous.is_some() || slots.trial.is_some() {
            states.forget_unnamed(slots, &mut rows);
        }
        (states, rows)
    }

    /// The slots are stored: state of a trial that was committed takes the place of what was there, that of one that was rolled back
    /// and does not run any more is dropped, and so is that of modules which nothing names.
    pub fn settle(&mut self, slots: &Slots) -> Rows {
        let mut rows = Rows::new();
        self.settle_trials(slots, &mut rows);
        self.forget_unnamed(slots, &mut rows);
        rows
    }

    /// A generation of the deployment with this identity is about to run.
    pub fn place(&mut self, generation: u64, identity: Digest) {
        let space = if self.trial == Some(identity) { Space::Trial(identity) } else { Space::Committed };
        self.placed.insert(generation, space);
    }

    /// No worker of a generation runs any more.
    pub fn gone(&mut self, generation: u64) -> Rows {
        let mut rows = Rows::new();
        self.placed.remove(&generation);
        self.drop_trials(&mut rows);
        rows
    }

    /// What a module of a generation kept last; what it begins with.
    pub fn state(&self, generation: u64, module: &str) -> State {
        let committed = || self.committed.get(module);
        let found = match self.space(generation) {
            Space::Committed => committed(),
            Space::Trial(trial) => self
                .trials
                .get(&trial)
                .and_then(|overlays| overlays.get(module))
                .map(|overlay| &overlay.state)
                .or_else(committed),
        };
        found.cloned().unwrap_or_default()
    }

    /// Keeps what a module of a generation changed, all or nothing.
    ///
    /// # Errors
    /// [`StateError`] where it would hold more than it may.
    pub fn keep(
        &mut self,
        generation: u64,
        module: &str,
        changes: &StateChanges,
        quota: u64,
    ) -> Result<Rows, StateError> {
        let row = |trial, key: &StateKey, row| (RowKey { trial, module: module.to_owned(), key: key.clone() }, row);
        match self.space(generation) {
            Space::Committed => {
                self.committed.entry(module.to_owned()).or_default().apply(changes, quota)?;
                let made = |value: &Option<StateValue>| value.clone().map_or(Row::Gone, Row::Value);
                Ok(changes.iter().map(|(key, value)| row(None, key, made(value))).collect())
            }
            Space::Trial(trial) => {
                let overlay = self.overlay(trial, module);
                overlay.state.apply(changes, quota)?;
                overlay.changed.extend(changes.keys().cloned());
                let made = |value: &Option<StateValue>| value.clone().map_or(Row::Deleted, Row::Value);
                Ok(changes.iter().map(|(key, value)| row(Some(trial), key, made(value))).collect())
            }
        }
    }

    /// All of it as rows: for a database that was made anew.
    pub fn rows(&self) -> Rows {
        let mut rows = Rows::new();
        for (module, state) in &self.committed {
            for (key, value) in state.iter() {
                let key = RowKey { trial: None, module: module.clone(), key: key.clone() };
                rows.insert(key, Row::Value(value.clone()));
            }
        }
        self.trials.keys().for_each(|trial| self.rows_of(*trial, &mut rows));
        rows
    }

    fn rows_of(&self, trial: Digest, rows: &mut Rows) {
        for (module, overlay) in self.trials.get(&trial).into_iter().flatten() {
            for key in &overlay.changed {
                let row = overlay.state.get(key).cloned().map_or(Row::Deleted, Row::Value);
                rows.insert(RowKey { trial: Some(trial), module: module.clone(), key: key.clone() }, row);
            }
        }
    }

    fn space(&self, generation: u64) -> Space {
        self.placed.get(&generation).copied().unwrap_or(Space::Committed)
    }

    fn overlay(&mut self, trial: Digest, module: &str) -> &mut Overlay {
        let committed = self.committed.get(module);
        self.trials
            .entry(trial)
            .or_default()
            .entry(module.to_owned())
            .or_insert_with(|| Overlay { state: committed.cloned().unwrap_or_default(), changed: BTreeSet::new() })
    }

    /// What this trial changed is committed; its generations go on with that.
    fn commit(&mut self, trial: Digest, rows: &mut Rows) {
        for space in self.placed.values_mut().filter(|space| **space == Space::Trial(trial)) {
            *space = Space::Committed;
        }
        for (module, overlay) in self.trials.remove(&trial).unwrap_or_default() {
            for key in &overlay.changed {
                let row = overlay.state.get(key).cloned().map_or(Row::Gone, Row::Value);
                rows.insert(RowKey { trial: None, module: module.clone(), key: key.clone() }, row);
                rows.insert(RowKey { trial: Some(trial), module: module.clone(), key: key.clone() }, Row::Gone);
            }
            self.committed.insert(module, overlay.state);
        }
    }

    /// Drops what was changed by trials that are none any more and do not run.
    fn drop_trials(&mut self, rows: &mut Rows) {
        let (trial, placed) = (self.trial, &self.placed);
        self.trials.retain(|id, overlays| {
            let needed = trial == Some(*id) || placed.values().any(|space| *space == Space::Trial(*id));
            if !needed {
                for (module, overlay) in overlays {
                    let gone = |key: &StateKey| RowKey { trial: Some(*id), module: module.clone(), key: key.clone() };
                    rows.extend(overlay.changed.iter().map(|key| (gone(key), Row::Gone)));
                }
            }
            needed
        });
    }

    fn settle_trials(&mut self, slots: &Slots, rows: &mut Rows) {
        let trial = slots.trial.as_ref().map(|trial| trial.slot.identity());
        if let Some(trial) = trial.filter(|trial| self.trial != Some(*trial)) {
            // Its rows were removed when another took its slot, from which that has withdrawn.
            self.rows_of(trial, rows);
        }
        self.trial = trial;
        if let Some(committed) = slots.committed.as_ref().map(|slot| slot.identity()) {
            self.commit(committed, rows);
        }
        self.drop_trials(rows);
    }

    /// Removes the state of modules that no deployment names, where all of these can be read.
    fn forget_unnamed(&mut self, slots: &Slots, rows: &mut Rows) {
        let trial = slots.trial.as_ref().map(|trial| &trial.slot);
        let deployments = slots.committed.iter().chain(&slots.previous).chain(trial);
        let Some(named) = deployments.map(|slot| slot.module_names()).collect::<Option<Vec<_>>>() else { return };
        let named = named.concat();
        self.committed.retain(|module, state| {
            let needed = named.contains(module);
            if !needed {
                let gone = |key: &StateKey| RowKey { trial: None, module: module.clone(), key: key.clone() };
                rows.extend(state.iter().map(|(key, _)| (gone(key), Row::Gone)));
            }
            needed
        });
    }
}

fn value(row: Row) -> Option<StateValue> {
    if let Row::Value(value) = row { Some(value) } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
