//! The disk: what survives a power cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sanderling_protocol::{blob::BlobIndex, digest::Digest, tuf::Trusted};

use super::Device;
use crate::sync::{BlobFault, Effect, Event, Slots, tests::repository::Repository};

/// A blob that is being put together: its index, and the chunks that are there.
type Part = (Arc<BlobIndex>, BTreeMap<usize, Arc<[u8]>>);

#[derive(Clone, Default)]
pub(in crate::sync::tests) struct Disk {
    pub(in crate::sync::tests) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(super) parts: BTreeMap<Digest, Part>,
    pub(super) trust: BTreeMap<String, Vec<u8>>,
    pub(in crate::sync::tests) saved_time: Option<i64>,
    pub(in crate::sync::tests) slots: Slots,
    /// It takes no change.
    pub(in crate::sync::tests) broken: bool,
    /// Blobs are damaged whenever they are opened.
    pub(in crate::sync::tests) rots: bool,
}

impl Disk {
    /// Loses a part that was begun, as a repair of the file system does.
    pub(in crate::sync::tests) fn lose_parts(&mut self) {
        self.parts.clear();
    }

    /// Loses all records, as a database does that is set aside; files stay.
    pub(in crate::sync::tests) fn forget_records(&mut self) {
        self.trust.clear();
        self.slots = Slots::default();
    }

    /// The version of the snapshot that is stored with all that it lists.
    pub(in crate::sync::tests) fn snapshot(&self, repository: &Repository) -> Option<u64> {
        let trusted = Trusted::restore(&repository.shipped_root(), &self.trust).unwrap().trusted;
        trusted.version("snapshot").filter(|_| trusted.is_current() && trusted.is_complete())
    }

    /// The chunks that blobs and parts hold.
    pub(in crate::sync::tests) fn held_chunks(&self) -> BTreeSet<Digest> {
        let parts = self.parts.values().flat_map(|(_, chunks)| chunks.values().map(|chunk| Digest::of(chunk)));
        let blobs = self.blobs.values().flat_map(|blob| sanderling_protocol::blob::cut(blob).unwrap().1);
        parts.chain(blobs.map(Digest::of)).collect()
    }

    /// Loses the stored metadata of a role.
    pub(in crate::sync::tests) fn lose_metadata(&mut self, role: &str) {
        self.trust.remove(role).unwrap();
    }

    /// What the parts of blobs take, in bytes.
    fn taken(&self, digest: &Digest) -> u64 {
        self.parts.get(digest).map_or(0, |(index, _)| index.length())
    }

    /// The chunks of a blob that are missing in its part.
    pub(super) fn missing(&self, digest: &Digest) -> Vec<usize> {
        let Some((index, held)) = self.parts.get(digest) else { return Vec::new() };
        (0..index.chunks().len()).filter(|at| !held.contains_key(at)).collect()
    }
}

fn broken() -> BlobFault {
    BlobFault::Disk("no space left on device".into())
}

impl Device {
    /// Carries out what is the store's to do; gives back what is not.
    pub(super) fn keep(&mut self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::PersistTrust { files, time } => {
                self.disk.trust = files.into_iter().collect();
                self.disk.saved_time = self.disk.saved_time.max(Some(time));
            }
            Effect::PersistSlots(slots) => self.disk.slots = *slots,
            Effect::Survey { number, blobs } => {
                let (held, others): (Vec<_>, Vec<_>) =
                    blobs.into_iter().partition(|digest| self.disk.blobs.contains_key(digest));
                let taken = others.iter().map(|digest| self.disk.taken(digest)).sum();
                let free = self.free_now();
                self.events.push_back(Event::Surveyed { number, held, taken, free });
            }
            Effect::Begin { digest, index } => self.begin(digest, index),
            Effect::Write { blob, index, chunk, content } => {
                assert_eq!(Digest::of(&content), chunk, "only what matches its digest is written");
                let broken = if self.disk.broken { Err(broken()) } else { Ok(()) };
                let gone = || BlobFault::Gone("not begun".into());
                let part = broken.and_then(|()| self.disk.parts.get_mut(&blob).ok_or_else(gone));
                let result = part.map(|(_, chunks)| drop(chunks.insert(index, content)));
                self.events.push_back(Event::Wrote { blob, index, chunk, result });
            }
            Effect::Finish { digest } => {
                let result = self.finish(&digest);
                self.events.push_back(Event::Finished { digest, result });
            }
            Effect::ReadDocument { digest } => {
                self.disk.blobs.retain(|name, content| *name != digest || Digest::of(content) == digest);
                let content = self.disk.blobs.get(&digest).cloned().ok_or(BlobFault::Corrupt("damaged".into()));
                self.events.push_back(Event::Document { digest, content });
            }
            Effect::Collect { keep } => {
                self.disk.blobs.retain(|digest, _| keep.contains(digest));
                self.disk.parts.retain(|digest, _| keep.contains(digest));
            }
            other => return Some(other),
        }
        None
    }

    /// What is free now, in bytes: parts take their room, and blobs where the disk has a limit.
    fn free_now(&self) -> u64 {
        let parts: u64 = self.disk.parts.keys().map(|digest| self.disk.taken(digest)).sum();
        let blobs: usize = self.disk.blobs.values().map(Vec::len).sum();
        let left = self.total.map_or(u64::MAX, |total| total.saturating_sub(blobs as u64));
        self.free.min(left).saturating_sub(parts)
    }

    /// Sets how much the disk holds in all, in bytes.
    pub(in crate::sync::tests) fn total(&mut self, bytes: u64) {
        self.total = Some(bytes);
    }

    fn begin(&mut self, digest: Digest, index: Arc<BlobIndex>) {
        let missing = if self.disk.broken {
            Err(broken())
        } else {
            let same = self.disk.parts.get(&digest).is_some_and(|(before, _)| *before == index);
            if !same {
                let chunks = self.reuse(&index);
                self.disk.parts.insert(digest, (index, chunks));
            }
            Ok(self.disk.missing(&digest))
        };
        self.events.push_back(Event::Begun { digest, missing });
    }

    /// The chunks that blobs hold which are there.
    fn reuse(&self, index: &BlobIndex) -> BTreeMap<usize, Arc<[u8]>> {
        let mut held = BTreeMap::new();
        for blob in self.disk.blobs.values() {
            let (other, chunks) = sanderling_protocol::blob::cut(blob).unwrap();
            for (at, wanted) in index.chunks().iter().enumerate() {
                if let Some(found) = other.chunks().iter().position(|chunk| chunk == wanted) {
                    held.insert(at, chunks[found].into());
                }
            }
        }
        held
    }

    fn finish(&mut self, digest: &Digest) -> Result<(), BlobFault> {
        if self.disk.broken {
            return Err(broken());
        }
        let Some((index, chunks)) = self.disk.parts.remove(digest) else {
            return Err(BlobFault::Gone("not begun".into()));
        };
        assert_eq!(chunks.len(), index.chunks().len(), "it is finished when all of it is there");
        let whole: Vec<u8> = chunks.values().flat_map(|chunk| chunk.iter().copied()).collect();
        if Digest::of(&whole) != *digest {
            return Err(BlobFault::Corrupt("the whole is wrong".into()));
        }
        self.disk.blobs.insert(*digest, whole);
        Ok(())
    }

    /// Flips a bit in a blob.
    pub(in crate::sync::tests) fn damage(&mut self, which: usize) {
        let digests: BTreeSet<Digest> = self.disk.blobs.keys().copied().collect();
        let Some(digest) = digests.iter().nth(which % digests.len().max(1)) else { return };
        if let Some(byte) = self.disk.blobs.get_mut(digest).and_then(|blob| blob.first_mut()) {
            *byte ^= 1;
        }
    }
}
