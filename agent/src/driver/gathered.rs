//! Where everything goes that guests say: records to the outbox, to sinks and to modules whose input they are, lines to the log and to whoever
//! asked for them, changes of state to be stored with the records of their frame.
//!
//! Invariants: nothing here waits. A record reaches other modules and sinks before it is stored, and whether or not it can be.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use sanderling_protocol::worker::{State, StateChanges, StateError};
use tokio::sync::Notify as Wake;

use super::{logs::Logs, spool::Said, works::data_channel};
use crate::{
    clock::Clock,
    router::Router,
    sinks::Sinks,
    state::{Rows, States},
    workload::{self, Emitted, Records, StateOf},
};

/// What guests and the driver have said and the outbox does not have yet, the lines that somebody asked for, and what modules
/// keep.
pub(super) struct Gathered {
    said: Vec<Said>,
    pub(super) logs: Logs,
    clock: Arc<dyn Clock>,
    /// Told when there is something to be taken.
    wake: Rc<Wake>,
    states: States,
    /// Who gives records to modules whose input they are.
    router: Rc<Router>,
    pub(super) sinks: Sinks,
}

impl Gathered {
    pub(super) fn new(clock: Arc<dyn Clock>, wake: Rc<Wake>, states: States, router: Rc<Router>, sinks: Sinks) -> Self {
        Self { said: Vec::new(), logs: Logs::default(), clock, wake, states, router, sinks }
    }

    pub(super) fn push(&mut self, channel: String, payload: Bytes) {
        self.said.push(Said::Record(channel, payload));
    }

    /// Rows of modules' state to be stored.
    pub(super) fn rows(&mut self, rows: Rows) {
        if !rows.is_empty() {
            self.said.push(Said::Frame { records: Vec::new(), rows });
        }
    }

    /// What modules keep.
    pub(super) fn states(&mut self) -> &mut States {
        &mut self.states
    }

    pub(super) fn take(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }
}

impl workload::States for Gathered {
    fn state(&self, generation: u64, module: &str) -> State {
        self.states.state(generation, module)
    }

    fn keep(&mut self, of: StateOf<'_>, records: Vec<Emitted>, changes: StateChanges) -> Result<(), StateError> {
        let rows = self.states.keep(of.generation, of.module, &changes, of.quota)?;
        let for_mqtt = |Emitted { channel, seq, captured_ns, payload }| {
            self.router.record(of.module, &channel, &payload);
            let mqtt = self.sinks.take(of.module, &channel, seq, captured_ns, &payload);
            mqtt.then(|| (data_channel(of.module, &channel), payload))
        };
        let records = records.into_iter().filter_map(for_mqtt).collect();
        self.said.push(Said::Frame { records, rows });
        self.wake.notify_one();
        Ok(())
    }
}

impl Records for Gathered {
    fn record(&mut self, module: &str, channel: &str, seq: u64, captured_ns: Option<u64>, payload: &[u8]) {
        self.router.record(module, channel, payload);
        let payload = Bytes::copy_from_slice(payload);
        if self.sinks.take(module, channel, seq, captured_ns, &payload) {
            self.push(data_channel(module, channel), payload);
            self.wake.notify_one();
        }
    }

    fn log(&mut self, module: &str, level: u8, text: &str) {
        let now = self.clock.now();
        if self.logs.line(module, level, text, now.mono, now.wall_ms) {
            self.wake.notify_one();
        }
        // A guest's line may hold anything; it stays one line.
        let line = text.escape_debug();
        match level {
            0 => tracing::error!(module, "{line}"),
            1 => tracing::warn!(module, "{line}"),
            2 => tracing::info!(module, "{line}"),
            3 => tracing::debug!(module, "{line}"),
            _ => tracing::trace!(module, "{line}"),
        }
    }
}
