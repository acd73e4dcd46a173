//! What a module must have kept, and how that is compared with what is there.

use std::collections::BTreeMap;

use sanderling_protocol::{
    digest::Digest,
    worker::{State, StateChanges, StateKey, StateValue},
};

use crate::{
    state::{Rows, States},
    store::sim::Dice,
    sync::Slots,
};

/// The module that keeps something.
const MODULE: &str = "m";
const QUOTA: u64 = 4096;

/// Values by key; a value is told by its number.
type Values = BTreeMap<u8, u32>;

/// A module's state: as it is committed, and as the deployment on trial sees it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Truth {
    committed: Values,
    trial: Option<(Digest, Values)>,
}

impl Truth {
    /// What it is when the slots say this.
    fn settle(&mut self, slots: &Slots) {
        let before = self.trial.take();
        match (&slots.committed, before) {
            (Some(committed), Some((trial, values))) if committed.identity() == trial => self.committed = values,
            (_, before) => {
                let on_trial = slots.trial.as_ref().map(|trial| trial.slot.identity());
                self.trial = before.filter(|(trial, _)| on_trial == Some(*trial));
            }
        }
        if let (None, Some(trial)) = (&self.trial, &slots.trial) {
            self.trial = Some((trial.slot.identity(), self.committed.clone()));
        }
    }
}

/// The model of a module's state.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    next: u32,
    now: Truth,
    stored: Truth,
    /// What a transaction would have left of which it is not known whether it was done.
    doubtful: Vec<Truth>,
}

impl Kept {
    /// Changes some of it, as a frame does, and gives the rows.
    pub(super) fn frame(&mut self, states: &mut States, slots: &Slots, dice: &mut Dice) -> Rows {
        if slots.committed.is_none() && slots.trial.is_none() {
            return Rows::new();
        }
        let mut changes = StateChanges::new();
        let values = match &mut self.now.trial {
            Some((_, values)) => values,
            None => &mut self.now.committed,
        };
        for _ in 0..=dice.place(3) {
            let key = dice.below(6) as u8;
            if dice.percent(25) {
                values.remove(&key);
                changes.insert([key].into(), None);
            } else {
                self.next += 1;
                values.insert(key, self.next);
                changes.insert([key].into(), Some(value(self.next).into()));
            }
        }
        let (generation, mut rows) = place(states, slots);
        rows.extend(states.keep(generation, MODULE, &changes, QUOTA).unwrap());
        rows
    }

    /// The slots are stored; gives the rows that follow from it. What is not on trial any more does not run any more.
    pub(super) fn stored(&mut self, states: &mut States, slots: &Slots) -> Rows {
        self.settle(slots);
        let mut rows = states.settle(slots);
        rows.extend(place(states, slots).1);
        rows
    }

    fn settle(&mut self, slots: &Slots) {
        self.doubtful.iter_mut().chain([&mut self.now, &mut self.stored]).for_each(|truth| truth.settle(slots));
    }

    /// The outbox is on disk.
    pub(super) fn all_stored(&mut self) {
        self.stored = self.now.clone();
        self.doubtful.clear();
    }

    /// A transaction failed, and may have been done all the same.
    pub(super) fn doubt(&mut self) {
        self.doubtful.push(self.now.clone());
    }

    /// Compares with what a restart found. `whole`: whether the last transaction must have been done, or must not, where that is known.
    pub(super) fn check(&mut self, states: &mut States, slots: &Slots, whole: Option<bool>) -> Result<(), String> {
        self.settle(slots);
        let found = read(states, slots)?;
        let undone = found == self.stored;
        let done = match whole {
            Some(_) => self.doubtful.last() == Some(&found),
            None => self.doubtful.contains(&found),
        };
        let right = match whole {
            Some(true) => done || (undone && self.doubtful.is_empty()),
            Some(false) => undone,
            None => done || undone,
        };
        if !right {
            return Err(format!("{found:?} is kept, and {whole:?} of {:?} and {:?}", self.stored, self.doubtful));
        }
        self.take_over(found);
        Ok(())
    }

    /// Takes what is there as right; gives whether it is another than before.
    pub(super) fn adopt(&mut self, states: &mut States, slots: &Slots) -> Result<bool, String> {
        self.settle(slots);
        let found = read(states, slots)?;
        let other = found != self.now;
        self.take_over(found);
        Ok(other)
    }

    /// Whether nothing is kept.
    pub(super) fn is_blank(&self) -> bool {
        self.now.committed.is_empty() && self.now.trial.as_ref().is_none_or(|(_, values)| values.is_empty())
    }

    fn take_over(&mut self, found: Truth) {
        (self.now, self.stored, self.doubtful) = (found.clone(), found, Vec::new());
    }
}

/// The generation that runs, that of the trial where there is one; and the rows that change because the one before is gone.
fn place(states: &mut States, slots: &Slots) -> (u64, Rows) {
    let rows = states.gone(1);
    let Some(trial) = &slots.trial else { return (0, rows) };
    states.place(1, trial.slot.identity());
    (1, rows)
}

fn read(states: &mut States, slots: &Slots) -> Result<Truth, String> {
    let committed = values(&states.state(0, MODULE))?;
    let (generation, _) = place(states, slots);
    let trial = match &slots.trial {
        Some(trial) => Some((trial.slot.identity(), values(&states.state(generation, MODULE))?)),
        None => None,
    };
    Ok(Truth { committed, trial })
}

fn values(state: &State) -> Result<Values, String> {
    let one = |(key, found): (&StateKey, &StateValue)| {
        let number = found.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
        match key[..] {
            [key] if number < 1 << 24 && found[..] == value(number)[..] => Ok((key, number)),
            _ => Err(format!("the value {number} of {key:?} has another content")),
        }
    };
    state.iter().map(one).collect()
}

fn value(number: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + number as usize * 29 % 200, number as u8);
    bytes
}
