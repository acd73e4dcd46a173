//! A sink that local programs read from: a Unix socket that gives records as they come.
//!
//! A reader gets what comes after it has connected, in the form that the settings name ([`super::lines`]). What it does not read in
//! time is lost to it and counted, and delays neither the frame path nor other readers: [`MOST_HELD`] bytes wait for each.
//!
//! Invariants: a reader gets whole records in their order. The socket file is as [`crate::unix_socket`] says.
//!
//! Failure modes: where the socket cannot be made it is tried again, with growing pauses. A reader beyond
//! [`SocketSettings::max_clients`] is turned away, and so is one that closes its end or writes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    rc::Rc,
};

use bytes::Bytes;
use sanderling_protocol::reported::SinkReport;
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use super::{Cause, Record, Sink, SocketFormat, SocketSettings, Tally, lines};
use crate::{
    backoff::Backoff,
    unix_socket::{self, Listening},
};

/// Bytes that wait for one reader.
pub(super) const MOST_HELD: usize = 256 * 1024;
/// Records that are written to one reader before others have their turn.
const TURN: usize = 64;

/// The sink. Dropping it turns its readers away.
pub struct SocketSink {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    name: String,
    settings: SocketSettings,
    tally: Tally,
    readers: RefCell<Vec<Rc<Waiting>>>,
}

/// What waits for one reader.
#[derive(Default)]
struct Waiting {
    records: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    work: Notify,
}

impl SocketSink {
    /// Starts the sink. Must be called within a [`tokio::task::LocalSet`].
    pub fn start(name: &str, settings: SocketSettings) -> Self {
        let tally = Tally::default();
        let shared = Rc::new(Shared { name: name.to_owned(), settings, tally, readers: RefCell::default() });
        Self { task: tokio::task::spawn_local(run(shared.clone())), shared }
    }
}

impl Drop for SocketSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sink for SocketSink {
    fn take(&self, record: &Record) {
        let shared = &self.shared;
        shared.tally.came();
        let readers = shared.readers.borrow();
        if readers.is_empty() {
            return;
        }
        let mut form = Vec::with_capacity(record.payload.len() + 256);
        match shared.settings.format {
            SocketFormat::Lines => lines::put_line(record, &mut form),
            SocketFormat::Frames => lines::put_frame(record, &mut form),
        }
        let form = Bytes::from(form);
        let slow = readers.iter().filter(|reader| !reader.give(&form)).count();
        shared.tally.dropped_many(Cause::SlowReader, u64::try_from(slow).unwrap_or(u64::MAX));
    }

    fn report(&self) -> SinkReport {
        self.shared.tally.report()
    }
}

impl Waiting {
    /// `false` where there is no room. One record has room in any case.
    fn give(&self, record: &Bytes) -> bool {
        let held = self.bytes.get();
        if held > 0 && held + record.len() > MOST_HELD {
            return false;
        }
        self.bytes.set(held + record.len());
        self.records.borrow_mut().push_back(record.clone());
        self.work.notify_one();
        true
    }

    /// Writes what the reader takes now, and at most [`TURN`] records.
    fn write(&self, stream: &UnixStream) -> io::Result<()> {
        let mut records = self.records.borrow_mut();
        for _ in 0..TURN {
            let Some(first) = records.front_mut() else { return Ok(()) };
            match stream.try_write(first) {
                Ok(count) => {
                    self.bytes.set(self.bytes.get().saturating_sub(count));
                    if count < first.len() {
                        drop(first.split_to(count));
                    } else {
                        records.pop_front();
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

async fn run(shared: Rc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        let why = match unix_socket::listen(&shared.settings.path) {
            Ok(listening) => {
                shared.tally.well();
                backoff.reset();
                accept(&listening, &shared).await
            }
            Err(error) => error,
        };
        let why = format!("socket {}: {why}", shared.settings.path.display());
        if shared.tally.failed(&why) {
            tracing::warn!(sink = shared.name, "{why}");
        }
        backoff.wait().await;
    }
}

/// Serves readers until the listener fails.
async fn accept(listening: &Listening, shared: &Rc<Shared>) -> io::Error {
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listening.accept() => match accepted {
                Ok(stream) if readers.len() < shared.settings.max_clients => {
                    let shared = shared.clone();
                    readers.spawn_local(async move { serve(&stream, &shared).await });
                }
                Ok(_) => tracing::warn!(sink = shared.name, "a reader was turned away: there are `max_clients` of them"),
                Err(error) => return error,
            },
            _ = readers.join_next(), if !readers.is_empty() => {}
        }
    }
}

/// A reader among those that are given records, for as long as this lives.
struct Seat<'a> {
    shared: &'a Shared,
    waiting: Rc<Waiting>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.shared.readers.borrow_mut().retain(|waiting| !Rc::ptr_eq(waiting, &self.waiting));
    }
}

async fn serve(stream: &UnixStream, shared: &Shared) {
    let seat = Seat { shared, waiting: Rc::default() };
    let waiting = &seat.waiting;
    shared.readers.borrow_mut().push(waiting.clone());
    loop {
        let idle = waiting.records.borrow().is_empty();
        let interest = if idle { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let ready = tokio::select! {
            ready = stream.ready(interest) => ready,
            () = waiting.work.notified(), if idle => continue,
        };
        let Ok(ready) = ready else { return };
        // A reader has nothing to say: what it says, or its end, is the end.
        let gone = ready.is_readable() && !matches!(stream.try_read(&mut [0]), Err(error) if would_block(&error));
        if gone || waiting.write(stream).is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::{fs::PermissionsExt, net::UnixStream as StdStream},
        path::Path,
    };

    use super::*;
    use crate::{sensors::fake::until, sinks::fake::record};

    /// Runs a sink while `test` runs.
    async fn with(
        max_clients: usize,
        format: SocketFormat,
        test: impl AsyncFnOnce(&SocketSink, &Path),
    ) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.sock");
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let sink = SocketSink::start("live", SocketSettings { path: path.clone(), max_clients, format });
                until(|| path.exists()).await;
                test(&sink, &path).await;
            })
            .await;
        drop(local);
        folder
    }

    async fn connect(sink: &SocketSink, path: &Path) -> StdStream {
        let readers = || sink.shared.readers.borrow().len();
        let before = readers();
        let stream = StdStream::connect(path).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        until(|| readers() > before).await;
        stream
    }

    /// Reads so many bytes while the sink's tasks go on.
    async fn read(stream: &StdStream, length: usize) -> Vec<u8> {
        let mut stream = stream.try_clone().unwrap();
        tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).unwrap();
            bytes
        })
        .await
        .unwrap()
    }

    fn form(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        lines::put_line(&record("m", "c", payload), &mut bytes);
        bytes
    }

    #[tokio::test]
    async fn every_reader_gets_what_comes_after_it_has_connected() {
        let folder = with(8, SocketFormat::Lines, async |sink, path| {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o660);
            sink.take(&record("m", "c", b"0"));
            let first = connect(sink, path).await;
            sink.take(&record("m", "c", b"1"));
            let second = connect(sink, path).await;
            sink.take(&record("m", "c", b"\xff\n"));
            let both = [form(b"1"), form(b"\xff\n")].concat();
            assert_eq!(read(&first, both.len()).await, both);
            let last = form(b"\xff\n");
            assert_eq!(read(&second, last.len()).await, last);
            assert_eq!((sink.report().records, sink.report().dropped.len()), (3, 0));
        })
        .await;
        assert!(!folder.path().join("records.sock").exists(), "the socket goes with the sink");
    }

    #[tokio::test]
    async fn a_slow_reader_loses_whole_records_and_delays_nobody() {
        with(8, SocketFormat::Frames, async |sink, path| {
            let slow = connect(sink, path).await;
            let quick = connect(sink, path).await;
            let payload = vec![7; 10_000];
            let mut frame = Vec::new();
            lines::put_frame(&record("m", "c", &payload), &mut frame);
            for _ in 0..200 {
                sink.take(&record("m", "c", &payload));
                assert_eq!(read(&quick, frame.len()).await, frame);
            }
            let lost = sink.report().dropped["slow_reader"];
            assert!((1..200).contains(&lost), "{lost}");
            for _ in lost..200 {
                assert_eq!(read(&slow, frame.len()).await, frame, "what it gets is whole");
            }
            sink.take(&record("m", "c", &payload));
            assert_eq!(read(&slow, frame.len()).await, frame, "it goes on when it has caught up");
        })
        .await;
    }

    #[tokio::test]
    async fn a_reader_that_leaves_makes_room_and_one_too_many_is_turned_away() {
        with(1, SocketFormat::Lines, async |sink, path| {
            let first = connect(sink, path).await;
            let second = StdStream::connect(path).unwrap();
            let gone = tokio::task::spawn_blocking(move || (&second).read(&mut [0; 1]).unwrap());
            assert_eq!(gone.await.unwrap(), 0);
            drop(first);
            until(|| sink.shared.readers.borrow().is_empty()).await;
            let mut talker = connect(sink, path).await;
            talker.write_all(b"hello").unwrap();
            until(|| sink.shared.readers.borrow().is_empty()).await;
        })
        .await;
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_made_is_reported_and_made_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.sock");
        std::fs::write(&path, b"precious").unwrap();
        let settings = SocketSettings { path: path.clone(), max_clients: 1, format: SocketFormat::Lines };
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let sink = SocketSink::start("live", settings);
                until(|| sink.report().error.is_some()).await;
                assert!(sink.report().error.unwrap().contains("no socket"));
                assert_eq!(std::fs::read(&path).unwrap(), b"precious");
                std::fs::remove_file(&path).unwrap();
                until(|| sink.report().error.is_none()).await;
                connect(&sink, &path).await;
            })
            .await;
    }
}
