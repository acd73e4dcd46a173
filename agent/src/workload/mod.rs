//! Starts, watches, restarts and stops the worker processes that run the modules of a deployment.
//!
//! A set of modules is placed and launched under a generation, so that a new deployment can come up beside the old one and the
//! router switches between them. Each module has a task of its own that owns its worker process; what to do after a
//! fault is decided by [`supervise`], which is pure. A module that was staged is launched with the worker that has loaded it, so
//! that nothing is loaded twice. Whether there is room for two generations is decided by [`handover`].
//!
//! A module that keeps state is written by one worker at a time: its next version begins when the one before has ended, and
//! begins with what that kept last.
//!
//! Invariants: a worker is a confined process that may turn hostile. What it sends is bounded and decoded with care;
//! records on channels that were not granted, answers to frames that it was not given and garbage end it. A worker
//! that makes no progress is killed. The control plane never waits for one.
//!
//! Failure modes: everything that goes wrong with a module is a [`Fault`] in a [`WorkloadEvent`] and in its report.
//!
//! Limits: the tasks run in a [`tokio::task::LocalSet`], on one thread.

mod exit;
pub mod flight;
pub mod handover;
pub mod inlet;
mod instance;
mod keeping;
mod life;
mod line;
pub mod memory;
mod metrics;
mod ports;
mod shared;
mod spawn;
mod spec;
pub(crate) mod stats;
pub mod supervise;
pub mod trial;
mod worker;

pub mod fake;

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, rc::Rc, time::Duration};

use sanderling_protocol::{
    command::KeptCapsule,
    deployment::{Grant, Module},
    reported::{ModuleReport, ModuleState},
    worker::{Fault, Ready},
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::settings::Confinement;
use inlet::Inlet;
use instance::{Ask, Instance};
use metrics::Board;
pub use ports::{Blobs, Capsules, Emitted, NoCapsules, Ports, Record, Recorded, Records, StateOf, States};
pub use spec::{ModuleSpec, ring_bytes};
pub use stats::{Histogram, ModuleFigures};
pub use worker::Staged;

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
    /// What it made of a frame was recorded, as was asked.
    Captured(Result<KeptCapsule, String>),
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
    /// A worker that another generation takes over from answers the frames that it was handed within this time, or loses them.
    pub drain: Duration,
    /// A worker that is asked to stop and does not within this time is killed.
    pub stop: Duration,
    /// What of its confinement a worker must have to run a module.
    pub confinement: Confinement,
}

impl Options {
    /// The times that the agent uses: 60 s to load, 30 s to start, 80 ms of slack, so that a worker is gone 100 ms after its deadline,
    /// 5 s for the last frames, 2 s to stop.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            load: Duration::from_secs(60),
            start: Duration::from_secs(30),
            slack: Duration::from_millis(80),
            drain: Duration::from_secs(5),
            stop: Duration::from_secs(2),
            confinement: Confinement::default(),
        }
    }
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
    /// It was stopped for good.
    #[error("module {module:?} was stopped since it is no longer released; release it again, or deploy another")]
    Stopped {
        /// The module asked for.
        module: String,
    },
    /// It is not granted what is asked of it.
    #[error(
        "module {module:?} is not granted {grant}; add it to the module's `grants` in the deployment, and to its release"
    )]
    NotGranted {
        /// The module asked for.
        module: String,
        /// The grant.
        grant: Grant,
    },
    /// Nothing is recorded of it.
    #[error("module {module:?} has no flight recorder: `limits.capsule_kib` is 0 in the deployment")]
    NoRecorder {
        /// The module asked for.
        module: String,
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

/// The modules that run, by generation.
pub struct Workloads {
    options: Rc<Options>,
    ports: Ports,
    events: mpsc::UnboundedSender<WorkloadEvent>,
    metrics: Rc<Board>,
    generations: RefCell<BTreeMap<u64, Vec<Rc<Instance>>>>,
}

impl Workloads {
    /// Nothing runs yet. What happens later arrives at the receiver; it is bounded by the restart policy, not by the
    /// channel.
    pub fn new(options: Options, ports: Ports) -> (Self, mpsc::UnboundedReceiver<WorkloadEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let generations = RefCell::new(BTreeMap::new());
        (Self { options: Rc::new(options), ports, events, metrics: Rc::default(), generations }, receiver)
    }

    /// Loads a module in a confined worker, which then waits: to be launched, or to be ended without having run any of the
    /// module's functions. The future owns all that it needs, so that modules may be staged beside everything else.
    ///
    /// # Errors
    /// The fault that a start would end in: the module or a model does not load, or not in time.
    pub fn stage(&self, spec: &ModuleSpec) -> impl Future<Output = Result<Staged, Fault>> + 'static {
        let (options, blobs, spec) = (self.options.clone(), self.ports.blobs.clone(), spec.clone());
        async move { Staged::load(&spec, &options, &*blobs).await }
    }

    /// As [`Workloads::stage`], and ends the worker again.
    ///
    /// # Errors
    /// As [`Workloads::stage`].
    pub fn dry_start(&self, spec: &ModuleSpec) -> impl Future<Output = Result<Ready, Fault>> + 'static {
        let (options, staged) = (self.options.clone(), self.stage(spec));
        async move {
            let staged = staged.await?;
            let ready = staged.ready.clone();
            staged.end(&options).await;
            Ok(ready)
        }
    }

    /// Makes room for modules under a new generation, beside whatever runs. No worker of theirs runs before
    /// [`Workloads::launch`]; frames that the router gives to their [`Workloads::inlets`] wait there.
    ///
    /// # Errors
    /// [`WorkloadError::Started`] where the generation is there already.
    pub fn place(&self, generation: u64, specs: Vec<ModuleSpec>) -> Result<(), WorkloadError> {
        let mut generations = self.generations.borrow_mut();
        if generations.contains_key(&generation) {
            return Err(WorkloadError::Started { generation });
        }
        let instances = specs.into_iter().map(|spec| {
            let instance = Instance::new(
                generation,
                spec,
                self.options.clone(),
                self.ports.clone(),
                self.metrics.clone(),
                self.events.clone(),
            );
            tokio::task::spawn_local(instance::run(instance.clone()));
            instance
        });
        generations.insert(generation, instances.collect());
        Ok(())
    }

    /// Starts the workers of a generation that was placed. Those of modules that are in `staged` go on where they wait. A module
    /// that keeps state begins when no worker of another generation writes it any more.
    pub fn launch(&self, generation: u64, mut staged: Vec<Staged>) {
        for instance in self.instances(generation) {
            instance.comes_after(self.keepers(|other| other != generation, instance.name()));
            let at = staged.iter().position(|staged| staged.module() == instance.name());
            instance.launch(at.map(|at| staged.swap_remove(at)));
        }
    }

    /// Places and launches modules.
    ///
    /// # Errors
    /// As [`Workloads::place`].
    pub fn start(&self, generation: u64, specs: Vec<ModuleSpec>) -> Result<(), WorkloadError> {
        self.place(generation, specs)?;
        self.launch(generation, Vec::new());
        Ok(())
    }

    /// Stops the modules of a generation, all at once, and forgets it. Returns when every worker process is gone. What they were
    /// handed and have not answered is lost. A generation that does not run is no error.
    pub async fn stop(&self, generation: u64) {
        self.leave(generation, Ask::Stop).await;
    }

    /// As [`Workloads::stop`], but what the modules were handed they may answer before.
    pub async fn drain(&self, generation: u64) {
        self.leave(generation, Ask::Drain).await;
    }

    /// Stops everything, as at the end of the agent.
    pub async fn stop_all(&self) {
        let all: Vec<u64> = self.generations.borrow().keys().copied().collect();
        for generation in &all {
            self.instances(*generation).iter().for_each(|instance| instance.ask(Ask::Stop));
        }
        for generation in all {
            self.leave(generation, Ask::Stop).await;
        }
    }

    async fn leave(&self, generation: u64, ask: Ask) {
        let instances = self.instances(generation);
        instances.iter().for_each(|instance| instance.ask(ask));
        for instance in instances {
            instance.ended().await;
        }
        let mut generations = self.generations.borrow_mut();
        generations.remove(&generation);
        self.metrics.keep(|module| generations.values().flatten().any(|instance| instance.name() == module));
    }

    /// Starts one module anew: its worker is stopped, its count of faults forgotten, quarantine lifted.
    ///
    /// # Errors
    /// [`WorkloadError::Unknown`] where no such module runs; [`WorkloadError::Stopped`] where it was stopped for good.
    pub fn restart(&self, generation: u64, module: &str) -> Result<(), WorkloadError> {
        self.running(generation, module)?.ask(Ask::Restart);
        Ok(())
    }

    /// A module that was not stopped for good.
    fn running(&self, generation: u64, module: &str) -> Result<Rc<Instance>, WorkloadError> {
        let found = self.instances(generation).into_iter().find(|instance| instance.name() == module);
        let instance = found.ok_or_else(|| WorkloadError::Unknown { generation, module: module.to_owned() })?;
        if instance.has_ended() || instance.is_to_stop() {
            return Err(WorkloadError::Stopped { module: module.to_owned() });
        }
        Ok(instance)
    }

    /// Has a module's next frame recorded; [`Happened::Captured`] tells when that is done.
    ///
    /// # Errors
    /// [`WorkloadError::Unknown`] where no such module runs; [`WorkloadError::Stopped`] where it was stopped for good;
    /// [`WorkloadError::NotGranted`], [`WorkloadError::NoRecorder`].
    pub fn capture(&self, generation: u64, module: &str) -> Result<(), WorkloadError> {
        let instance = self.running(generation, module)?;
        let Module { grants, limits, .. } = &instance.spec.module;
        if !grants.contains(&Grant::Capture) {
            return Err(WorkloadError::NotGranted { module: module.to_owned(), grant: Grant::Capture });
        }
        if limits.capsule_kib == 0 {
            return Err(WorkloadError::NoRecorder { module: module.to_owned() });
        }
        instance.capture();
        Ok(())
    }

    /// The modules of a generation as they are reported, in the order of the deployment; empty where it does not run.
    pub fn reports(&self, generation: u64) -> Vec<ModuleReport> {
        self.of(generation, |instance| instance.report())
    }

    /// The modules of a generation in figures, in the order of the deployment; empty where it does not run.
    pub fn figures(&self, generation: u64) -> Vec<ModuleFigures> {
        self.of(generation, |instance| instance.figures())
    }

    /// How far each module of a generation is, for probation.
    pub fn progress(&self, generation: u64) -> Vec<ModuleProgress> {
        self.of(generation, |instance| instance.progress())
    }

    /// Stops these modules of a generation for good, while its others run on. Their reports say that they are stopped.
    pub fn stop_modules(&self, generation: u64, modules: &[String]) {
        let stopped =
            self.instances(generation).into_iter().filter(|one| modules.iter().any(|name| name == one.name()));
        stopped.for_each(|instance| instance.ask(Ask::Stop));
    }

    /// The entrances of a generation's modules, for the router; none of modules that were asked to stop.
    pub fn inlets(&self, generation: u64) -> Vec<Rc<Inlet>> {
        let instances = self.instances(generation);
        instances.iter().filter(|instance| !instance.is_to_stop()).map(|instance| instance.inlet().clone()).collect()
    }

    /// The memory that the modules of a generation may use, in bytes, until every worker of theirs is gone.
    pub fn needs(&self, generation: u64) -> u64 {
        let needs = |instance: &Instance| if instance.has_ended() { 0 } else { instance.spec.memory() };
        self.of(generation, needs).into_iter().fold(0, u64::saturating_add)
    }

    /// The worker processes of all generations.
    pub fn pids(&self) -> Vec<u32> {
        let generations = self.generations.borrow();
        generations.values().flatten().filter_map(|instance| instance.tally.borrow().pid).collect()
    }

    /// The names of a generation's modules that keep state and may still change it.
    pub fn keeping(&self, generation: u64) -> Vec<String> {
        let keeping = self.instances(generation).into_iter().filter(|instance| instance.is_keeping());
        keeping.map(|instance| instance.name().to_owned()).collect()
    }

    fn keepers(&self, of: impl Fn(u64) -> bool, module: &str) -> Vec<Rc<Instance>> {
        let generations = self.generations.borrow();
        let instances = generations.iter().filter(|(generation, _)| of(**generation)).flat_map(|(_, one)| one);
        instances.filter(|one| one.name() == module && one.is_keeping()).cloned().collect()
    }

    fn of<T>(&self, generation: u64, each: impl Fn(&Instance) -> T) -> Vec<T> {
        self.instances(generation).iter().map(|instance| each(instance)).collect()
    }

    fn instances(&self, generation: u64) -> Vec<Rc<Instance>> {
        self.generations.borrow().get(&generation).cloned().unwrap_or_default()
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
