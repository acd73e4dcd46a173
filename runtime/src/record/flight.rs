//! The flight recorder: writes down what comes to a guest, in a region of fixed size, within a fixed share of its time.
//!
//! The log goes on from a snapshot, or from the beginning of the instance. When it is full, a new snapshot is taken between two
//! frames, as soon as the guest has worked [`WORTH`] times as long as the last snapshot took; until then nothing is recorded, and a
//! capsule would hold the frame at hand alone. The same where a frame is large and its handling so short that copying it would
//! count.
//!
//! Invariants: nothing is written outside of the region; an entry is complete before the header tells of it, so that a process
//! that is killed in the middle leaves the log whole. Nothing is allocated while frames pass.
//!
//! Limits: a snapshot needs room for every page of the guest's memory that is not all zeros. Of a guest that changes its tables or
//! drops segments no snapshot is taken: its log ends when the region is full.

use std::sync::{
    Arc,
    atomic::{Ordering, compiler_fence},
};

use sanderling_protocol::{
    flight::{Answer, Basis, Export, FRAME_HEADER, HEADER, MAGIC, Source, kind, offset},
    worker::Fault,
};

use super::{Called, Notes};

#[cfg(test)]
mod tests;

/// A snapshot is taken when the guest has worked so many times as long as the last one took.
const WORTH: u64 = 50;
/// A log that is longer than this gives way to a snapshot when one is due, in bytes: what is written over and over stays in the cache.
const ENOUGH: usize = 64 * 1024;
/// Frames up to this length are always copied, in bytes.
const SMALL: usize = 4096;
/// Larger ones are copied where the last frame took so many nanoseconds for each byte, which is about fifty times as long as copying takes.
const NS_PER_BYTE: u64 = 2;
/// Room that is kept for the fault and the digest that end a log, in bytes.
const LAST_WORDS: usize = 4096;
/// Room that a frame leaves for the host calls that it leads to, in bytes.
const HEADROOM: usize = 8192;
/// An entry's kind and length.
const ENTRY: usize = 5;
/// Host functions that are told apart.
const FUNCTIONS: usize = 256;

/// The memory that a recorder writes to.
pub enum Region {
    /// Memory that is never unmapped, such as what a supervisor reads when this process is gone.
    Static(&'static mut [u8]),
    /// Memory of its own.
    Owned(Box<[u8]>),
}

impl Region {
    /// New memory.
    pub fn owned(bytes: usize) -> Self {
        Self::Owned(vec![0; bytes].into_boxed_slice())
    }

    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    fn seen(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// What becomes of what is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is written.
    Recording,
    /// It is left out until the next snapshot.
    Lost,
    /// It is left out: the region holds not even a few entries.
    Off,
}

/// A flight recorder.
pub struct Flight {
    region: Region,
    notes: Arc<Notes>,
    state: State,
    snapshot_end: usize,
    log_end: usize,
    /// Functions whose names are in the log already.
    named: [u64; FUNCTIONS / 64],
    /// Whether a snapshot would hold all of the guest's state.
    pub(crate) whole: bool,
    /// Work since the last snapshot, in nanoseconds.
    worked_ns: u64,
    /// What the last snapshot took, in nanoseconds.
    cost_ns: u64,
    /// What the last frame took, in nanoseconds.
    last_ns: Option<u64>,
    /// A frame of this length did not fit even behind a new snapshot.
    too_long: usize,
    calls: u64,
    /// A call into the guest has begun and not ended.
    begun: bool,
    /// Somebody wants the next frame on record, whatever it costs.
    wanted: bool,
    /// The record stands still, so that it can be read.
    held: bool,
}

/// Writes forward within bounds; what does not fit is left out, and said.
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    pub(super) fn put(&mut self, part: &[u8]) {
        let end = self.at.saturating_add(part.len());
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(part);
        }
        // Counted even where it does not fit, so that the room that is wanted is known.
        self.at = end;
    }

    pub(super) fn fits(&self) -> bool {
        self.at <= self.bytes.len()
    }
}

impl Flight {
    /// A recorder that has seen nothing. A region that holds not even a few entries records nothing.
    pub fn new(mut region: Region) -> Self {
        let bytes = region.bytes();
        let usable = bytes.len().min(sanderling_protocol::flight::MAX_REGION);
        if let Some(head) = bytes.get_mut(..HEADER) {
            head.fill(0);
        }
        let state = if usable < HEADER + LAST_WORDS + HEADROOM { State::Off } else { State::Lost };
        let mut flight = Self {
            region,
            notes: Arc::default(),
            state,
            snapshot_end: HEADER,
            log_end: HEADER,
            named: [0; FUNCTIONS / 64],
            whole: false,
            worked_ns: 0,
            cost_ns: 0,
            last_ns: None,
            too_long: usize::MAX,
            calls: 0,
            begun: false,
            wanted: false,
            held: false,
        };
        if state != State::Off {
            flight.begin_log(Basis::Nothing, HEADER);
        }
        flight
    }

    /// What was recorded: header, snapshot and log.
    pub fn recorded(&self) -> &[u8] {
        self.region.seen().get(..self.log_end).unwrap_or_default()
    }

    pub(super) fn notes(&self) -> Arc<Notes> {
        Arc::clone(&self.notes)
    }

    /// A new instance begins: everything before it is forgotten.
    pub(crate) fn instance(&mut self) {
        if self.state == State::Off || self.held {
            return;
        }
        self.state = State::Recording;
        self.begin_log(Basis::Instance, HEADER);
        self.entry(kind::INSTANCE, &[]);
    }

    /// Whether a snapshot should be taken before a frame of this length.
    pub(crate) fn wants_snapshot(&self, content: usize) -> bool {
        if !self.whole || self.state == State::Off || self.held {
            return false;
        }
        if self.wanted {
            return true;
        }
        let due = self.worked_ns >= self.cost_ns.saturating_mul(WORTH);
        if !due || !self.is_worth(content) || content >= self.too_long {
            return false;
        }
        self.state == State::Lost || self.log_end - self.snapshot_end > ENOUGH || !self.has_room(content)
    }

    /// Whether copying a frame of this length is little beside what its handling takes, or is wanted nevertheless.
    fn is_worth(&self, content: usize) -> bool {
        self.wanted
            || content <= SMALL
            || self.last_ns.is_none_or(|took| took >= (content as u64).saturating_mul(NS_PER_BYTE))
    }

    fn has_room(&self, content: usize) -> bool {
        let wanted = ENTRY + FRAME_HEADER + content + HEADROOM;
        self.log_end.saturating_add(wanted) <= self.limit()
    }

    /// Where the log ends at the latest, last words excepted.
    fn limit(&self) -> usize {
        self.region.seen().len().saturating_sub(LAST_WORDS)
    }

    /// Takes a snapshot with `write`, which took `took_ns` when it returns.
    pub(crate) fn write_snapshot(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        if self.state == State::Off {
            return;
        }
        self.begin_log(Basis::Nothing, HEADER);
        let limit = self.limit().saturating_sub(HEADROOM);
        let bytes = self.region.bytes().get_mut(..limit).unwrap_or_default();
        let mut writer = Writer { bytes, at: HEADER };
        write(&mut writer);
        let (fits, end) = (writer.fits(), writer.at);
        if fits {
            self.state = State::Recording;
            self.begin_log(Basis::Snapshot, end);
        } else {
            self.lose(end);
        }
    }

    /// What a snapshot took.
    pub(crate) fn paid(&mut self, ns: u64) {
        self.cost_ns = ns;
        self.worked_ns = 0;
    }

    /// A frame begins.
    pub(crate) fn frame(&mut self, header: &[u8; FRAME_HEADER], content: &[u8]) {
        self.calls = 0;
        if self.state != State::Recording {
            return;
        }
        if !self.is_worth(content.len()) {
            return self.lose(0);
        }
        if !self.has_room(content.len()) {
            if self.log_end == self.snapshot_end {
                self.too_long = self.too_long.min(content.len());
            }
            return self.lose(self.log_end + content.len());
        }
        self.write_frame(header, content);
    }

    fn write_frame(&mut self, header: &[u8; FRAME_HEADER], content: &[u8]) {
        let at = self.log_end + ENTRY + FRAME_HEADER;
        self.entry(kind::FRAME, &[header, content]);
        self.set(offset::FRAME, at);
        self.set(offset::FRAME_LEN, content.len());
    }

    /// A call into the guest begins.
    pub(super) fn begin(&mut self, export: Export, argument: u32) {
        self.begun = true;
        self.entry(kind::BEGIN, &[&[export as u8], &argument.to_le_bytes()]);
    }

    /// What was begun has ended well.
    pub(super) fn end(&mut self, fuel: u64, memory: u64) {
        if std::mem::take(&mut self.begun) {
            self.entry(kind::END, &[&fuel.to_le_bytes(), &memory.to_le_bytes()]);
        }
    }

    /// A frame took so long.
    pub(crate) fn worked(&mut self, ns: u64) {
        self.worked_ns = self.worked_ns.saturating_add(ns);
        self.last_ns = Some(ns);
    }

    /// The guest calls a host function.
    pub(crate) fn call(&mut self, called: Called, arguments: &[u64]) {
        self.notes.clear();
        if self.state != State::Recording {
            return;
        }
        self.calls += 1;
        let calls = self.calls.to_le_bytes();
        self.set_bytes(offset::CALLS, &calls);
        self.name(called);
        let at = self.log_end + ENTRY;
        let mut writer = Writer { bytes: self.region.bytes(), at };
        writer.put(&called.id.to_le_bytes());
        for argument in arguments {
            writer.put(&argument.to_le_bytes());
        }
        let end = writer.at;
        self.close(kind::CALL, end);
    }

    fn name(&mut self, called: Called) {
        let bit = 1 << (called.id % 64);
        let Some(word) = self.named.get_mut(usize::from(called.id / 64)) else { return };
        if *word & bit == 0 {
            *word |= bit;
            let length = u16::try_from(called.module.len()).unwrap_or(u16::MAX);
            let (id, length) = (called.id.to_le_bytes(), length.to_le_bytes());
            self.entry(kind::FUNCTION, &[&id, &length, called.module.as_bytes(), called.name.as_bytes()]);
        }
    }

    /// The host function has returned; what it wrote is in `memory`.
    pub(crate) fn returned(&mut self, fuel: u64, answer: &Answer, memory: &[u8]) {
        if self.state != State::Recording {
            return;
        }
        let at = self.log_end + ENTRY;
        let notes = Arc::clone(&self.notes);
        let mut writer = Writer { bytes: self.region.bytes(), at };
        let (what, bits) = answer.to_parts();
        writer.put(&fuel.to_le_bytes());
        writer.put(&[what]);
        writer.put(&bits.to_le_bytes());
        for (ptr, len, frame) in notes.ranges() {
            writer.put(&ptr.to_le_bytes());
            writer.put(&len.to_le_bytes());
            writer.put(&frame.unwrap_or(Source::INLINE).to_le_bytes());
            if frame.is_none() {
                let from = ptr as usize;
                // A range was checked when it was noted, and memory does not shrink.
                writer.put(memory.get(from..from + len as usize).unwrap_or_default());
            }
        }
        let end = writer.at;
        self.close(kind::RETURN, end);
    }

    /// The next frame is to be on record, whatever it costs.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// From here on the record stands still, until [`Flight::release`]; `frame` is what was given last, and in it even where nothing
    /// is recorded. `digest` is that of the state that it left.
    pub(crate) fn hold(&mut self, frame: ([u8; FRAME_HEADER], &[u8]), digest: Option<u64>) {
        self.wanted = false;
        if self.state == State::Off {
            return;
        }
        self.write_lost(Some(frame));
        if let Some(digest) = digest {
            self.state(digest);
        }
        self.state = State::Lost;
        self.held = true;
    }

    /// The record may change again.
    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    /// The guest is over; `frame` is what it was given last. Written even where nothing is recorded.
    pub(crate) fn fault(&mut self, fault: &Fault, frame: Option<([u8; FRAME_HEADER], &[u8])>) {
        if self.state == State::Off {
            return;
        }
        self.write_lost(frame);
        // Our own type, with string keys throughout: writing it to memory has no way to fail.
        let json = serde_json::to_vec(fault).unwrap_or_default();
        self.last_words(kind::FAULT, &json);
    }

    /// The frame alone, where nothing is recorded.
    fn write_lost(&mut self, frame: Option<([u8; FRAME_HEADER], &[u8])>) {
        if self.state != State::Lost {
            return;
        }
        let wanted = self.number(offset::WANTED);
        self.begin_log(Basis::Nothing, HEADER);
        self.set_bytes(offset::WANTED, &wanted);
        if let Some((header, content)) = frame
            && self.has_room(content.len())
        {
            self.state = State::Recording;
            self.write_frame(&header, content);
        }
    }

    /// The digest of the state that the guest was left in, by a fault or by a frame.
    pub(crate) fn state(&mut self, digest: u64) {
        self.last_words(kind::STATE, &digest.to_le_bytes());
    }

    /// An entry that may use the room that is kept.
    fn last_words(&mut self, what: u8, body: &[u8]) {
        if self.state == State::Off || self.log_end + ENTRY + body.len() > self.region.seen().len() {
            return;
        }
        let at = self.log_end + ENTRY;
        let mut writer = Writer { bytes: self.region.bytes(), at };
        writer.put(body);
        let end = writer.at;
        self.commit(what, end);
    }

    fn entry(&mut self, what: u8, parts: &[&[u8]]) {
        if self.state != State::Recording {
            return;
        }
        let at = self.log_end + ENTRY;
        let mut writer = Writer { bytes: self.region.bytes(), at };
        for part in parts {
            writer.put(part);
        }
        let end = writer.at;
        self.close(what, end);
    }

    /// Takes an entry in whose body ends there, if there was room for it.
    fn close(&mut self, what: u8, end: usize) {
        if end > self.limit() {
            return self.lose(end);
        }
        self.commit(what, end);
    }

    fn commit(&mut self, what: u8, end: usize) {
        let length = u32::try_from(end - self.log_end - ENTRY).unwrap_or(u32::MAX);
        let mut head = [what; ENTRY];
        if let Some(place) = head.last_chunk_mut() {
            *place = length.to_le_bytes();
        }
        self.set_bytes(self.log_end, &head);
        compiler_fence(Ordering::Release);
        self.log_end = end;
        self.set(offset::LOG_END, end);
    }

    /// There is no room, or no time: nothing is recorded until the next snapshot.
    fn lose(&mut self, wanted: usize) {
        self.state = State::Lost;
        self.begin_log(Basis::Nothing, HEADER);
        if wanted > 0 {
            self.set(offset::WANTED, wanted + LAST_WORDS + HEADROOM);
        }
    }

    fn begin_log(&mut self, basis: Basis, at: usize) {
        self.set_bytes(offset::BASIS, &(Basis::Nothing as u32).to_le_bytes());
        compiler_fence(Ordering::Release);
        (self.snapshot_end, self.log_end, self.named) = (at, at, [0; FUNCTIONS / 64]);
        self.set_bytes(offset::MAGIC, &MAGIC);
        self.set(offset::LOG_END, at);
        self.set(offset::SNAPSHOT_END, at);
        self.set_bytes(offset::FRAME_LEN, &u32::MAX.to_le_bytes());
        self.set(offset::WANTED, 0);
        compiler_fence(Ordering::Release);
        self.set_bytes(offset::BASIS, &(basis as u32).to_le_bytes());
    }

    fn number(&self, at: usize) -> [u8; 4] {
        self.region.seen().get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
    }

    fn set(&mut self, at: usize, value: usize) {
        self.set_bytes(at, &u32::try_from(value).unwrap_or(u32::MAX - 1).to_le_bytes());
    }

    fn set_bytes(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.region.bytes().get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}
