//! One running worker process: its socket, its ring, its end.
//!
//! Purpose: everything that is said to a worker and heard from it passes here; what it means is decided by [`super::life`].
//!
//! Invariants: nothing here waits for the worker without a bound. A worker that is dropped is killed.
//!
//! Failure modes: each ends in a [`Fault`] that says what happened.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::net::UnixStream as StdStream},
    process::ExitStatus,
    rc::Rc,
    time::Duration,
};

use rustix::fs::OFlags;
use sanderling_protocol::worker::{Fault, FaultCode, FromWorker, Inbox, Ready, ToWorker, WireError};
use tokio::{net::unix::pipe, time::timeout};

use super::{
    Blobs, Confinement, ModuleSpec, Options, exit,
    flight::{Captured, FlightFile},
    inlet::Feed,
    line::{Line, RingFeed},
    shared::{FrameRing, Signs},
    spawn::{self, Process},
};

/// A worker that has said its last word, or closed its socket, ends within this time, or is killed.
const LEAVE: Duration = Duration::from_millis(500);
/// The last that is kept of what a worker writes to standard error, in bytes.
const LAST_WORDS: usize = 1024;
/// What a pipe holds, in bytes.
const PIPE: usize = 64 * 1024;

/// A worker process.
pub(super) struct Worker {
    process: Process,
    line: Rc<Line>,
    inbox: Inbox,
    ring: Option<FrameRing>,
    flight: Option<FlightFile>,
    signs: Signs,
    errors: Option<pipe::Receiver>,
    last_words: Vec<u8>,
    /// It spoke a moment ago, and may not have paused since.
    speaks: bool,
}

/// A module that a confined worker has loaded and that waits for its beginning. Dropped, it is killed.
pub struct Staged {
    module: String,
    pub(super) worker: Worker,
    pub(super) ready: Ready,
}

impl Staged {
    /// Loads a module.
    ///
    /// # Errors
    /// The fault that its start would end in.
    pub(super) async fn load(spec: &ModuleSpec, options: &Options, blobs: &dyn Blobs) -> Result<Self, Fault> {
        let mut worker = Worker::start(spec, options, blobs)?;
        let ready = worker.ready(options).await?;
        Ok(Self { module: spec.module.name.clone(), worker, ready })
    }

    /// The module's name in its deployment.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// Ends the worker; returns when its process is gone.
    pub(super) async fn end(mut self, options: &Options) {
        self.worker.stop(options.stop).await;
    }
}

/// What came from a worker's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes, to be taken as messages.
    Bytes,
    /// The worker has closed it.
    End,
}

impl Worker {
    /// Starts a worker for a module, and tells it what to load.
    ///
    /// # Errors
    /// A fault of code `init` where a blob cannot be opened or the process not be started.
    pub(super) fn start(spec: &ModuleSpec, options: &Options, blobs: &dyn Blobs) -> Result<Self, Fault> {
        let failed = |what: String, error: io::Error| Fault::new(FaultCode::Init, format!("{what}: {error}"));
        let blob = |what: &str, blob: &sanderling_protocol::worker::Blob| {
            let opened = blobs.open(&blob.sha256).and_then(read_only);
            opened.map_err(|error| failed(format!("{what} ({}) cannot be read", blob.sha256.short()), error))
        };
        let mut files = vec![blob("the module", &spec.wasm)?];
        for model in &spec.models {
            files.push(blob(&format!("model {:?}", model.name), &model.blob)?);
        }
        let no_worker = |error| failed(format!("the worker {} cannot be started", options.program.display()), error);
        let (ours, theirs) = StdStream::pair().map_err(no_worker)?;
        let (ring, memory) = FrameRing::create(spec.ring_bytes).map_err(no_worker)?;
        let flight = match spec.module.limits.capsule_kib {
            0 => None,
            kib => Some(FlightFile::create(kib).map_err(no_worker)?),
        };
        let mut inherited = vec![theirs.as_fd(), memory.as_fd()];
        inherited.extend(files.iter().map(AsFd::as_fd));
        inherited.extend(flight.as_ref().map(FlightFile::descriptor));
        let (process, errors) = spawn::spawn(&options.program, &[], &inherited).map_err(no_worker)?;
        let line = Line::new(ours).map_err(no_worker)?;
        line.say(&ToWorker::Start(Box::new(spec.start())));
        Ok(Self::new(process, line, ring, flight, errors))
    }

    fn new(process: Process, line: Line, ring: FrameRing, flight: Option<FlightFile>, errors: pipe::Receiver) -> Self {
        Self {
            process,
            line: Rc::new(line),
            inbox: Inbox::default(),
            signs: ring.signs(),
            ring: Some(ring),
            flight,
            errors: Some(errors),
            last_words: Vec::new(),
            speaks: false,
        }
    }

    /// The process's id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until the guest is loaded.
    ///
    /// # Errors
    /// The worker's own fault; `init` where it takes longer than it may, or is not confined as it must be; `crash` where it ends or says
    /// something else.
    pub(super) async fn ready(&mut self, options: &Options) -> Result<Ready, Fault> {
        let limit = options.load;
        match timeout(limit, self.first_words()).await {
            Ok(Some(Ok(ready))) => self.confined(exit::bounded_ready(ready), options.confinement),
            Ok(Some(Err(fault))) => Err(fault),
            Ok(None) => Err(self.crashed().await),
            Err(_) => Err(self.killed(Fault::new(
                FaultCode::Init,
                format!(
                    "the module and its models were not loaded within {} s; make them smaller, or give the device \
                     less to do",
                    limit.as_secs()
                ),
            ))),
        }
    }

    /// Ends it where it lacks what it must have.
    fn confined(&mut self, ready: Ready, demanded: Confinement) -> Result<Ready, Fault> {
        let lacking = ready.unconfined.iter().filter(|missing| !demanded.permits(missing.measure));
        let lacking: Vec<String> = lacking.map(ToString::to_string).collect();
        if lacking.is_empty() {
            return Ok(ready);
        }
        let lacking = lacking.join(", ");
        Err(self.killed(Fault::new(
            FaultCode::Init,
            format!(
                "this device does not give the worker its confinement: {lacking}; see `sanderling-agent doctor`, or let modules that are \
                 trusted run with less by `[workloads] confinement`"
            ),
        )))
    }

    /// What it says first; `None` where it ends before.
    async fn first_words(&mut self) -> Option<Result<Ready, Fault>> {
        enum Word {
            Ready(Ready),
            Fault(Fault),
            Aside,
            OutOfTurn,
            None,
        }
        loop {
            let word = self.inbox.next().and_then(|message| match message.map(FromWorker::decode).transpose()? {
                None => Ok(Word::None),
                Some(FromWorker::Ready(ready)) => Ok(Word::Ready(ready)),
                Some(FromWorker::Fault(fault)) => Ok(Word::Fault(fault)),
                Some(FromWorker::Log { .. } | FromWorker::Denied { .. }) => Ok(Word::Aside),
                Some(_) => Ok(Word::OutOfTurn),
            });
            match word {
                Ok(Word::Ready(ready)) => return Some(Ok(ready)),
                Ok(Word::Fault(fault)) => {
                    self.leave().await;
                    return Some(Err(exit::bounded(fault)));
                }
                Ok(Word::Aside) => {}
                Ok(Word::OutOfTurn) => return Some(Err(self.out_of_turn())),
                Ok(Word::None) => {
                    if self.receive().await == Received::End {
                        return None;
                    }
                }
                Err(error) => return Some(Err(self.babbles(&error))),
            }
        }
    }

    /// Says something. What the socket does not take at once is sent by [`Worker::receive`].
    pub(super) fn say(&self, message: &ToWorker) {
        self.line.say(message);
    }

    /// The way in for frames. It can be taken once.
    pub(super) fn feed(&mut self) -> Option<Box<dyn Feed>> {
        Some(Box::new(RingFeed::new(self.ring.take()?, self.line.clone())))
    }

    /// Reads what the worker says, and meanwhile sends what is left to be sent and keeps its last words. Returns when
    /// bytes came. May be dropped at any time.
    pub(super) async fn receive(&mut self) -> Received {
        loop {
            // What can be read at once never waits: one that speaks faster than it is heard would keep everybody else from their turn.
            if std::mem::take(&mut self.speaks) {
                tokio::task::yield_now().await;
            }
            let sending = self.line.has_unsent();
            tokio::select! {
                ready = self.line.stream().readable() => {
                    if ready.is_err() {
                        return Received::End;
                    }
                    if let Some(received) = self.try_receive() {
                        return received;
                    }
                }
                _ = self.line.stream().writable(), if sending => self.line.send(),
                more = keep_last_words(&mut self.errors, &mut self.last_words), if self.errors.is_some() => {
                    self.speaks = more;
                    if !more {
                        self.errors = None;
                    }
                }
            }
        }
    }

    /// Reads what the worker has said already; `None` where that is nothing.
    pub(super) fn try_receive(&mut self) -> Option<Received> {
        match self.line.stream().try_read(self.inbox.space()) {
            Ok(0) => Some(Received::End),
            Ok(count) => {
                self.inbox.filled(count);
                self.speaks = true;
                Some(Received::Bytes)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(_) => Some(Received::End),
        }
    }

    /// What it said and was not taken yet.
    pub(super) fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Asks it to stop, and returns when the process is gone, by force after `grace`.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.say(&ToWorker::Stop);
        let quiet = async {
            while self.receive().await == Received::Bytes {
                while let Ok(Some(_)) = self.inbox.next() {}
            }
        };
        let _ = timeout(grace, quiet).await;
        self.leave().await;
    }

    /// Returns when the process is gone, by force after [`LEAVE`]; how it ended, if it did so by itself.
    pub(super) async fn leave(&mut self) -> Option<ExitStatus> {
        if let Ok(Ok(status)) = timeout(LEAVE, self.process.exited()).await {
            return Some(status);
        }
        self.process.kill();
        let _ = timeout(LEAVE, self.process.exited()).await;
        None
    }

    /// Has it put its next frame on record, which [`Worker::captured`] then gives.
    pub(super) fn capture(&self) {
        self.signs.capture().want();
    }

    /// The record of a frame, where it is there; then it goes on recording. `None` while it is not there.
    pub(super) fn captured(&self) -> Option<io::Result<Captured>> {
        let capture = self.signs.capture();
        if !capture.is_held() {
            return None;
        }
        let flight = self.flight.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let captured = flight.and_then(FlightFile::captured);
        capture.let_go();
        Some(captured)
    }

    /// What it recorded. Whatever is there is not written to any more: it returns when the process is gone, by force where need be.
    pub(super) async fn flight(&mut self) -> Option<FlightFile> {
        self.leave().await;
        self.flight.take()
    }

    /// The fault of a worker that closed its socket without a word.
    pub(super) async fn crashed(&mut self) -> Fault {
        let status = self.leave().await;
        // What it wrote last may still be in the pipe; whoever fills that meanwhile is not waited for.
        for _ in 0..PIPE / LAST_WORDS {
            let more = timeout(Duration::ZERO, keep_last_words(&mut self.errors, &mut self.last_words)).await;
            if !matches!(more, Ok(true)) {
                break;
            }
        }
        exit::crash(status, &String::from_utf8_lossy(&self.last_words), self.signs.refused())
    }

    /// Kills it for `fault`.
    pub(super) fn killed(&mut self, fault: Fault) -> Fault {
        self.process.kill();
        fault
    }

    /// Kills it for saying what is no message.
    pub(super) fn babbles(&mut self, error: &WireError) -> Fault {
        self.breach(&error.to_string())
    }

    /// Kills it for a message that has no place here.
    pub(super) fn out_of_turn(&mut self) -> Fault {
        self.breach("a message that has no place in its life so far")
    }

    /// Kills it for breaking the contract.
    pub(super) fn breach(&mut self, what: &str) -> Fault {
        self.killed(Fault::new(
            FaultCode::Crash,
            format!(
                "the worker broke the contract with its supervisor and was killed ({what}); its module may be malicious"
            ),
        ))
    }
}

/// A worker must not be able to change what is in the store.
fn read_only(file: File) -> io::Result<File> {
    let mode = rustix::fs::fcntl_getfl(&file)?.intersection(OFlags::RWMODE);
    if mode == OFlags::RDONLY { Ok(file) } else { Err(io::Error::other("it is open for writing")) }
}

/// Reads standard error; `false` at its end. Only its last bytes are kept.
async fn keep_last_words(errors: &mut Option<pipe::Receiver>, words: &mut Vec<u8>) -> bool {
    let Some(pipe) = errors else { return false };
    let mut part = [0; LAST_WORDS];
    loop {
        if pipe.readable().await.is_err() {
            return false;
        }
        match pipe.try_read(&mut part) {
            Ok(0) => return false,
            Ok(count) => {
                words.extend_from_slice(part.get(..count).unwrap_or(&[]));
                let over = words.len().saturating_sub(LAST_WORDS);
                words.drain(..over);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{io::Write, path::Path, pin::pin, task::Poll};

    use super::*;

    #[tokio::test]
    async fn one_that_has_more_to_say_lets_the_others_have_their_turn_first() {
        let (ours, mut theirs) = StdStream::pair().unwrap();
        let (ring, _memory) = FrameRing::create(64 * 1024).unwrap();
        let (process, errors) = spawn::spawn(Path::new("/bin/sleep"), &["1000"], &[]).unwrap();
        let mut worker = Worker::new(process, Line::new(ours).unwrap(), ring, None, errors);
        // More than one read takes.
        theirs.write_all(&[0; 100_000]).unwrap();
        assert_eq!(worker.receive().await, Received::Bytes);
        let mut more = pin!(worker.receive());
        let waits = std::future::poll_fn(|context| Poll::Ready(more.as_mut().poll(context).is_pending())).await;
        assert!(waits, "it was heard at once, though it had just been");
        assert_eq!(more.await, Received::Bytes);
    }
}
