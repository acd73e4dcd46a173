//! What is counted of a sink, and what is wrong with it. Shared between the frame path and the sink's own thread.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sanderling_protocol::reported::SinkReport;

/// Why a record was lost on its way into a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Records came faster than the sink takes them.
    Full,
    /// The disk does not take them.
    Disk,
    /// It is longer than a file may be.
    TooLong,
    /// A reader does not read fast enough.
    SlowReader,
    /// The sink tests a value of it, and it is no JSON.
    NotJson,
    /// The line that is to be set cannot be had.
    Line,
    /// The line would not have rested long enough.
    TooSoon,
    /// The configuration has no such sink.
    NoSink,
}

impl Cause {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Disk => "disk",
            Self::TooLong => "too_long",
            Self::SlowReader => "slow_reader",
            Self::NotJson => "not_json",
            Self::Line => "line",
            Self::TooSoon => "too_soon",
            Self::NoSink => "no_sink",
        }
    }
}

/// The counts of one sink.
#[derive(Debug, Default)]
pub struct Tally {
    came: AtomicU64,
    dropped: Mutex<BTreeMap<Cause, u64>>,
    error: Mutex<Option<String>>,
}

impl Tally {
    /// A record came.
    pub fn came(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    /// A record was lost.
    pub fn dropped(&self, cause: Cause) {
        self.dropped_many(cause, 1);
    }

    /// So many records were lost.
    pub fn dropped_many(&self, cause: Cause, count: u64) {
        if count > 0 {
            let mut dropped = lock(&self.dropped);
            let counted = dropped.entry(cause).or_default();
            *counted = counted.saturating_add(count);
        }
    }

    /// It takes nothing until what `why` names is put right. Says whether that is news.
    pub fn failed(&self, why: &str) -> bool {
        let mut error = lock(&self.error);
        let news = error.as_deref() != Some(why);
        *error = Some(why.to_owned());
        news
    }

    /// What [`Tally::failed`] said is put right. Says whether there was something.
    pub fn well(&self) -> bool {
        lock(&self.error).take().is_some()
    }

    /// All of it, without a name.
    pub fn report(&self) -> SinkReport {
        let dropped = lock(&self.dropped);
        SinkReport {
            name: String::new(),
            records: self.came.load(Ordering::Relaxed),
            dropped: dropped.iter().map(|(cause, count)| (cause.name().to_owned(), *count)).collect(),
            pulses: None,
            error: lock(&self.error).clone(),
        }
    }
}

/// No value is left half-changed by a panic under these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
