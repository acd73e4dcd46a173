//! What is known in memory of a segment: how much of each channel is in it, and which of its records are gone.

use std::{collections::BTreeMap, ops::Range};

use super::wire::{Reader, put};

/// Where a record lies: the segment's number, and the how many-th of its records it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::outbox) struct Place {
    pub(in crate::outbox) segment: u64,
    pub(in crate::outbox) ordinal: u32,
}

/// Records of a channel that are not gone, and what they count in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::outbox) struct Part {
    pub(in crate::outbox) records: u64,
    pub(in crate::outbox) bytes: u64,
}

impl Part {
    pub(super) fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }

    pub(super) fn take(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Parts by channel.
pub(in crate::outbox) type Parts = BTreeMap<String, Part>;

/// A set of ordinals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ordinals(Vec<u64>);

impl Ordinals {
    pub(super) fn insert(&mut self, ordinal: u32) {
        let (word, bit) = Self::at(ordinal);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    pub(super) fn contains(&self, ordinal: u32) -> bool {
        let (word, bit) = Self::at(ordinal);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn at(ordinal: u32) -> (usize, u64) {
        (ordinal as usize / 64, 1 << (ordinal % 64))
    }

    fn runs(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for (at, word) in self.0.iter().enumerate() {
            for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                let ordinal = u32::try_from(at * 64).unwrap_or(u32::MAX).saturating_add(bit);
                match runs.last_mut() {
                    Some(run) if run.end == ordinal => run.end += 1,
                    _ => runs.push(ordinal..ordinal + 1),
                }
            }
        }
        runs
    }

    /// Appends it as runs: how many are passed over, and how many are in it.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let runs = self.runs();
        put(bytes, runs.len() as u64);
        let mut end = 0;
        for run in runs {
            put(bytes, u64::from(run.start - end));
            put(bytes, u64::from(run.end - run.start));
            end = run.end;
        }
    }

    /// Reads what was encoded; no ordinal is `total` or more.
    pub(super) fn decode(reader: &mut Reader<'_>, total: u32) -> Option<Self> {
        let mut ordinals = Self::default();
        let mut end = 0_u32;
        for _ in 0..reader.count()? {
            let start = end.checked_add(reader.small()?)?;
            end = start.checked_add(reader.small()?).filter(|end| *end <= total)?;
            (start..end).for_each(|ordinal| ordinals.insert(ordinal));
        }
        Some(ordinals)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs().into_iter().flatten()
    }
}

impl FromIterator<u32> for Ordinals {
    fn from_iter<I: IntoIterator<Item = u32>>(all: I) -> Self {
        let mut ordinals = Self::default();
        all.into_iter().for_each(|ordinal| ordinals.insert(ordinal));
        ordinals
    }
}

/// A segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its number, which is its file's name.
    pub(super) number: u64,
    /// How many of its file's bytes count. What follows is not of the log.
    pub(super) length: u64,
    /// How many records it has, those that are gone included.
    pub(super) total: u32,
    /// Where it stands among the others: its records come after those of segments with a lower one.
    pub(super) order: u64,
    /// What is not gone.
    pub(super) parts: Parts,
    pub(super) gone: Ordinals,
}

impl Segment {
    pub(super) fn new(number: u64, order: u64) -> Self {
        Self { number, order, ..Self::default() }
    }

    /// Takes a record in; gives where it lies.
    pub(super) fn add(&mut self, channel: &str, size: u64) -> Place {
        let place = Place { segment: self.number, ordinal: self.total };
        self.total = self.total.saturating_add(1);
        match self.parts.get_mut(channel) {
            Some(part) => part.add(1, size),
            None => drop(self.parts.insert(channel.to_owned(), Part { records: 1, bytes: size })),
        }
        place
    }

    /// Ordinals are gone that were of these parts.
    pub(super) fn remove(&mut self, ordinals: &Ordinals, parts: &Parts) {
        ordinals.iter().for_each(|ordinal| self.gone.insert(ordinal));
        for (channel, gone) in parts {
            if let Some(part) = self.parts.get_mut(channel) {
                part.take(gone.records, gone.bytes);
            }
        }
        self.parts.retain(|_, part| part.records > 0);
    }

    pub(super) fn has(&self, channel: &str) -> bool {
        self.parts.contains_key(channel)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What its records that are not gone count.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.bytes).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ordinals_are_read_as_they_were_written(set in proptest::collection::btree_set(0..3000_u32, 0..200)) {
            let ordinals: Ordinals = set.iter().copied().collect();
            let mut bytes = Vec::new();
            ordinals.encode(&mut bytes);
            let read = Ordinals::decode(&mut Reader(&bytes), 3000).unwrap();
            prop_assert_eq!(read.iter().collect::<BTreeSet<_>>(), set.clone());
            let most = set.last().copied().unwrap_or(0);
            prop_assert!(set.is_empty() || Ordinals::decode(&mut Reader(&bytes), most).is_none());
        }
    }
}
