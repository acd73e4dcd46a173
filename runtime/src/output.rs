//! The output port: where the records, log lines and refusals of a guest go.

use std::sync::{Arc, Mutex, PoisonError};

/// Takes what a guest says. Called from within host functions, so an implementation should be quick.
pub trait Output: Send {
    /// A record, already held to the grant, the rate and the length limit.
    fn emit(&mut self, seq: u64, channel: &str, payload: &[u8]);
    /// A line for the log, already held to rate and length. Level: 0 error, 1 warn, 2 info, 3 debug, 4 trace.
    fn log(&mut self, level: u8, text: &str);
    /// The guest called a host function that it was not granted. Called once for each function.
    fn denied(&mut self, function: &'static str);
    /// Time passes while the guest runs; called between slices with monotonic nanoseconds.
    fn tick(&mut self, _mono_ns: u64) {}
}

/// One thing that a guest said, as [`Recorder`] keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A record.
    Emit {
        /// The frame during which it was emitted.
        seq: u64,
        /// The channel's name.
        channel: String,
        /// The record.
        payload: Vec<u8>,
    },
    /// A line for the log.
    Log {
        /// Its level.
        level: u8,
        /// The line.
        text: String,
    },
    /// A refused host function.
    Denied(&'static str),
}

/// Keeps everything in memory: for tests and for local runs. Clones share what they keep.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Said>>>);

impl Recorder {
    /// Takes what was said since the last call.
    pub fn take(&self) -> Vec<Said> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, said: Said) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }
}

impl Output for Recorder {
    fn emit(&mut self, seq: u64, channel: &str, payload: &[u8]) {
        self.push(Said::Emit { seq, channel: channel.to_owned(), payload: payload.to_vec() });
    }

    fn log(&mut self, level: u8, text: &str) {
        self.push(Said::Log { level, text: text.to_owned() });
    }

    fn denied(&mut self, function: &'static str) {
        self.push(Said::Denied(function));
    }
}
