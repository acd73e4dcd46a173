//! One file's bytes on the simulated disk: what is on the medium, what the system holds, and what it has yet to write.

use std::{collections::BTreeMap, ops::Range};

use super::Dice;

/// A disk writes this many bytes at once or not at all.
pub const SECTOR: usize = 512;
/// Of a sector that is written again and again without a sync, this many states are remembered.
const MOST_VERSIONS: usize = 6;

type Sector = [u8; SECTOR];

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    medium: Vec<u8>,
    cache: Vec<u8>,
    /// Sectors that were written since the last sync, with every state that they had.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Lengths since the last sync.
    lengths: Vec<usize>,
    /// What cannot be read.
    spoilt: Range<usize>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.cache
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = at.saturating_add(bytes.len());
        if self.is_spoilt(at, bytes.len()) {
            self.spoilt = 0..0;
        }
        if end > self.cache.len() {
            self.cache.resize(end, 0);
            self.lengths.push(end);
        }
        if let Some(place) = self.cache.get_mut(at..end) {
            place.copy_from_slice(bytes);
        }
        (at / SECTOR..end.div_ceil(SECTOR)).for_each(|sector| self.note(sector));
    }

    pub(super) fn set_len(&mut self, length: usize) {
        let old = self.cache.len();
        self.cache.resize(length, 0);
        self.lengths.push(length);
        for sector in length / SECTOR..old.div_ceil(SECTOR) {
            if sector * SECTOR < self.medium.len() || self.dirty.contains_key(&sector) {
                self.note(sector);
            }
        }
    }

    /// The system writes everything, and the disk says so.
    pub(super) fn sync(&mut self) {
        self.medium.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            let now = sector_of(&self.cache, sector);
            put(&mut self.medium, sector, &now);
        }
        self.lengths.clear();
    }

    /// The system tries to write everything, the disk takes some of it, and the system takes it all as written.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        if dice.percent(50) {
            self.medium.resize(self.cache.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            if dice.percent(50) {
                let now = sector_of(&self.cache, sector);
                put(&mut self.medium, sector, &now);
            }
        }
        self.lengths.clear();
    }

    /// The system forgets what it believes to be on the medium.
    pub(super) fn forget(&mut self) {
        let mut seen = self.medium.clone();
        seen.resize(self.cache.len(), 0);
        for sector in self.dirty.keys() {
            let now = sector_of(&self.cache, *sector);
            put(&mut seen, *sector, &now);
        }
        self.cache = seen;
    }

    /// The power goes. `keep` is how many in a hundred of the dirty sectors had been written, in one of their states.
    pub(super) fn cut(&mut self, keep: u64, dice: &mut Dice) {
        let older = dice.place(self.lengths.len() + 1);
        let length = self.lengths.get(older).copied().unwrap_or(self.medium.len());
        self.medium.resize(length, 0);
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if dice.percent(keep)
                && let Some(version) = versions.get(dice.place(versions.len()))
            {
                put(&mut self.medium, sector, version);
            }
        }
        self.lengths.clear();
        self.cache.clone_from(&self.medium);
    }

    /// Changes the bytes behind everybody's back, as worn flash does.
    pub(super) fn damage(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.sync();
        change(&mut self.medium);
        self.cache.clone_from(&self.medium);
    }

    pub(super) fn spoil(&mut self, range: Range<usize>) {
        self.spoilt = range;
    }

    /// Whether some of these bytes cannot be read.
    pub(super) fn is_spoilt(&self, at: usize, length: usize) -> bool {
        at < self.spoilt.end && self.spoilt.start < at.saturating_add(length)
    }

    fn note(&mut self, sector: usize) {
        let now = sector_of(&self.cache, sector);
        let versions = self.dirty.entry(sector).or_default();
        if versions.len() >= MOST_VERSIONS {
            versions.remove(1);
        }
        versions.push(now);
    }
}

/// A sector's bytes; what lies past the end is zero.
fn sector_of(bytes: &[u8], sector: usize) -> Sector {
    let mut found = [0; SECTOR];
    let start = sector.saturating_mul(SECTOR).min(bytes.len());
    let source = bytes.get(start..bytes.len().min(start + SECTOR)).unwrap_or_default();
    if let Some(place) = found.get_mut(..source.len()) {
        place.copy_from_slice(source);
    }
    found
}

/// Writes as much of a sector as the bytes have room for.
fn put(bytes: &mut [u8], sector: usize, content: &Sector) {
    let start = sector.saturating_mul(SECTOR).min(bytes.len());
    let end = bytes.len().min(start + SECTOR);
    if let (Some(place), Some(content)) = (bytes.get_mut(start..end), content.get(..end - start)) {
        place.copy_from_slice(content);
    }
}
