//! Carries out what [`crate::sync`] decides about modules: dry starts, generations, and who gets the frames.
//!
//! A plan is staged beside what runs if there is room. Where there is room for all of it, the workers that were staged stay, and are
//! the ones that are started. Where there is none, a new generation is placed, so that frames wait for it, and launched when
//! what it replaces is gone.
//!
//! Invariants: a worker is given files that were hashed in this run of the agent, opened anew for each start. What is stopped
//! while its blobs are still being opened is never started. Frames go to a generation that is placed, never to none while one is routed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::AsRawFd,
    rc::Rc,
    sync::Arc,
};

use sanderling_protocol::{
    deployment::{Channel, Source},
    digest::Digest,
    reported::{Handover, ModuleReport},
    worker::{Blob, Fault, MAX_RECORD, Model},
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::keeper::Purpose;
use crate::{
    frames::Sizes,
    router::Router,
    sync::{Event, Plan},
    workload::{
        self, ModuleFigures, ModuleSpec, Staged, Workloads,
        handover::{self, Choice, Room, Staging},
        memory::Memory,
        ring_bytes,
    },
};

/// What a command about a module is answered with where there is none.
const NOTHING_RUNS: &str = "nothing runs on this device; deploy something first";

/// Verified blobs that are open, for workers to be given.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: RefCell<BTreeMap<Digest, File>>,
}

impl Shelf {
    fn put(&self, files: Vec<(Digest, File)>) {
        self.files.borrow_mut().extend(files);
    }

    fn keep(&self, needed: impl Fn(&Digest) -> bool) {
        self.files.borrow_mut().retain(|digest, _| needed(digest));
    }
}

impl workload::Blobs for Shelf {
    fn open(&self, digest: &Digest) -> io::Result<File> {
        let files = self.files.borrow();
        let file = files
            .get(digest)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("blob {digest} is not open")))?;
        // A description of its own: workers that share a position would read past each other.
        File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }
}

/// What became of something that takes its time.
pub(super) enum Outcome {
    /// A dry start is over.
    Staged {
        generation: u64,
        handover: Handover,
        /// The workers that wait to be started; or the module that failed, and why.
        result: Result<Vec<Staged>, (String, Fault)>,
    },
    /// Every worker of a generation is gone.
    Gone { generation: u64 },
}

/// The modules of all generations.
pub(super) struct Works {
    workloads: Rc<Workloads>,
    router: Rc<Router>,
    shelf: Rc<Shelf>,
    memory: Memories,
    sizes: FrameSizes,
    opening: BTreeMap<u64, Purpose>,
    plans: BTreeMap<u64, Arc<Plan>>,
    staging: BTreeMap<u64, JoinHandle<()>>,
    staged: BTreeMap<u64, Vec<Staged>>,
    placed: BTreeSet<u64>,
    /// Placed and not launched, since others must be gone first.
    held: BTreeSet<u64>,
    leaving: BTreeSet<u64>,
    routed: Option<u64>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

/// How large frames are at most.
pub(super) struct FrameSizes {
    /// Those of each sensor.
    pub(super) sensors: BTreeMap<String, Sizes>,
    /// A window of a series, in bytes.
    pub(super) window: usize,
}

impl FrameSizes {
    fn of(&self, source: &Source) -> Sizes {
        match source {
            Source::Sensor(name) => self.sensors.get(name).copied().unwrap_or_default(),
            Source::Channel { .. } => Sizes { frame: MAX_RECORD, sample: MAX_RECORD },
        }
    }
}

/// The memory that there is for workers.
pub(super) struct Memories {
    /// The machine's.
    pub(super) machine: Box<dyn Memory>,
    /// What all workers together may use, in bytes.
    pub(super) most: Option<u64>,
}

impl Works {
    /// Nothing runs. What takes its time tells of its end on `outcomes`, for [`Works::finished`].
    pub(super) fn new(
        workloads: Rc<Workloads>,
        router: Rc<Router>,
        shelf: Rc<Shelf>,
        memory: Memories,
        sizes: FrameSizes,
        outcomes: mpsc::UnboundedSender<Outcome>,
    ) -> Self {
        Self {
            workloads,
            router,
            shelf,
            memory,
            sizes,
            opening: BTreeMap::new(),
            plans: BTreeMap::new(),
            staging: BTreeMap::new(),
            staged: BTreeMap::new(),
            placed: BTreeSet::new(),
            held: BTreeSet::new(),
            leaving: BTreeSet::new(),
            routed: None,
            outcomes,
        }
    }

    /// Who joins sensors and modules.
    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    /// The blobs of a generation are about to be opened.
    pub(super) fn open(&mut self, generation: u64, purpose: Purpose) {
        self.opening.insert(generation, purpose);
    }

    /// Whether a generation still waits for its blobs.
    pub(super) fn is_opening(&self, generation: u64) -> bool {
        self.opening.contains_key(&generation)
    }

    /// Its blobs could not be opened.
    pub(super) fn not_opened(&mut self, generation: u64) {
        self.opening.remove(&generation);
    }

    /// Its blobs are open: it is staged, or launched as soon as there is room.
    pub(super) fn opened(&mut self, generation: u64, plan: Arc<Plan>, files: Vec<(Digest, File)>) {
        let Some(purpose) = self.opening.remove(&generation) else { return };
        self.shelf.put(files);
        let specs = if purpose == Purpose::Stage { self.specs(&plan) } else { Vec::new() };
        self.plans.insert(generation, plan);
        match purpose {
            Purpose::Stage => self.stage(generation, specs),
            Purpose::Start => self.launch_when_room(generation),
        }
    }

    fn stage(&mut self, generation: u64, specs: Vec<ModuleSpec>) {
        let wanted: Vec<u64> = specs.iter().map(ModuleSpec::memory).collect();
        let Choice { staging, handover } = self.room().choose(self.needed_beside(generation), &wanted);
        let handover = self.with_state(generation, handover);
        tracing::info!(generation, ?staging, ?handover, "how it is staged, and takes the place of what runs");
        let (workloads, outcomes) = (self.workloads.clone(), self.outcomes.clone());
        let task = tokio::task::spawn_local(async move {
            let result = load(&workloads, specs, staging).await;
            // The driver is gone only when the agent ends.
            let _ = outcomes.send(Outcome::Staged { generation, handover, result });
        });
        self.staging.insert(generation, task);
    }

    /// Where a module keeps state that one of those which run writes too, the one ends before the other begins.
    fn with_state(&self, generation: u64, handover: Handover) -> Handover {
        let others = self.placed.iter().chain(&self.leaving).filter(|other| **other != generation);
        let kept: BTreeSet<String> = others.flat_map(|other| self.workloads.keeping(*other)).collect();
        let modules = self.plans.get(&generation).map(|plan| plan.deployment.modules.as_slice()).unwrap_or_default();
        let both = modules.iter().find(|module| module.state_quota().is_some() && kept.contains(&module.name));
        match both {
            Some(module) if handover == Handover::MakeBeforeBreak => {
                Handover::BreakBeforeMake { why: handover::keeps_state(&module.name) }
            }
            _ => handover,
        }
    }

    /// Something that took its time is over. Gives what [`crate::sync`] is to hear of it.
    pub(super) fn finished(&mut self, outcome: Outcome) -> Option<Event> {
        match outcome {
            Outcome::Staged { generation, handover, result } => {
                // What was stopped meanwhile nobody waits for; its workers end here.
                self.staging.remove(&generation)?;
                match result {
                    Ok(workers) => {
                        self.staged.insert(generation, workers);
                        // What runs may be another by now.
                        let handover = self.with_state(generation, handover);
                        Some(Event::Staged { generation, handover })
                    }
                    Err((module, fault)) => {
                        self.forget(generation);
                        Some(Event::StageFailed { generation, module, fault })
                    }
                }
            }
            Outcome::Gone { generation } => {
                self.leaving.remove(&generation);
                for held in std::mem::take(&mut self.held) {
                    self.launch_when_room(held);
                }
                None
            }
        }
    }

    /// Places a generation: from now on frames can be routed to it. Gives the policies of its channels.
    pub(super) fn place(&mut self, generation: u64, plan: &Plan) -> Vec<(String, Channel)> {
        match self.workloads.place(generation, self.specs(plan)) {
            Ok(()) => drop(self.placed.insert(generation)),
            Err(error) => tracing::error!(%error, "a generation was not started"),
        }
        channels(plan)
    }

    /// Launches what was staged under this number, at once or as soon as there is room; `false` where nothing was.
    pub(super) fn launch_staged(&mut self, generation: u64) -> bool {
        let Some(workers) = self.staged.remove(&generation) else { return false };
        if workers.is_empty() {
            self.launch_when_room(generation);
        } else {
            self.workloads.launch(generation, workers);
        }
        true
    }

    fn launch_when_room(&mut self, generation: u64) {
        if self.room().fits(self.needed_beside(generation), self.workloads.needs(generation)) {
            self.workloads.launch(generation, Vec::new());
        } else {
            tracing::info!(generation, "it is launched when what it replaces is gone");
            self.held.insert(generation);
        }
    }

    fn room(&self) -> Room {
        let resident = |pid: &u32| self.memory.machine.resident(*pid);
        Room {
            available: self.memory.machine.available(),
            resident: self.workloads.pids().iter().map(resident).fold(0, u64::saturating_add),
            most: self.memory.most,
        }
    }

    /// What all other generations may use, in bytes.
    fn needed_beside(&self, generation: u64) -> u64 {
        let others = self.placed.iter().chain(&self.leaving).filter(|other| **other != generation);
        others.map(|other| self.workloads.needs(*other)).fold(0, u64::saturating_add)
    }

    /// Gives the frames to a generation that is placed, or to none. It takes over what waits for the one before.
    pub(super) fn route(&mut self, generation: Option<u64>) {
        self.routed = generation;
        self.router.switch(generation.map(|generation| self.workloads.inlets(generation)).unwrap_or_default());
    }

    /// Stops a generation or a dry start. What another one takes over from may answer what it was handed.
    pub(super) fn stop(&mut self, generation: u64) {
        self.opening.remove(&generation);
        self.staged.remove(&generation);
        self.held.remove(&generation);
        if let Some(task) = self.staging.remove(&generation) {
            task.abort();
        }
        if self.placed.remove(&generation) {
            self.leaving.insert(generation);
            let (workloads, outcomes) = (self.workloads.clone(), self.outcomes.clone());
            let taken_over = self.routed.is_some_and(|routed| routed != generation);
            tokio::task::spawn_local(async move {
                if taken_over {
                    workloads.drain(generation).await;
                } else {
                    workloads.stop(generation).await;
                }
                let _ = outcomes.send(Outcome::Gone { generation });
            });
        }
        self.forget(generation);
    }

    /// Stops these modules of a generation for good; its others run on.
    pub(super) fn withdraw(&mut self, generation: u64, modules: &[String]) {
        self.workloads.stop_modules(generation, modules);
        if self.routed == Some(generation) {
            self.router.switch(self.workloads.inlets(generation));
        }
    }

    fn forget(&mut self, generation: u64) {
        self.plans.remove(&generation);
        let plans = &self.plans;
        self.shelf
            .keep(|digest| plans.values().any(|plan| plan.slot.artifacts.iter().any(|one| one.sha256 == *digest)));
    }

    /// Frames that the modules of a generation have handled.
    pub(super) fn count(&self, generation: u64) -> Vec<(String, u64)> {
        let progress = self.workloads.progress(generation);
        progress.into_iter().map(|module| (module.name.to_string(), module.frames)).collect()
    }

    /// The modules of a generation as they are reported.
    pub(super) fn reports(&self, generation: Option<u64>) -> Vec<ModuleReport> {
        generation.map(|generation| self.workloads.reports(generation)).unwrap_or_default()
    }

    /// The modules of a generation in figures.
    pub(super) fn figures(&self, generation: Option<u64>) -> Vec<ModuleFigures> {
        generation.map(|generation| self.workloads.figures(generation)).unwrap_or_default()
    }

    /// Starts a module of a generation anew. Gives what it was reported as before.
    ///
    /// # Errors
    /// There is no such module, or it is not to run any more.
    pub(super) fn restart(&self, generation: Option<u64>, module: &str) -> Result<ModuleReport, String> {
        let generation = generation.ok_or(NOTHING_RUNS)?;
        let before = self.workloads.reports(generation).into_iter().find(|report| report.name == module);
        self.workloads.restart(generation, module).map_err(|error| error.to_string())?;
        before.ok_or_else(|| format!("module {module:?} is gone"))
    }

    /// Has the next frame of a module of a generation recorded.
    ///
    /// # Errors
    /// There is no such module, or nothing is to be recorded of it.
    pub(super) fn capture(&self, generation: Option<u64>, module: &str) -> Result<(), String> {
        let generation = generation.ok_or(NOTHING_RUNS)?;
        self.workloads.capture(generation, module).map_err(|error| error.to_string())
    }

    /// Stops everything, at the end of the agent.
    pub(super) async fn stop_all(&mut self) {
        self.router.switch(Vec::new());
        for task in std::mem::take(&mut self.staging).into_values() {
            task.abort();
        }
        self.staged.clear();
        self.workloads.stop_all().await;
    }

    fn specs(&self, plan: &Plan) -> Vec<ModuleSpec> {
        let blob = |path: &str| {
            // A plan lists every path that its document names.
            plan.artifact(path).map(|artifact| Blob { sha256: artifact.sha256, length: artifact.length })
        };
        let spec = |module: &sanderling_protocol::deployment::Module| {
            let model = |(name, path): (&String, &String)| Some(Model { name: name.clone(), blob: blob(path)? });
            let models = module.models.iter().filter_map(model).collect();
            let ring_bytes = ring_bytes(module, self.sizes.window, |source| self.sizes.of(source));
            Some(ModuleSpec { wasm: blob(&module.module)?, module: module.clone(), models, ring_bytes })
        };
        plan.deployment.modules.iter().filter_map(spec).collect()
    }
}

/// Loads modules, one after the other: those that run have the processors meanwhile.
async fn load(workloads: &Workloads, specs: Vec<ModuleSpec>, staging: Staging) -> Result<Vec<Staged>, (String, Fault)> {
    let mut staged = Vec::new();
    for spec in specs {
        let failed = |fault| (spec.module.name.clone(), fault);
        match staging {
            Staging::Kept => staged.push(workloads.stage(&spec).await.map_err(failed)?),
            Staging::OneByOne => drop(workloads.dry_start(&spec).await.map_err(failed)?),
            Staging::Skipped => {}
        }
    }
    Ok(staged)
}

fn channels(plan: &Plan) -> Vec<(String, Channel)> {
    let of = |module: &sanderling_protocol::deployment::Module| {
        let name = module.name.clone();
        let named = move |(channel, policy): (&String, &Channel)| (data_channel(&name, channel), policy.clone());
        let through_outbox = module.channels.iter().filter(|(_, policy)| policy.sink.mqtt());
        through_outbox.map(named).collect::<Vec<_>>()
    };
    plan.deployment.modules.iter().flat_map(of).collect()
}

/// The outbox's name of a module's channel.
pub(super) fn data_channel(module: &str, channel: &str) -> String {
    format!("data/{module}/{channel}")
}
