//! The durable state of a module, as host functions and supervisor count it: keys and values, held to a quota.
//!
//! Both sides use the same type, so that what a worker's guest was allowed to keep the supervisor does not refuse. The
//! supervisor checks it all the same: a worker may be hostile.
//!
//! Invariants: a [`State`] never holds more than its quota when it was changed through [`State::apply`], which changes all
//! or nothing. Values are shared, so that a copy of a state costs its keys.
//!
//! Limits: [`MAX_STATE_KEY`], [`MAX_STATE_VALUE`], [`MAX_STATE_KEYS`], [`MAX_STATE`].

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

/// A key is at most this long, in bytes, and at least one.
pub const MAX_STATE_KEY: usize = 256;
/// A value is at most this long, in bytes.
pub const MAX_STATE_VALUE: usize = 64 * 1024;
/// A module keeps at most this many keys.
pub const MAX_STATE_KEYS: usize = 4096;
/// The largest quota that a deployment may give, in bytes.
pub const MAX_STATE: u64 = 1 << 20;

/// What a key takes in a process's memory beside its bytes, at most.
const ENTRY: u64 = 256;

/// What a state with this quota takes in the memory of a worker at most, in bytes: kept, changed, and on its way.
pub const fn state_memory(quota: u64) -> u64 {
    quota.saturating_mul(4).saturating_add(2 * ENTRY * MAX_STATE_KEYS as u64)
}

/// A key.
pub type StateKey = Box<[u8]>;
/// A value.
pub type StateValue = Arc<[u8]>;
/// Values to be kept by key, `None` for keys to be forgotten.
pub type StateChanges = BTreeMap<StateKey, Option<StateValue>>;

/// Why a change is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StateError {
    /// A key that no state has.
    #[error("a key of {length} bytes; keys have 1 to {MAX_STATE_KEY}")]
    Key {
        /// Its length in bytes.
        length: usize,
    },
    /// A value that is too long.
    #[error("a value of {length} bytes; values have at most {MAX_STATE_VALUE}")]
    Value {
        /// Its length in bytes.
        length: usize,
    },
    /// More than the quota.
    #[error("{bytes} bytes of keys and values; the deployment grants {quota}")]
    Quota {
        /// What it would be.
        bytes: u64,
        /// What is granted.
        quota: u64,
    },
    /// Too many keys.
    #[error("{keys} keys; at most {MAX_STATE_KEYS} are kept")]
    Keys {
        /// How many it would be.
        keys: usize,
    },
}

/// How much a state holds, or would hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Of keys and values.
    pub bytes: u64,
    /// How many keys.
    pub keys: usize,
}

impl StateSize {
    /// The size after the value of a key changes from one length to another; `None` where there is no value.
    #[must_use]
    pub fn after(self, key: &[u8], before: Option<usize>, after: Option<usize>) -> Self {
        let entry = |value: Option<usize>| value.map_or(0, |value| as_u64(key.len().saturating_add(value)));
        Self {
            bytes: self.bytes.saturating_sub(entry(before)).saturating_add(entry(after)),
            keys: self.keys.saturating_sub(usize::from(before.is_some())) + usize::from(after.is_some()),
        }
    }

    /// Holds the size to a quota. What is no growth passes: a quota that was lowered by an update takes nothing away.
    ///
    /// # Errors
    /// [`StateError::Quota`], [`StateError::Keys`].
    pub fn check(self, before: Self, quota: u64) -> Result<(), StateError> {
        if self.bytes > quota && self.bytes > before.bytes {
            return Err(StateError::Quota { bytes: self.bytes, quota });
        }
        if self.keys > MAX_STATE_KEYS && self.keys > before.keys {
            return Err(StateError::Keys { keys: self.keys });
        }
        Ok(())
    }
}

/// Holds a key to its length.
///
/// # Errors
/// [`StateError::Key`].
pub fn check_key(key: &[u8]) -> Result<(), StateError> {
    if (1..=MAX_STATE_KEY).contains(&key.len()) { Ok(()) } else { Err(StateError::Key { length: key.len() }) }
}

/// Holds a value to its length.
///
/// # Errors
/// [`StateError::Value`].
pub fn check_value(value: &[u8]) -> Result<(), StateError> {
    if value.len() <= MAX_STATE_VALUE { Ok(()) } else { Err(StateError::Value { length: value.len() }) }
}

/// What a module keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    entries: BTreeMap<StateKey, StateValue>,
    bytes: u64,
}

impl State {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&StateValue> {
        self.entries.get(key)
    }

    /// How much it holds.
    pub fn size(&self) -> StateSize {
        StateSize { bytes: self.bytes, keys: self.entries.len() }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values, in the order of the keys. Allocates nothing.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&StateKey, &StateValue)> {
        self.entries.iter()
    }

    /// Changes all or nothing.
    ///
    /// # Errors
    /// [`StateError`] where a key or value is too long, or where it would hold more than `quota` and more than before.
    pub fn apply(&mut self, changes: &StateChanges, quota: u64) -> Result<(), StateError> {
        let before = self.size();
        let mut after = before;
        for (key, value) in changes {
            check_key(key)?;
            value.as_deref().map_or(Ok(()), check_value)?;
            after = after.after(key, self.get(key).map(|value| value.len()), value.as_ref().map(|value| value.len()));
        }
        after.check(before, quota)?;
        for (key, value) in changes {
            self.put(key.clone(), value.clone());
        }
        Ok(())
    }

    /// Changes one value, whatever its size: for what was checked before, as what comes from the store.
    pub fn put(&mut self, key: StateKey, value: Option<StateValue>) {
        let (before, after) = (self.get(&key).map(|value| value.len()), value.as_ref().map(|value| value.len()));
        self.bytes = self.size().after(&key, before, after).bytes;
        match value {
            Some(value) => drop(self.entries.insert(key, value)),
            None => drop(self.entries.remove(&key)),
        }
    }
}

impl FromIterator<(StateKey, StateValue)> for State {
    fn from_iter<I: IntoIterator<Item = (StateKey, StateValue)>>(entries: I) -> Self {
        let mut state = Self::default();
        entries.into_iter().for_each(|(key, value)| state.put(key, Some(value)));
        state
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn changes<const N: usize>(changes: [(&str, Option<usize>); N]) -> StateChanges {
        changes.map(|(key, value)| (key.as_bytes().into(), value.map(|length| vec![7; length].into()))).into()
    }

    #[test]
    fn counts_keys_and_values_and_changes_all_or_nothing() {
        let mut state = State::default();
        state.apply(&changes([("a", Some(9)), ("bc", Some(0))]), 12).unwrap();
        assert_eq!(state.size(), StateSize { bytes: 12, keys: 2 });
        let before = state.clone();
        let above = state.apply(&changes([("a", Some(4)), ("d", Some(7))]), 12);
        assert_eq!((above, &state), (Err(StateError::Quota { bytes: 15, quota: 12 }), &before));
        state.apply(&changes([("a", None), ("bc", Some(10)), ("none", None)]), 12).unwrap();
        assert_eq!(state.size(), StateSize { bytes: 12, keys: 1 });
        assert_eq!(state.get(b"bc").map(|value| value.len()), Some(10));
    }

    #[test]
    fn a_quota_that_was_lowered_takes_nothing_away_and_lets_nothing_grow() {
        let mut state = State::default();
        state.apply(&changes([("a", Some(9)), ("b", Some(9))]), 20).unwrap();
        assert!(state.apply(&changes([("a", Some(10))]), 5).is_err());
        state.apply(&changes([("a", Some(9))]), 5).unwrap();
        state.apply(&changes([("a", None)]), 5).unwrap();
        assert!(state.apply(&changes([("a", Some(0))]), 5).is_err());
        assert_eq!(state.size(), StateSize { bytes: 10, keys: 1 });
    }

    #[test]
    fn holds_keys_and_values_to_their_lengths_and_number() {
        let mut state = State::default();
        let key = |length: usize| StateChanges::from([(vec![1; length].into(), Some(Vec::new().into()))]);
        for length in [0, MAX_STATE_KEY + 1] {
            assert_eq!(state.apply(&key(length), MAX_STATE), Err(StateError::Key { length }));
        }
        assert_eq!(state.apply(&key(MAX_STATE_KEY), MAX_STATE), Ok(()));
        let length = MAX_STATE_VALUE + 1;
        assert_eq!(state.apply(&changes([("v", Some(length))]), MAX_STATE), Err(StateError::Value { length }));
        assert_eq!(state.apply(&changes([("v", Some(MAX_STATE_VALUE))]), MAX_STATE), Ok(()));
        let many: StateChanges =
            (0..MAX_STATE_KEYS).map(|at| (at.to_le_bytes().into(), Some(Vec::new().into()))).collect();
        let keys = MAX_STATE_KEYS + 2;
        assert_eq!(state.apply(&many, MAX_STATE), Err(StateError::Keys { keys }));
        assert_eq!(state.iter().len(), 2);
    }
}
