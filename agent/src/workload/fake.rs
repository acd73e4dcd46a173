//! Fakes of the workload's ports, in memory.

use std::{cell::RefCell, collections::BTreeMap, fs::File, io, path::PathBuf, rc::Rc};

use sanderling_guest::frame::{FrameHeader, HEADER};
use sanderling_protocol::{
    digest::Digest,
    worker::{State, StateChanges, StateError, ring::RingError},
};

use super::{Blobs, Emitted, Records, StateOf, States, inlet::Feed};

/// A way into a worker that only remembers. Clones share what they remember.
#[derive(Clone)]
pub struct FakeFeed {
    state: Rc<RefCell<FeedState>>,
}

struct FeedState {
    headers: Vec<FrameHeader>,
    used: usize,
    records: usize,
    largest: usize,
    asleep: bool,
    corrupt: bool,
    wakes: usize,
    interrupted: bool,
}

impl FakeFeed {
    /// Takes `records` frames of at most `largest` bytes before it is full. Its worker sleeps.
    pub fn new(records: usize, largest: usize) -> Self {
        let state = FeedState {
            headers: Vec::new(),
            used: 0,
            records,
            largest,
            asleep: true,
            corrupt: false,
            wakes: 0,
            interrupted: false,
        };
        Self { state: Rc::new(RefCell::new(state)) }
    }

    /// The sequence numbers of all frames that it was given.
    pub fn seqs(&self) -> Vec<u64> {
        self.state.borrow().headers.iter().map(|header| header.seq).collect()
    }

    /// Their headers.
    pub fn headers(&self) -> Vec<FrameHeader> {
        self.state.borrow().headers.clone()
    }

    /// What their headers say of frames dropped before them.
    pub fn dropped(&self) -> Vec<u32> {
        self.state.borrow().headers.iter().map(|header| header.dropped).collect()
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.state.borrow().wakes
    }

    /// Whether it was asked to leave a running guest.
    pub fn interrupted(&self) -> bool {
        self.state.borrow().interrupted
    }

    /// Makes room for `records` frames.
    pub fn release(&self, records: usize) {
        let mut state = self.state.borrow_mut();
        state.used = state.used.saturating_sub(records);
    }

    /// From now on its counters contradict each other.
    pub fn corrupt(&self) {
        self.state.borrow_mut().corrupt = true;
    }
}

impl Feed for FakeFeed {
    fn push(&mut self, header: &[u8; HEADER], content: &[u8]) -> Result<bool, RingError> {
        let mut state = self.state.borrow_mut();
        if state.corrupt {
            return Err(RingError::Corrupt);
        }
        if content.len() > state.largest {
            return Err(RingError::TooLarge { length: content.len(), capacity: 2 * state.largest });
        }
        if state.used >= state.records {
            return Err(RingError::Full);
        }
        state.used += 1;
        state.headers.extend(FrameHeader::from_bytes(header));
        Ok(std::mem::take(&mut state.asleep))
    }

    fn wake(&mut self) {
        self.state.borrow_mut().wakes += 1;
    }

    fn interrupt(&mut self) {
        self.state.borrow_mut().interrupted = true;
    }
}

/// Blobs that lie in files of any name.
#[derive(Debug, Default)]
pub struct FakeBlobs {
    /// Where each lies.
    pub files: RefCell<BTreeMap<String, PathBuf>>,
}

impl FakeBlobs {
    /// Lets `digest` be the content of the file at `path`.
    pub fn put(&self, digest: &Digest, path: PathBuf) {
        self.files.borrow_mut().insert(digest.to_string(), path);
    }
}

impl Blobs for FakeBlobs {
    fn open(&self, digest: &Digest) -> io::Result<File> {
        match self.files.borrow().get(&digest.to_string()) {
            Some(path) => File::open(path),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Records and lines that are kept as they come.
#[derive(Debug, Default)]
pub struct FakeRecords {
    /// Module, channel, sequence number and content of each record.
    pub records: Vec<(String, String, u64, Vec<u8>)>,
    /// Module, level and text of each line.
    pub lines: Vec<(String, u8, String)>,
}

impl Records for FakeRecords {
    fn record(&mut self, module: &str, channel: &str, seq: u64, _captured_ns: Option<u64>, payload: &[u8]) {
        self.records.push((module.to_owned(), channel.to_owned(), seq, payload.to_vec()));
    }

    fn log(&mut self, module: &str, level: u8, text: &str) {
        self.lines.push((module.to_owned(), level, text.to_owned()));
    }
}

/// State that is kept in memory, for all generations alike, and the records that were kept with changes.
#[derive(Debug, Default)]
pub struct FakeStates {
    /// The state of each module.
    pub states: BTreeMap<String, State>,
    /// Module, records and changes of each call that changed something.
    pub kept: Vec<(String, Vec<Emitted>, StateChanges)>,
}

impl States for FakeStates {
    fn state(&self, _generation: u64, module: &str) -> State {
        self.states.get(module).cloned().unwrap_or_default()
    }

    fn keep(&mut self, of: StateOf<'_>, records: Vec<Emitted>, changes: StateChanges) -> Result<(), StateError> {
        self.states.entry(of.module.to_owned()).or_default().apply(&changes, of.quota)?;
        self.kept.push((of.module.to_owned(), records, changes));
        Ok(())
    }
}
