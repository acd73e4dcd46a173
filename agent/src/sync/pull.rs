//! Pulls blobs: the index of each, then the chunks that are missing, a sliding window of bytes at a time.
//!
//! A blob goes through `surveyed -> index -> begun -> filling -> finishing -> whole`. The index is held to the signed
//! length, each chunk to the index, the whole to the signed digest; what does not hold is refused, listed, and asked for
//! again after a wait, for ever. A whole with a wrong digest means that the index lied: it is started over. So is a blob of
//! which the store has lost what was written, one with a chunk that does not come right however often it is asked for, and one
//! whose index contradicts another: nobody signs an index, so a false one must not hold up the honest one for ever.
//!
//! The store is asked first which blobs it has whole; of the others it says, once it has the index, which chunks it has: of an
//! earlier run, or in other blobs. Only what is left is pulled.
//!
//! Invariants: nothing is written that does not match the digest in the index. Memory holds at most the window, since a
//! chunk fills it until it is on disk. What a blob is made of is not signed, so [`Pull::holds`] says no before the store has
//! hashed the whole.

#[cfg(test)]
mod phase;
mod trouble;

use std::{collections::BTreeMap, sync::Arc};

use sanderling_protocol::{
    blob::{BlobIndex, ChunkDecoder, ChunkRef, MAX_CHUNK_MESSAGE_LEN},
    digest::Digest,
    reported::Progress,
    topics::Published,
};

use super::{
    BlobFault, Capacity, Effect, SyncError,
    backoff::Backoff,
    fetch::{Fetch, Limits},
    turn::{Turn, name},
};

/// About how long the index of a blob is: a chunk is rarely shorter than 16 KiB.
const INDEX_STEP: u64 = 16 * 1024;
const INDEX_ENTRY: u64 = 35;
/// The longest chunk as a packet, in bytes: with its topic and what else MQTT puts before it.
const LONGEST_PACKET: usize = MAX_CHUNK_MESSAGE_LEN + 512;

#[derive(Debug)]
struct Blob {
    length: u64,
    state: State,
    failures: u32,
    /// The index that it is filled by, as a digest of its message.
    index: Option<Digest>,
}

#[derive(Debug)]
enum State {
    /// Its index is awaited.
    Index,
    /// The store looks which of these chunks it has.
    Beginning(Arc<BlobIndex>),
    /// These bytes, in that many chunks, are not written yet.
    Filling { bytes: u64, chunks: usize },
    /// The store hashes the whole.
    Finishing,
    /// It is started over at this time.
    Failed { again_at: u64 },
    /// It is there.
    Whole,
}

#[derive(Debug)]
struct Wanted {
    length: u32,
    places: Vec<(Digest, usize)>,
    writing: usize,
}

/// What is pulled.
#[derive(Debug)]
pub(super) struct Pull {
    fetch: Fetch,
    backoff: Backoff,
    decoder: ChunkDecoder,
    /// What is wanted, by digest and signed length.
    wanted: BTreeMap<Digest, u64>,
    /// The number of the last survey, and whether it is not answered.
    survey: u64,
    surveying: bool,
    blobs: BTreeMap<Digest, Blob>,
    chunks: BTreeMap<Digest, Wanted>,
    pulled: u64,
}

impl Pull {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            fetch: Fetch::new(limits),
            backoff: limits.backoff,
            decoder: ChunkDecoder::new(),
            wanted: BTreeMap::new(),
            survey: 0,
            surveying: false,
            blobs: BTreeMap::new(),
            chunks: BTreeMap::new(),
            pulled: 0,
        }
    }

    /// Wants these blobs, by digest and signed length, and nothing else any more. What is on disk stays there until it is
    /// collected.
    pub(super) fn want(&mut self, blobs: BTreeMap<Digest, u64>, turn: &mut Turn<'_>) {
        if blobs != self.wanted {
            self.wanted = blobs;
            self.look_again(turn);
        }
    }

    /// Asks the store anew what there is of what is wanted, and what room.
    pub(super) fn look_again(&mut self, turn: &mut Turn<'_>) {
        self.fetch.clear();
        self.blobs.clear();
        self.chunks.clear();
        self.surveying = !self.wanted.is_empty();
        if self.surveying {
            self.survey += 1;
            turn.effect(Effect::Survey { number: self.survey, blobs: self.wanted.keys().copied().collect() });
        }
    }

    /// Begins to count the bytes that came over the link anew.
    pub(super) fn reset_progress(&mut self) {
        self.pulled = 0;
    }

    /// Which blobs the store has, and what the parts of the others take. Gives the bytes that the rest of them will take.
    pub(super) fn surveyed(&mut self, number: u64, held: &[Digest], taken: u64) -> Result<u64, SyncError> {
        if !self.surveying || number != self.survey {
            return Err(SyncError::NotSurveying { number });
        }
        self.surveying = false;
        let mut needed = 0_u64;
        for (digest, length) in self.wanted.clone() {
            let whole = held.contains(&digest);
            let state = if whole { State::Whole } else { State::Index };
            if !whole {
                needed = needed.saturating_add(length);
                self.want_index(digest, length);
            }
            self.blobs.insert(digest, Blob { length, state, failures: 0, index: None });
        }
        Ok(needed.saturating_sub(taken))
    }

    /// Whether these blobs are there, each hashed as a whole.
    pub(super) fn holds<'a>(&self, blobs: impl IntoIterator<Item = &'a Digest>) -> bool {
        let is_whole = |digest| matches!(self.blobs.get(digest), Some(Blob { state: State::Whole, .. }));
        !self.surveying && blobs.into_iter().all(is_whole)
    }

    /// How much of these is there.
    pub(super) fn progress(&self, blobs: &BTreeMap<Digest, u64>) -> Progress {
        let held = |blob: &Blob| match &blob.state {
            State::Whole | State::Finishing => blob.length,
            State::Filling { bytes, .. } => blob.length.saturating_sub(*bytes),
            _ => 0,
        };
        Progress {
            held: blobs.keys().filter_map(|digest| self.blobs.get(digest)).map(held).sum(),
            total: blobs.values().sum(),
            pulled: self.pulled,
        }
    }

    pub(super) fn link_up(&mut self, capacity: Capacity, turn: &mut Turn<'_>) {
        let filling = self.blobs.iter().filter(|(_, blob)| matches!(blob.state, State::Filling { .. }));
        for (digest, length) in filling.map(|(digest, blob)| (*digest, blob.length)).collect::<Vec<_>>() {
            self.want_index(digest, length);
        }
        self.fetch.link_up(capacity.messages, turn.now.ms);
        if usize::try_from(capacity.packet).unwrap_or(usize::MAX) < LONGEST_PACKET {
            let why = format!(
                "it takes no packets over {} bytes, and chunks have up to {MAX_CHUNK_MESSAGE_LEN}; raise its limit to 132 KiB",
                capacity.packet
            );
            turn.lacking("broker", why, true);
        }
    }

    pub(super) fn link_down(&mut self) -> Vec<Published> {
        self.fetch.link_down()
    }

    pub(super) fn poll(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.ms;
        let due: Vec<(Digest, u64)> = self
            .blobs
            .iter_mut()
            .filter(|(_, blob)| matches!(blob.state, State::Failed { again_at } if again_at <= now_ms))
            .map(|(digest, blob)| {
                blob.state = State::Index;
                (*digest, blob.length)
            })
            .collect();
        for (digest, length) in due {
            self.want_index(digest, length);
        }
        let asked = self.fetch.poll(now_ms, turn.chance);
        let absent: Vec<(Digest, u32)> = asked
            .absent
            .iter()
            .filter_map(|(what, times)| match what {
                Published::Chunk(digest) => Some((*digest, *times)),
                _ => None,
            })
            .collect();
        turn.ask(asked);
        for (chunk, times) in absent {
            self.doubt(chunk, times, turn);
        }
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        let failed = self.blobs.values().filter_map(|blob| match blob.state {
            State::Failed { again_at } => Some(again_at),
            _ => None,
        });
        failed.chain(self.fetch.wake_at()).min()
    }

    fn want_index(&mut self, digest: Digest, length: u64) {
        self.fetch.want(Published::Index(digest), INDEX_ENTRY.saturating_mul(1 + length / INDEX_STEP));
    }

    /// An index came.
    pub(super) fn index(&mut self, digest: Digest, message: &[u8], turn: &mut Turn<'_>) -> Result<(), SyncError> {
        let what = Published::Index(digest);
        let awaited = self.blobs.get(&digest).filter(|blob| matches!(blob.state, State::Index | State::Filling { .. }));
        let Some(blob) = awaited.filter(|_| self.fetch.arrived(&what, turn.now.ms)) else {
            return Err(SyncError::NotAwaited { what: name(&what) });
        };
        match BlobIndex::decode(message, blob.length) {
            Ok(index) => {
                self.fetch.done(&what);
                turn.refusals.came(&name(&what));
                self.begin(digest, index, Digest::of(message), turn);
            }
            Err(cause) => {
                self.fetch.again(&what, turn.now.ms, turn.chance);
                turn.refuse(name(&what), Some(digest), cause);
            }
        }
        Ok(())
    }

    /// Begins a blob by this index, unless it is being filled by just that one.
    fn begin(&mut self, digest: Digest, index: BlobIndex, named: Digest, turn: &mut Turn<'_>) {
        let Some(blob) = self.blobs.get_mut(&digest) else { return };
        if matches!(blob.state, State::Filling { .. }) && blob.index == Some(named) {
            return;
        }
        let index = Arc::new(index);
        blob.index = Some(named);
        blob.state = State::Beginning(index.clone());
        self.let_go(digest);
        turn.effect(Effect::Begin { digest, index });
    }

    /// The store has begun a blob: these chunks of its index are missing.
    pub(super) fn begun(
        &mut self,
        digest: Digest,
        missing: Result<Vec<usize>, BlobFault>,
        turn: &mut Turn<'_>,
    ) -> Result<(), SyncError> {
        let not_asked = SyncError::NotAsked { what: "a blob that was begun", digest };
        let Some(blob) = self.blobs.get_mut(&digest) else { return Err(not_asked) };
        let State::Beginning(index) = &blob.state else { return Err(not_asked) };
        let missing = match missing {
            Ok(missing) => missing,
            Err(fault) => {
                self.fail(digest, fault, turn);
                return Ok(());
            }
        };
        let listed = missing.into_iter().filter_map(|at| Some((at, *index.chunks().get(at)?)));
        let listed: Vec<(usize, ChunkRef)> = listed.collect();
        let mut lengths = BTreeMap::new();
        let contradicts = |(_, chunk): &(usize, ChunkRef)| {
            let known = self.chunks.get(&chunk.digest).map_or(chunk.length, |wanted| wanted.length);
            *lengths.entry(chunk.digest).or_insert(known) != chunk.length
        };
        if listed.iter().any(contradicts) {
            self.fail(
                digest,
                "a chunk is listed with two lengths, by this index or by another; it is asked for again",
                turn,
            );
            return Ok(());
        }
        let bytes = listed.iter().map(|(_, chunk)| u64::from(chunk.length)).sum();
        blob.state = State::Filling { bytes, chunks: listed.len() };
        for (at, chunk) in listed {
            let wanted = self.chunks.entry(chunk.digest).or_insert_with(|| {
                self.fetch.want(Published::Chunk(chunk.digest), u64::from(chunk.length));
                Wanted { length: chunk.length, places: Vec::new(), writing: 0 }
            });
            if !wanted.places.contains(&(digest, at)) {
                wanted.places.push((digest, at));
            }
        }
        self.finish_if_filled(digest, turn);
        Ok(())
    }

    /// A chunk came.
    pub(super) fn chunk(&mut self, digest: Digest, message: &[u8], turn: &mut Turn<'_>) -> Result<(), SyncError> {
        let what = Published::Chunk(digest);
        let awaited = self.chunks.get_mut(&digest).filter(|wanted| wanted.writing == 0);
        let Some(wanted) = awaited.filter(|_| self.fetch.arrived(&what, turn.now.ms)) else {
            return Err(SyncError::NotAwaited { what: name(&what) });
        };
        self.pulled = self.pulled.saturating_add(message.len() as u64);
        match self.decoder.decode(message, &ChunkRef { digest, length: wanted.length }) {
            Ok(content) => {
                turn.refusals.came(&name(&what));
                let content: Arc<[u8]> = content.into();
                wanted.writing = wanted.places.len();
                for (blob, index) in &wanted.places {
                    let (blob, index, content) = (*blob, *index, content.clone());
                    turn.effects.push(Effect::Write { blob, index, chunk: digest, content });
                }
            }
            Err(cause) => {
                let times = self.fetch.again(&what, turn.now.ms, turn.chance);
                turn.refuse(name(&what), Some(digest), cause);
                self.doubt(digest, times, turn);
            }
        }
        Ok(())
    }

    /// The store has written a chunk at one of its places, or has not.
    pub(super) fn wrote(
        &mut self,
        (digest, index): (Digest, usize),
        chunk: Digest,
        result: Result<(), BlobFault>,
        turn: &mut Turn<'_>,
    ) -> Result<(), SyncError> {
        let not_asked = SyncError::NotAsked { what: "a chunk that was written", digest: chunk };
        let is_writing = |wanted: &&mut Wanted| wanted.writing > 0 && wanted.places.contains(&(digest, index));
        let Some(wanted) = self.chunks.get_mut(&chunk).filter(is_writing) else {
            return Err(not_asked);
        };
        wanted.writing -= 1;
        let mut lost = None;
        match (self.blobs.get_mut(&digest).map(|blob| &mut blob.state), result) {
            (Some(State::Filling { bytes, chunks }), Ok(())) => {
                wanted.places.retain(|place| *place != (digest, index));
                *bytes = bytes.saturating_sub(u64::from(wanted.length));
                *chunks = chunks.saturating_sub(1);
            }
            (Some(State::Filling { .. }), Err(fault @ BlobFault::Gone(_))) => {
                wanted.places.retain(|place| *place != (digest, index));
                lost = Some(fault);
            }
            (Some(State::Filling { .. }), Err(fault)) => {
                turn.refuse(name(&Published::Chunk(chunk)), Some(chunk), fault);
            }
            // It is started over, and will say anew what it lacks.
            _ => wanted.places.retain(|place| *place != (digest, index)),
        }
        let what = Published::Chunk(chunk);
        if wanted.writing == 0 && wanted.places.is_empty() {
            self.chunks.remove(&chunk);
            self.fetch.done(&what);
        } else if wanted.writing == 0 {
            // A place was not written, or another blob came to want the chunk meanwhile.
            self.fetch.again(&what, turn.now.ms, turn.chance);
        }
        match lost {
            Some(fault) => self.fail(digest, fault, turn),
            None => self.finish_if_filled(digest, turn),
        }
        Ok(())
    }

    /// The store has hashed the whole.
    pub(super) fn finished(
        &mut self,
        digest: Digest,
        result: Result<(), BlobFault>,
        turn: &mut Turn<'_>,
    ) -> Result<(), SyncError> {
        let not_asked = SyncError::NotAsked { what: "a blob that was finished", digest };
        let blob =
            self.blobs.get_mut(&digest).filter(|blob| matches!(blob.state, State::Finishing)).ok_or(not_asked)?;
        match result {
            Ok(()) => blob.state = State::Whole,
            Err(fault) => self.fail(digest, fault, turn),
        }
        Ok(())
    }

    fn finish_if_filled(&mut self, digest: Digest, turn: &mut Turn<'_>) {
        let Some(blob) = self.blobs.get_mut(&digest) else { return };
        if matches!(blob.state, State::Filling { chunks: 0, .. }) {
            blob.state = State::Finishing;
            self.fetch.forget(&Published::Index(digest));
            turn.effect(Effect::Finish { digest });
        }
    }
}
