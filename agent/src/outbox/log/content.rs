//! What frames say: a commit, or the checkpoint that a segment begins with.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{
    super::{queue::Held, size},
    segment::{Ordinals, Part, Parts, Place, Segment},
    wire::{Reader, put, put_bytes, put_signed},
};

const CHECKPOINT: u8 = 1;
const MOVED: u8 = 2;
const COMMIT: u8 = 3;

/// Figures that go with each commit and checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::outbox) struct Counts {
    /// The number of the agent's run.
    pub(in crate::outbox) run: u32,
    /// Records that were dropped, ever.
    pub(in crate::outbox) dropped: u64,
    /// The id that the next record gets.
    pub(in crate::outbox) next_id: u64,
}

/// Records of a segment that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) ordinals: Ordinals,
    pub(super) parts: Parts,
}

/// What is stored at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Commit {
    /// It counts only once the database says so, by a number that is not smaller; 0 where it counts by itself.
    pub(super) confirm: u64,
    pub(super) counts: Counts,
    /// How many records its segment had before it.
    pub(super) before: u32,
    /// Records, each with its channel.
    pub(super) records: Vec<(String, Held)>,
    /// What is gone, by segment.
    pub(super) gone: BTreeMap<u64, Gone>,
}

/// All that is known of the log when a segment begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) counts: Counts,
    /// The last number that a commit was to be confirmed by.
    pub(super) confirm: u64,
    /// The segments before, in the order of their records.
    pub(super) segments: Vec<Segment>,
}

/// The content of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The first frame of a segment that is, or was, written to.
    Checkpoint(Checkpoint),
    /// The first frame of a segment that others were moved to.
    Moved,
    /// A commit.
    Commit(Commit),
}

/// Names that are written once and then told by number.
#[derive(Default)]
struct Names<'a>(BTreeMap<&'a str, u64>);

impl<'a> Names<'a> {
    fn of(names: impl Iterator<Item = &'a String>) -> Self {
        let mut all: BTreeMap<&str, u64> = names.map(|name| (name.as_str(), 0)).collect();
        (0_u64..).zip(all.values_mut()).for_each(|(number, place)| *place = number);
        Self(all)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        put(bytes, self.0.len() as u64);
        self.0.keys().for_each(|name| put_bytes(bytes, name.as_bytes()));
    }

    fn put(&self, bytes: &mut Vec<u8>, name: &str) {
        put(bytes, self.0.get(name).copied().unwrap_or(u64::MAX));
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Vec<String>> {
        let name = |reader: &mut Reader<'_>| String::from_utf8(reader.bytes()?.to_vec()).ok();
        (0..reader.count()?).map(|_| name(reader)).collect()
    }
}

fn named(reader: &mut Reader<'_>, names: &[String]) -> Option<String> {
    names.get(usize::try_from(reader.number()?).ok()?).cloned()
}

fn put_parts(bytes: &mut Vec<u8>, names: &Names<'_>, parts: &Parts) {
    put(bytes, parts.len() as u64);
    for (channel, part) in parts {
        names.put(bytes, channel);
        put(bytes, part.records);
        put(bytes, part.bytes);
    }
}

fn parts(reader: &mut Reader<'_>, names: &[String]) -> Option<Parts> {
    (0..reader.count()?)
        .map(|_| Some((named(reader, names)?, Part { records: reader.number()?, bytes: reader.number()? })))
        .collect()
}

impl Counts {
    fn encode(self, bytes: &mut Vec<u8>) {
        put(bytes, u64::from(self.run));
        put(bytes, self.dropped);
        put(bytes, self.next_id);
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { run: reader.small()?, dropped: reader.number()?, next_id: reader.number()? })
    }
}

/// What a commit is made of, before it is copied anywhere.
pub(super) struct Parcel<'a> {
    pub(super) confirm: u64,
    pub(super) counts: Counts,
    pub(super) before: u32,
    pub(super) records: &'a [(&'a String, &'a Held)],
    pub(super) gone: &'a BTreeMap<u64, Gone>,
}

impl Parcel<'_> {
    /// Times are told from those of the first record, since most were made together.
    pub(super) fn encode(&self) -> Vec<u8> {
        let payloads: usize = self.records.iter().map(|(_, held)| held.payload.len() + 24).sum();
        let mut bytes = Vec::with_capacity(payloads + 64);
        bytes.push(COMMIT);
        put(&mut bytes, self.confirm);
        self.counts.encode(&mut bytes);
        put(&mut bytes, u64::from(self.before));
        let gone = self.gone.values().flat_map(|gone| gone.parts.keys());
        let names = Names::of(self.records.iter().map(|(channel, _)| *channel).chain(gone));
        names.encode(&mut bytes);
        let least = self.records.iter().map(|(_, held)| held.id).min().unwrap_or(0);
        let first = self.records.first().map(|(_, held)| stamps(held)).unwrap_or_default();
        put(&mut bytes, least);
        put_signed(&mut bytes, first.0);
        put_signed(&mut bytes, first.1);
        put(&mut bytes, self.records.len() as u64);
        for (channel, held) in self.records {
            let (wall_ms, mono_us) = stamps(held);
            names.put(&mut bytes, channel);
            put(&mut bytes, held.id - least);
            put_signed(&mut bytes, i64::from(self.counts.run) - i64::from(held.run));
            put_signed(&mut bytes, wall_ms.wrapping_sub(first.0));
            put_signed(&mut bytes, mono_us.wrapping_sub(first.1));
            put_bytes(&mut bytes, &held.payload);
        }
        put(&mut bytes, self.gone.len() as u64);
        for (segment, gone) in self.gone {
            put(&mut bytes, *segment);
            gone.ordinals.encode(&mut bytes);
            put_parts(&mut bytes, &names, &gone.parts);
        }
        bytes
    }
}

fn stamps(held: &Held) -> (i64, i64) {
    (held.wall_ms, i64::try_from(held.mono.as_micros()).unwrap_or(i64::MAX))
}

impl Commit {
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (confirm, counts, before) = (reader.number()?, Counts::decode(reader)?, reader.small()?);
        let names = Names::decode(reader)?;
        let (least, first) = (reader.number()?, (reader.signed()?, reader.signed()?));
        let record = |reader: &mut Reader<'_>| {
            let channel = named(reader, &names)?;
            let id = least.checked_add(reader.number()?)?;
            let run = u32::try_from(i64::from(counts.run).checked_sub(reader.signed()?)?).ok()?;
            let wall_ms = first.0.wrapping_add(reader.signed()?);
            let mono = Duration::from_micros(u64::try_from(first.1.wrapping_add(reader.signed()?)).ok()?);
            let payload = Bytes::copy_from_slice(reader.bytes()?);
            let size = size(&channel, &payload);
            Some((channel, Held { id, size, run, wall_ms, mono, payload, place: None }))
        };
        let records = (0..reader.count()?).map(|_| record(reader)).collect::<Option<_>>()?;
        let gone = |reader: &mut Reader<'_>| {
            let segment = reader.number()?;
            let ordinals = Ordinals::decode(reader, 1 << 24)?;
            Some((segment, Gone { ordinals, parts: parts(reader, &names)? }))
        };
        let gone = (0..reader.count()?).map(|_| gone(reader)).collect::<Option<_>>()?;
        Some(Self { confirm, counts, before, records, gone })
    }

    /// The records of a channel with their places, in a segment of this number.
    pub(super) fn records_of<'a>(self, segment: u64, channel: &'a str) -> impl Iterator<Item = Held> + use<'a> {
        let places = (self.before..).map(move |ordinal| Place { segment, ordinal });
        let placed = self.records.into_iter().zip(places);
        placed.filter_map(move |((of, held), place)| (of == channel).then_some(Held { place: Some(place), ..held }))
    }
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![CHECKPOINT];
        self.counts.encode(&mut bytes);
        put(&mut bytes, self.confirm);
        let names = Names::of(self.segments.iter().flat_map(|segment| segment.parts.keys()));
        names.encode(&mut bytes);
        put(&mut bytes, self.segments.len() as u64);
        for segment in &self.segments {
            put(&mut bytes, segment.number);
            put(&mut bytes, segment.length);
            put(&mut bytes, u64::from(segment.total));
            put_parts(&mut bytes, &names, &segment.parts);
            segment.gone.encode(&mut bytes);
        }
        bytes
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (counts, confirm, names) = (Counts::decode(reader)?, reader.number()?, Names::decode(reader)?);
        let segment = |reader: &mut Reader<'_>| {
            let (number, length, total) = (reader.number()?, reader.number()?, reader.small()?);
            let parts = parts(reader, &names)?;
            Some(Segment { number, length, total, order: 0, parts, gone: Ordinals::decode(reader, total)? })
        };
        let mut segments = (0..reader.count()?).map(|_| segment(reader)).collect::<Option<Vec<_>>>()?;
        (0..).zip(&mut segments).for_each(|(order, segment)| segment.order = order);
        Some(Self { counts, confirm, segments })
    }
}

impl Content {
    /// The frame that tells a segment that others were moved to.
    pub(super) fn moved() -> Vec<u8> {
        vec![MOVED]
    }

    /// Reads what a frame says. `None` where that is not known here.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let content = match reader.byte()? {
            CHECKPOINT => Self::Checkpoint(Checkpoint::decode(&mut reader)?),
            MOVED => Self::Moved,
            COMMIT => Self::Commit(Commit::decode(&mut reader)?),
            _ => return None,
        };
        reader.0.is_empty().then_some(content)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(id: u64, run: u32, wall_ms: i64, mono: u64, payload: Vec<u8>) -> Held {
        let size = size("a", &payload);
        let mono = Duration::from_micros(mono);
        Held { id, size, run, wall_ms, mono, payload: payload.into(), place: None }
    }

    proptest! {
        #[test]
        fn a_commit_is_read_as_it_was_written(
            records in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<i64>(), 0..1_u64 << 50, any::<Vec<u8>>()), 0..9),
            confirm: u64,
            run: u32,
        ) {
            let channel = "a".to_owned();
            let records: Vec<Held> = records
                .into_iter()
                .map(|(id, run, wall_ms, mono, payload)| held(u64::from(id), run, wall_ms, mono, payload))
                .collect();
            let listed: Vec<(&String, &Held)> = records.iter().map(|held| (&channel, held)).collect();
            let ordinals = [1, 2, 3, 77].into_iter().collect();
            let parts = [("b".to_owned(), Part { records: 4, bytes: 400 })].into();
            let gone = [(9, Gone { ordinals, parts })].into();
            let counts = Counts { run, dropped: 3, next_id: 8 };
            let parcel = Parcel { confirm, counts, before: 5, records: &listed, gone: &gone };
            let bytes = parcel.encode();
            let owned = records.iter().map(|held| (channel.clone(), held.clone())).collect();
            let commit = Commit { confirm, counts, before: 5, records: owned, gone };
            prop_assert_eq!(Content::decode(&bytes), Some(Content::Commit(commit)));
            for end in 0..bytes.len() {
                prop_assert!(Content::decode(&bytes[..end]).is_none());
            }
        }

        #[test]
        fn anything_at_all_is_read_or_not(bytes: Vec<u8>) {
            Content::decode(&bytes);
        }
    }
}
