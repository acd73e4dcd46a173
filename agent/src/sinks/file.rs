//! A sink that appends to a file, a line for each record ([`super::lines`]), and rotates it.
//!
//! A thread of its own writes, so that a slow or broken disk holds up nobody: on the frame path a record is only queued. Records that
//! come close to each other are written together.
//!
//! Invariants: a file holds whole lines in the order of the records, [`FileSettings::max_bytes`] of them at most. With
//! [`FileSync::Interval`] what was written [`SYNC_EVERY`] ago survives a power cut.
//!
//! Failure modes: what the disk does not take is tried again, after growing pauses ([`crate::backoff`]); meanwhile
//! [`MOST_HELD`] bytes of lines wait, and what comes beyond is dropped and counted. A write that came through in part is taken back.
//! What a power cut left of a last line is cut off when the file is opened. A file that ends in something else is not touched.
//!
//! Limits: lines that are longer than a file may be are dropped and counted.

mod log;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use sanderling_protocol::reported::SinkReport;

use self::log::LogFile;
use super::{
    Cause, FileSettings, FileSync, Guard, Record, Sink, Tally, lines,
    queue::{Entrance, Exit, queue},
};
use crate::{backoff, clock::Clock, store::disk::Disk};

/// Lines of at most so many bytes wait for a disk that does not take them.
pub(super) const MOST_HELD: usize = 256 * 1024;
/// How long a line may wait until it is on disk, with [`FileSync::Interval`].
pub(super) const SYNC_EVERY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3600);

/// The sink.
pub struct FileSink {
    entrance: Entrance,
    tally: Arc<Tally>,
}

impl FileSink {
    /// Starts the sink's thread, which ends when the sink is dropped and all is written that the disk takes.
    ///
    /// # Errors
    /// What the system says, where it gives no thread.
    pub fn start(
        name: &str,
        settings: FileSettings,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        guard: Guard,
    ) -> io::Result<Self> {
        let tally = Arc::new(Tally::default());
        let (entrance, exit) = queue(tally.clone());
        let mut writer = Writer::new(name.to_owned(), settings, disk, tally.clone());
        let run = move || {
            writer.run(&exit, &*clock);
            drop(guard);
        };
        thread::Builder::new().name("sink-file".into()).stack_size(128 * 1024).spawn(run)?;
        Ok(Self { entrance, tally })
    }
}

impl Sink for FileSink {
    fn take(&self, record: &Record) {
        self.entrance.give(record);
    }

    fn report(&self) -> SinkReport {
        self.tally.report()
    }
}

/// Lines that are not written yet.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The length of each line.
    lengths: VecDeque<usize>,
}

impl Lines {
    /// The whole lines at the beginning that fit into `room` bytes.
    fn fitting(&self, room: u64) -> (usize, &[u8]) {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let (mut count, mut end) = (0, 0);
        for length in &self.lengths {
            if end + length > room {
                break;
            }
            (count, end) = (count + 1, end + length);
        }
        (count, self.bytes.get(..end).unwrap_or_default())
    }

    fn remove(&mut self, count: usize) {
        let end: usize = self.lengths.drain(..count).sum();
        self.bytes.drain(..end);
        if self.bytes.is_empty() && self.bytes.capacity() > MOST_HELD / 4 {
            self.bytes = Vec::new();
        }
    }
}

/// The thread, without the thread: it decides by the time that it is told.
struct Writer {
    name: String,
    log: LogFile,
    sync: FileSync,
    tally: Arc<Tally>,
    lines: Lines,
    line: Vec<u8>,
    /// When the oldest line was written that is not on disk.
    unsynced_since: Option<Duration>,
    /// When to try again after a failure, and how long the pause before that was.
    again: Option<(Duration, Duration)>,
}

impl Writer {
    fn new(name: String, settings: FileSettings, disk: Arc<dyn Disk>, tally: Arc<Tally>) -> Self {
        Self {
            name,
            sync: settings.sync,
            log: LogFile::new(disk, settings),
            tally,
            lines: Lines::default(),
            line: Vec::new(),
            unsynced_since: None,
            again: None,
        }
    }

    fn run(&mut self, exit: &Exit, clock: &dyn Clock) {
        // What a power cut left is seen to now, and what is wrong with the file is known before the first record.
        self.turn(clock.mono());
        loop {
            match exit.next(self.due(clock.mono())) {
                Ok(record) => {
                    self.take(&record);
                    while self.lines.bytes.len() < MOST_HELD / 2
                        && let Ok(record) = exit.try_next()
                    {
                        self.take(&record);
                    }
                    self.turn(clock.mono());
                }
                Err(RecvTimeoutError::Timeout) => self.turn(clock.mono()),
                Err(RecvTimeoutError::Disconnected) => return self.last(),
            }
        }
    }

    fn take(&mut self, record: &Record) {
        self.line.clear();
        lines::put_line(record, &mut self.line);
        if !self.log.fits(self.line.len()) {
            self.tally.dropped(Cause::TooLong);
        } else if self.lines.bytes.len() + self.line.len() > MOST_HELD && self.again.is_some() {
            self.tally.dropped(Cause::Disk);
        } else {
            self.lines.bytes.extend_from_slice(&self.line);
            self.lines.lengths.push_back(self.line.len());
        }
    }

    /// How long until [`Writer::turn`] has something to do.
    fn due(&self, now: Duration) -> Duration {
        let sync = self.unsynced_since.map(|since| since + SYNC_EVERY);
        let at = self.again.map(|(at, _)| at).or(sync);
        at.map_or(IDLE, |at| at.saturating_sub(now))
    }

    /// Does what is due.
    fn turn(&mut self, now: Duration) {
        if self.again.is_some_and(|(at, _)| at > now) {
            return;
        }
        let done = self.write(now).and_then(|()| match self.unsynced_since {
            Some(since) if now >= since + SYNC_EVERY => self.put_on_disk(),
            _ => Ok(()),
        });
        match done {
            Ok(()) => {
                self.again = None;
                if self.tally.well() {
                    tracing::info!(sink = self.name, "the file is written again");
                }
            }
            Err(error) => {
                let pause = backoff::after(self.again.map(|(_, pause)| pause));
                self.again = Some((now + pause, pause));
                let why = format!("file {}: {error}", self.log.path().display());
                if self.tally.failed(&why) {
                    tracing::warn!(sink = self.name, "{why}");
                }
            }
        }
    }

    fn write(&mut self, now: Duration) -> io::Result<()> {
        let wrote = !self.lines.lengths.is_empty();
        self.log.append(&mut self.lines)?;
        if wrote && self.sync == FileSync::Interval {
            self.unsynced_since.get_or_insert(now);
        }
        Ok(())
    }

    fn put_on_disk(&mut self) -> io::Result<()> {
        self.log.sync()?;
        self.unsynced_since = None;
        Ok(())
    }

    /// The end: what the disk does not take now is lost, and counted for whoever still looks.
    fn last(&mut self) {
        let written = self.log.append(&mut self.lines);
        let done = match self.sync {
            FileSync::Interval => written.and_then(|()| self.log.sync()),
            FileSync::Never => written,
        };
        if let Err(error) = done {
            let lost = self.lines.lengths.len();
            self.tally.dropped_many(Cause::Disk, u64::try_from(lost).unwrap_or(u64::MAX));
            tracing::warn!(sink = self.name, lost, %error, "the last lines were not written");
        }
    }
}
