//! Fakes for the sinks' port: a sink that remembers what came, and records to give.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use sanderling_protocol::reported::SinkReport;

use super::{Origin, Record, Sink, Tally};

/// Remembers records.
#[derive(Default)]
pub struct FakeSink {
    records: RefCell<Vec<Record>>,
    tally: Tally,
}

impl FakeSink {
    /// A sink without records.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Module, channel and payload of each record so far.
    pub fn records(&self) -> Vec<(String, String, Vec<u8>)> {
        let told = |record: &Record| {
            let Origin { module, channel } = &*record.origin;
            (module.clone(), channel.clone(), record.payload.to_vec())
        };
        self.records.borrow().iter().map(told).collect()
    }

    /// The last record.
    pub fn last(&self) -> Option<Record> {
        self.records.borrow().last().cloned()
    }
}

impl Sink for FakeSink {
    fn take(&self, record: &Record) {
        self.tally.came();
        self.records.borrow_mut().push(record.clone());
    }

    fn report(&self) -> SinkReport {
        self.tally.report()
    }
}

/// A record that came a second after 1970, in frame 7.
pub fn record(module: &str, channel: &str, payload: &[u8]) -> Record {
    Record {
        origin: Arc::new(Origin { module: module.to_owned(), channel: channel.to_owned() }),
        seq: 7,
        captured_ns: None,
        came_ns: 0,
        at_ms: 1000,
        payload: Bytes::copy_from_slice(payload),
    }
}
