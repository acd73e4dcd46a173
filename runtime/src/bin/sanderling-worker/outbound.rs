//! What the worker has to say, gathered and written in batches.
//!
//! Messages wait until the ring is empty, until 16 KiB are waiting, or until the oldest is 5 ms old. Writing blocks: a supervisor
//! that does not read holds its worker up, not the other way round.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sanderling_protocol::worker::{FromWorker, StateChanges};
use sanderling_runtime::{Keep, Output};

/// Messages are written when this many bytes are waiting.
const FULL: usize = 16 * 1024;
/// Messages are written when the oldest has waited this long.
const STALE_NS: u64 = 5_000_000;

/// The messages that wait. Clones share them: the guest's host functions add to what the worker's loop writes.
#[derive(Clone)]
pub(crate) struct Outbound(Arc<Mutex<Waiting>>);

struct Waiting {
    socket: Arc<UnixStream>,
    bytes: Vec<u8>,
    /// When somebody first looked at the messages that wait.
    since_ns: Option<u64>,
    failed: Option<io::Error>,
}

impl Outbound {
    pub(crate) fn new(socket: Arc<UnixStream>) -> Self {
        let bytes = Vec::with_capacity(2 * FULL);
        Self(Arc::new(Mutex::new(Waiting { socket, bytes, since_ns: None, failed: None })))
    }

    /// Adds a message.
    pub(crate) fn say(&self, message: &FromWorker<'_>) {
        let mut waiting = self.lock();
        message.encode(&mut waiting.bytes);
        if waiting.bytes.len() >= FULL {
            waiting.flush();
        }
    }

    /// Writes what waits if it has waited long enough at `now_ns`; `true` if something was written.
    pub(crate) fn keep_fresh(&self, now_ns: u64) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes.is_empty() {
            return false;
        }
        let since = *waiting.since_ns.get_or_insert(now_ns);
        let stale = now_ns.saturating_sub(since) >= STALE_NS;
        if stale {
            waiting.flush();
        }
        stale
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The first error of any write so far.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut waiting = self.lock();
        waiting.flush();
        waiting.failed.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn flush(&mut self) {
        if self.failed.is_none()
            && !self.bytes.is_empty()
            && let Err(error) = (&*self.socket).write_all(&self.bytes)
        {
            self.failed = Some(error);
        }
        self.bytes.clear();
        self.since_ns = None;
    }
}

impl Output for Outbound {
    fn emit(&mut self, seq: u64, channel: &str, payload: &[u8]) {
        self.say(&FromWorker::Emit { seq, channel, payload });
    }

    fn log(&mut self, level: u8, text: &str) {
        self.say(&FromWorker::Log { level, text });
    }

    fn denied(&mut self, function: &'static str) {
        self.say(&FromWorker::Denied { function });
    }

    fn tick(&mut self, mono_ns: u64) {
        self.keep_fresh(mono_ns);
    }
}

impl Keep for Outbound {
    fn keep(&mut self, changes: &StateChanges) {
        for (key, value) in changes {
            self.say(&match value {
                Some(value) => FromWorker::StateSet { key, value },
                None => FromWorker::StateDelete { key },
            });
        }
    }
}
