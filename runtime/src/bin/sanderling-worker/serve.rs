//! The worker's side of [`sanderling_protocol::worker`]: from `Start` to the last message.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use rustix::{
    fs::fstat,
    rand::{GetRandomFlags, getrandom},
};
use sanderling_protocol::{
    deployment::Grant,
    worker::{
        Blob, FIRST_BLOB_FD, Fault, FrameDone, FromWorker, Missing, RING_FD, Ready, SOCKET_FD, Start, State, ToWorker,
        WireError, ring::RingError,
    },
};
use sanderling_runtime::{
    Clock, Flight, Guest, LoadSpec, NamedModel, Outcome, Ports, Random, Region, infer::tract::Tract,
};
use thiserror::Error;

use crate::{
    allocator,
    clock::SystemClock,
    confine::{self, ConfineError},
    control::Control,
    outbound::Outbound,
    shared::{self, Handed, Ring, SharedError},
};

/// A busy worker looks for messages of its supervisor this often.
const LOOK_NS: u64 = 5_000_000;
/// Metrics that have changed are told at most this often.
const TELL_NS: u64 = 2_000_000_000;
/// What is said about a refused frame is cut to this length, in bytes.
const MAX_WHY: usize = 1024;

/// Why a worker ends without having said so to its supervisor.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// An inherited descriptor or the ring.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// The ring contradicts itself.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The socket or a blob.
    #[error("reading or writing failed: {0}")]
    Io(#[from] io::Error),
    /// The supervisor is gone.
    #[error("the supervisor closed the socket")]
    Gone,
    /// Bytes that are no message.
    #[error("the supervisor does not speak this worker's protocol ({0}); agent and worker must be of one version")]
    Wire(#[from] WireError),
    /// A message at the wrong time.
    #[error("the supervisor sent {0} at a time when it has no meaning")]
    Unexpected(&'static str),
    /// A blob has another length than was said.
    #[error("a blob has {found} bytes instead of {expected}")]
    Blob {
        /// What `Start` says.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// Confinement.
    #[error(transparent)]
    Confine(#[from] ConfineError),
}

/// How a worker ends that has said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As asked.
    Stopped,
    /// With a fault.
    Fault,
}

/// Lives the life of one worker.
pub(crate) fn serve() -> Result<End, ServeError> {
    let socket = Arc::new(UnixStream::from(shared::inherited(SOCKET_FD)?));
    let ring_fd = shared::inherited(RING_FD)?;
    let mut control = Control::new(Arc::clone(&socket))?;
    let start = match control.wait()? {
        ToWorker::Start(start) => *start,
        other => return Err(ServeError::Unexpected(name(&other))),
    };
    let blobs = take_blobs(&start)?;
    let flight = match start.flight_fd() {
        Some(fd) => Some(shared::map_flight(&shared::inherited(fd)?)?),
        None => None,
    };
    let ring = Ring::map(&ring_fd)?;
    allocator::keep_to_one_heap();
    allocator::note_in(ring.refused());
    let inherited = confine::unchangeable(&ring_fd, &blobs);
    drop(ring_fd);
    // It touches much of tract's code, which would count as this worker's memory where it has no model.
    if !start.models.is_empty() || start.grants.contains(&Grant::InferLoad) {
        sanderling_runtime::infer::tract::probe_cpu();
    }
    // The first look finds out how the kernel shows its clock, which is forbidden later.
    SystemClock.mono_ns();
    let unconfined = confine::confine(&start, ring.length(), inherited)?;
    let out = Outbound::new(socket);
    match load(start, blobs, &ring, flight, &out)? {
        Ok(guest) => {
            sanderling_pages::give_back();
            out.say(&FromWorker::Ready(ready(&guest, unconfined)));
            out.flush()?;
            Worker { control, ring, out, guest, clock: SystemClock, looked_ns: 0, told_ns: None }.run()
        }
        Err(fault) => end_with(&out, fault),
    }
}

fn ready(guest: &Guest, unconfined: Vec<Missing>) -> Ready {
    let loaded = guest.loaded();
    Ready { module_us: loaded.module_us, models_us: loaded.models_us, memory_bytes: loaded.memory_bytes, unconfined }
}

/// Takes the blobs over and looks whether they are as long as they should be, which a confined process could not.
fn take_blobs(start: &Start) -> Result<Vec<OwnedFd>, ServeError> {
    let lengths = std::iter::once(&start.module).chain(start.models.iter().map(|model| &model.blob));
    let take = |(number, blob): (RawFd, &Blob)| {
        let fd = shared::inherited(number)?;
        let found = fstat(&fd).map_err(io::Error::from)?.st_size.unsigned_abs();
        if found == blob.length { Ok(fd) } else { Err(ServeError::Blob { expected: blob.length, found }) }
    };
    (FIRST_BLOB_FD..).zip(lengths).map(take).collect()
}

/// Reads a blob whose digest the supervisor has checked; an open descriptor can be read whatever the confinement.
fn read(fd: OwnedFd, blob: &Blob) -> Result<Vec<u8>, ServeError> {
    let too_long = |_| ServeError::Blob { expected: blob.length, found: usize::MAX as u64 };
    let mut bytes = vec![0; usize::try_from(blob.length).map_err(too_long)?];
    File::from(fd).read_exact(&mut bytes)?;
    Ok(bytes)
}

fn load(
    start: Start,
    blobs: Vec<OwnedFd>,
    ring: &Ring,
    flight: Option<&'static mut [u8]>,
    out: &Outbound,
) -> Result<Result<Guest, Fault>, ServeError> {
    let mut blobs = blobs.into_iter();
    let mut next = |blob: &Blob| match blobs.next() {
        Some(fd) => read(fd, blob),
        None => Err(ServeError::Unexpected("fewer blobs than it names")),
    };
    let module = next(&start.module)?;
    let models = start
        .models
        .iter()
        .map(|model| Ok(NamedModel { name: model.name.clone(), bytes: next(&model.blob)?.into() }))
        .collect::<Result<_, ServeError>>()?;
    let stop = ring.stop_flag();
    let ports = Ports {
        clock: Arc::new(SystemClock),
        output: Box::new(out.clone()),
        random: Box::new(KernelRandom),
        stop: Box::new(move || stop.is_set()),
    };
    let spec = LoadSpec {
        module: &module,
        models,
        inputs: start.inputs,
        config: start.config,
        grants: start.grants,
        limits: start.limits,
        execution: start.execution,
    };
    Ok(match flight {
        Some(memory) => {
            let flight = Flight::new(Region::Static(memory));
            Guest::load_recorded(flight, Arc::new(Tract::new(&spec.limits)), spec, ports)
        }
        None => Guest::load(spec, ports),
    })
}

/// The kernel's randomness; it needs no descriptor.
struct KernelRandom;

impl Random for KernelRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match getrandom(rest, GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                // Not without randomness: a guest must not take zeros for it.
                Err(_) => std::process::abort(),
            }
        }
    }
}

fn name(message: &ToWorker) -> &'static str {
    match message {
        ToWorker::Start(_) => "Start",
        ToWorker::State { .. } => "State",
        ToWorker::Begin => "Begin",
        ToWorker::Wake => "Wake",
        ToWorker::Stop => "Stop",
    }
}

fn end_with(out: &Outbound, fault: Fault) -> Result<End, ServeError> {
    out.say(&FromWorker::Fault(allocator::explain(fault)));
    out.flush()?;
    Ok(End::Fault)
}

struct Worker {
    control: Control,
    ring: Ring,
    out: Outbound,
    guest: Guest,
    clock: SystemClock,
    looked_ns: u64,
    /// When metrics were last told.
    told_ns: Option<u64>,
}

impl Worker {
    fn run(mut self) -> Result<End, ServeError> {
        let mut state = State::default();
        loop {
            match self.control.wait()? {
                ToWorker::State { key, value } => state.put(key.into(), Some(value.into())),
                ToWorker::Begin => break,
                ToWorker::Stop => return self.stopped(),
                ToWorker::Wake => {}
                ToWorker::Start(_) => return Err(ServeError::Unexpected("Start")),
            }
        }
        self.guest.restore(state, Box::new(self.out.clone()));
        allocator::forget();
        if let Err(fault) = self.guest.start() {
            return self.over(fault);
        }
        if self.guest.interrupted() {
            return self.stopped();
        }
        self.out.say(&FromWorker::Running);
        self.out.flush()?;
        self.take_frames()
    }

    fn take_frames(&mut self) -> Result<End, ServeError> {
        loop {
            let end = match self.ring.hand_to(&mut self.guest)? {
                Some(handed) => self.report(handed)?,
                None => self.idle()?,
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Says what became of a frame, and looks at the supervisor's messages from time to time.
    fn report(&mut self, handed: Handed) -> Result<Option<End>, ServeError> {
        let now_ns = match handed.outcome {
            Ok(Outcome::Done(report)) => {
                self.out.say(&FromWorker::FrameDone(FrameDone {
                    seq: handed.seq,
                    took_ns: report.took_ns,
                    fuel: report.fuel,
                    memory_bytes: report.memory_bytes,
                }));
                report.ended_ns
            }
            Ok(Outcome::Refused(why)) => {
                let why = why.get(..why.floor_char_boundary(MAX_WHY)).unwrap_or_default();
                self.out.say(&FromWorker::FrameRefused { seq: handed.seq, why });
                self.clock.mono_ns()
            }
            Ok(Outcome::Stopped) => return self.stopped().map(Some),
            Err(fault) => return self.over(fault).map(Some),
        };
        if self.untold_for(now_ns) == Some(0) {
            self.tell_metrics(now_ns);
        }
        self.out.keep_fresh(now_ns);
        if now_ns.saturating_sub(self.looked_ns) < LOOK_NS {
            return Ok(None);
        }
        self.looked_ns = now_ns;
        match self.control.look()? {
            Some(message) => self.obey(&message),
            None => Ok(None),
        }
    }

    /// Nothing is waiting: says everything that is left to say, and sleeps.
    fn idle(&mut self) -> Result<Option<End>, ServeError> {
        self.out.flush()?;
        if !self.ring.announce_sleep() {
            return Ok(None);
        }
        loop {
            match self.control.wait_a_while()? {
                Some(message) => return self.obey(&message),
                None => self.tell_what_is_due()?,
            }
        }
    }

    /// Tells the metrics that have waited long enough.
    fn tell_what_is_due(&mut self) -> Result<(), ServeError> {
        let now_ns = self.clock.mono_ns();
        if self.untold_for(now_ns) == Some(0) {
            self.tell_metrics(now_ns);
            self.out.flush()?;
        }
        Ok(())
    }

    /// How long metrics that have changed are still to wait, in nanoseconds; `None` where none has changed.
    fn untold_for(&mut self, now_ns: u64) -> Option<u64> {
        let changed = self.guest.metrics_mut().is_some_and(|metrics| metrics.has_changed());
        let due_ns = self.told_ns.map_or(0, |told_ns| told_ns.saturating_add(TELL_NS));
        changed.then(|| due_ns.saturating_sub(now_ns))
    }

    fn tell_metrics(&mut self, now_ns: u64) {
        self.told_ns = Some(now_ns);
        let Self { guest, out, .. } = self;
        if let Some(metrics) = guest.metrics_mut() {
            metrics.tell(|name, metric| out.say(&FromWorker::Metric { name, metric }));
        }
    }

    /// The guest is over; what it counted is told before that. Then the record of what led to it is ended.
    fn over(&mut self, fault: Fault) -> Result<End, ServeError> {
        self.tell_metrics(0);
        let end = end_with(&self.out, fault)?;
        self.guest.seal();
        Ok(end)
    }

    fn obey(&mut self, message: &ToWorker) -> Result<Option<End>, ServeError> {
        match message {
            ToWorker::Wake => Ok(None),
            ToWorker::Stop => match self.guest.stop() {
                Ok(()) => self.stopped().map(Some),
                Err(fault) => self.over(fault).map(Some),
            },
            ToWorker::Start(_) | ToWorker::State { .. } | ToWorker::Begin => Err(ServeError::Unexpected(name(message))),
        }
    }

    fn stopped(&mut self) -> Result<End, ServeError> {
        self.tell_metrics(0);
        self.out.say(&FromWorker::Stopped);
        self.out.flush()?;
        Ok(End::Stopped)
    }
}
