//! Starts, watches, restarts and stops the worker processes that run the modules of a deployment.
//!
//! A set of modules is started under a generation, so that a new deployment can come up beside the old one and the
//! router switches between them. Each module has a task of its own that owns its worker process; what to do after a
//! fault is decided by [`supervise`], which is pure.
//!
//! Invariants: a worker is a confined process that may turn hostile. What it sends is bounded and decoded with care;
//! records on channels that were not granted, answers to frames that it was not given and garbage end it. A worker
//! that makes no progress is killed. The control plane never waits for one.
//!
//! Failure modes: everything that goes wrong with a module is a [`Fault`] in a [`WorkloadEvent`] and in its report.
//!
//! Limits: the tasks run in a [`tokio::task::LocalSet`], on one thread.

mod exit;
mod guard;
pub mod inlet;
mod instance;
mod life;
mod shared;
mod spawn;
mod spec;
mod stats;
pub mod supervise;
mod worker;

pub mod fake;

use std::{cell::RefCell, collections::BTreeMap, fs::File, io, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use sanderling_protocol::{
    digest::Digest,
    reported::{ModuleReport, ModuleState},
    worker::{Fault, Ready},
};
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{clock::Clock, frames::Pool};
use inlet::Inlet;
use instance::Instance;
pub use spec::{ModuleSpec, ring_bytes};
use worker::Worker;

/// Opens verified blobs for workers.
pub trait Blobs {
    /// The content with this digest, open for reading from its start. Each call opens the file anew.
    ///
    /// # Errors
    /// Whatever keeps it from being read: it is absent, damaged, or the disk fails.
    fn open(&self, digest: &Digest) -> io::Result<File>;
}

/// Takes what guests say. Called on the frame path with borrowed data, so that nothing is allocated on the way.
pub trait Records {
    /// A record that `module` emitted on `channel` while it handled the frame `seq` (0 from its start function). The
    /// channel is one that the deployment grants.
    fn record(&mut self, module: &str, channel: &str, seq: u64, payload: &[u8]);

    /// A line that `module` logged: level 0 error, 1 warn, 2 info, 3 debug, 4 and more trace. At most
    /// [`sanderling_protocol::worker::MAX_LOG_LINE`] bytes, limited in rate.
    fn log(&mut self, module: &str, level: u8, text: &str);
}

/// Something that happened to a module.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadEvent {
    /// The generation that the module belongs to.
    pub generation: u64,
    /// The module's name in its deployment.
    pub module: Rc<str>,
    /// What happened.
    pub what: Happened,
}

/// What a [`WorkloadEvent`] tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// Its worker has loaded it.
    Ready(Ready),
    /// Its start function has returned; it takes frames.
    Running,
    /// Frames it has handled since its generation was started; sent at its first frame and then about once a second.
    Frames {
        /// How many in all.
        total: u64,
    },
    /// It called a host function that it is not granted; sent once for each function and worker.
    Denied {
        /// The host function.
        function: String,
    },
    /// Its worker is over.
    Fault {
        /// Why.
        fault: Fault,
        /// True where it will not be started again.
        quarantined: bool,
    },
    /// It was stopped as asked.
    Stopped,
}

/// How workers are started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The worker program.
    pub program: PathBuf,
    /// A module and its models must be loaded within this time.
    pub load: Duration,
    /// A module's start function must return within this time.
    pub start: Duration,
    /// A worker that makes no progress for `deadline_ms` and this time is killed.
    pub slack: Duration,
    /// A worker that is asked to stop and does not within this time is killed.
    pub stop: Duration,
}

impl Options {
    /// The times that the agent uses: 60 s to load, 30 s to start, 100 ms of slack, 2 s to stop.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            load: Duration::from_secs(60),
            start: Duration::from_secs(30),
            slack: Duration::from_millis(100),
            stop: Duration::from_secs(2),
        }
    }
}

/// What [`Workloads`] stands on.
#[derive(Clone)]
pub struct Ports {
    /// Where modules and models are read from.
    pub blobs: Rc<dyn Blobs>,
    /// Where records and log lines go.
    pub records: Rc<RefCell<dyn Records>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Memory for frames that wait; the sensors' pool.
    pub pool: Pool,
}

/// Why [`Workloads`] did not do as asked.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WorkloadError {
    /// The generation was started before.
    #[error("generation {generation} was started before; stop it, or use a higher number")]
    Started {
        /// Its number.
        generation: u64,
    },
    /// No such module runs.
    #[error("no module {module:?} in generation {generation}; see the reported modules for what runs")]
    Unknown {
        /// The generation asked for.
        generation: u64,
        /// The module asked for.
        module: String,
    },
}

struct Running {
    instance: Rc<Instance>,
    task: JoinHandle<()>,
}

/// The modules that run, by generation.
pub struct Workloads {
    options: Rc<Options>,
    ports: Ports,
    events: mpsc::UnboundedSender<WorkloadEvent>,
    generations: RefCell<BTreeMap<u64, Vec<Running>>>,
}

impl Workloads {
    /// Nothing runs yet. What happens later arrives at the receiver; it is bounded by the restart policy, not by the
    /// channel.
    pub fn new(options: Options, ports: Ports) -> (Self, mpsc::UnboundedReceiver<WorkloadEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let generations = RefCell::new(BTreeMap::new());
        (Self { options: Rc::new(options), ports, events, generations }, receiver)
    }

    /// Loads a module in a confined worker and ends it again, without running any of its code. The future owns all
    /// that it needs, so that dry starts may run beside everything else.
    ///
    /// # Errors
    /// The fault that a start would end in: the module or a model does not load, or not in time.
    pub fn dry_start(&self, spec: &ModuleSpec) -> impl Future<Output = Result<Ready, Fault>> + 'static {
        let (options, blobs, spec) = (self.options.clone(), self.ports.blobs.clone(), spec.clone());
        async move {
            let mut worker = Worker::start(&spec, &options, &*blobs)?;
            let ready = worker.ready(options.load).await?;
            worker.stop(options.stop).await;
            Ok(ready)
        }
    }

    /// Starts modules under a new generation, beside whatever runs. Frames reach them once the router has their
    /// [`Workloads::inlets`].
    ///
    /// # Errors
    /// [`WorkloadError::Started`] where the generation is there already.
    pub fn start(&self, generation: u64, specs: Vec<ModuleSpec>) -> Result<(), WorkloadError> {
        let mut generations = self.generations.borrow_mut();
        if generations.contains_key(&generation) {
            return Err(WorkloadError::Started { generation });
        }
        let running = specs
            .into_iter()
            .map(|spec| {
                let instance =
                    Instance::new(generation, spec, self.options.clone(), self.ports.clone(), self.events.clone());
                let task = tokio::task::spawn_local(instance::run(instance.clone()));
                Running { instance, task }
            })
            .collect();
        generations.insert(generation, running);
        Ok(())
    }

    /// Stops the modules of a generation, all at once, and forgets it. Returns when every worker process is gone.
    /// A generation that does not run is no error.
    pub async fn stop(&self, generation: u64) {
        let Some(running) = self.generations.borrow_mut().remove(&generation) else { return };
        stop_all(running).await;
    }

    /// Stops everything, as at the end of the agent.
    pub async fn stop_all(&self) {
        let all = std::mem::take(&mut *self.generations.borrow_mut());
        stop_all(all.into_values().flatten().collect()).await;
    }

    /// Starts one module anew: its worker is stopped, its count of faults forgotten, quarantine lifted.
    ///
    /// # Errors
    /// [`WorkloadError::Unknown`] where no such module runs.
    pub fn restart(&self, generation: u64, module: &str) -> Result<(), WorkloadError> {
        let generations = self.generations.borrow();
        let found = generations
            .get(&generation)
            .and_then(|running| running.iter().find(|running| running.instance.name() == module));
        match found {
            Some(running) => {
                running.instance.ask(instance::Ask::Restart);
                Ok(())
            }
            None => Err(WorkloadError::Unknown { generation, module: module.to_owned() }),
        }
    }

    /// The modules of a generation as they are reported, in the order of the deployment; empty where it does not run.
    pub fn reports(&self, generation: u64) -> Vec<ModuleReport> {
        self.of(generation, |instance| instance.report())
    }

    /// How far each module of a generation is, for probation.
    pub fn progress(&self, generation: u64) -> Vec<ModuleProgress> {
        self.of(generation, |instance| instance.progress())
    }

    /// The entrances of a generation's modules, for the router.
    pub fn inlets(&self, generation: u64) -> Vec<Rc<Inlet>> {
        self.of(generation, |instance| instance.inlet().clone())
    }

    fn of<T>(&self, generation: u64, each: impl Fn(&Instance) -> T) -> Vec<T> {
        let generations = self.generations.borrow();
        generations.get(&generation).into_iter().flatten().map(|running| each(&running.instance)).collect()
    }
}

/// How far a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleProgress {
    /// Its name.
    pub name: Rc<str>,
    /// Its state.
    pub state: ModuleState,
    /// Frames that it handled since its generation was started.
    pub frames: u64,
    /// Faults since its generation was started.
    pub faults: u64,
}

async fn stop_all(running: Vec<Running>) {
    for one in &running {
        one.instance.ask(instance::Ask::Stop);
    }
    for one in running {
        // A task that panicked has dropped its worker, which kills it: there is nothing left to stop.
        let _ = one.task.await;
    }
}
