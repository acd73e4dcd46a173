//! Carries out what [`crate::sync`] decides about modules: dry starts, generations, and who gets the frames.
//!
//! Invariants: a worker is given files that were hashed in this run of the agent, opened anew for each start. What is stopped
//! while its blobs are still being opened is never started.

use std::{cell::RefCell, collections::BTreeMap, fs::File, io, os::fd::AsRawFd, rc::Rc, sync::Arc};

use sanderling_protocol::{
    deployment::Channel,
    digest::Digest,
    reported::ModuleReport,
    worker::{Blob, Model},
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::keeper::Purpose;
use crate::{
    router::Router,
    sync::{Event, Plan},
    workload::{self, ModuleSpec, Workloads, ring_bytes},
};

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

/// The modules of all generations.
pub(super) struct Works {
    workloads: Rc<Workloads>,
    router: Rc<Router>,
    shelf: Rc<Shelf>,
    /// How large the frames of a sensor are at most, in bytes.
    largest: BTreeMap<String, usize>,
    opening: BTreeMap<u64, Purpose>,
    dry: BTreeMap<u64, JoinHandle<()>>,
    plans: BTreeMap<u64, Arc<Plan>>,
    started: BTreeMap<u64, Purpose>,
    routed: Option<u64>,
    answers: mpsc::UnboundedSender<Event>,
}

impl Works {
    /// Nothing runs. The outcomes of dry starts go to `answers`.
    pub(super) fn new(
        workloads: Rc<Workloads>,
        router: Rc<Router>,
        shelf: Rc<Shelf>,
        largest: BTreeMap<String, usize>,
        answers: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            workloads,
            router,
            shelf,
            largest,
            opening: BTreeMap::new(),
            dry: BTreeMap::new(),
            plans: BTreeMap::new(),
            started: BTreeMap::new(),
            routed: None,
            answers,
        }
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

    /// Its blobs are open. Gives the policies of its channels where it is started now.
    pub(super) fn opened(
        &mut self,
        generation: u64,
        plan: Arc<Plan>,
        files: Vec<(Digest, File)>,
    ) -> Vec<(String, Channel)> {
        let Some(purpose) = self.opening.remove(&generation) else { return Vec::new() };
        self.shelf.put(files);
        let specs = self.specs(&plan);
        let channels = channels(&plan);
        self.plans.insert(generation, plan);
        self.started.insert(generation, purpose);
        match purpose {
            Purpose::Stage => {
                self.dry_start(generation, specs);
                Vec::new()
            }
            Purpose::Start => {
                if let Err(error) = self.workloads.start(generation, specs) {
                    tracing::error!(%error, "a generation was not started");
                }
                self.route_now();
                channels
            }
        }
    }

    fn dry_start(&mut self, generation: u64, specs: Vec<ModuleSpec>) {
        let (workloads, answers) = (self.workloads.clone(), self.answers.clone());
        let task = tokio::task::spawn_local(async move {
            let mut outcome = Event::Staged { generation };
            for spec in specs {
                if let Err(fault) = workloads.dry_start(&spec).await {
                    outcome = Event::StageFailed { generation, module: spec.module.name, fault };
                    break;
                }
            }
            // The driver is gone only when the agent ends.
            let _ = answers.send(outcome);
        });
        self.dry.insert(generation, task);
    }

    /// A dry start is over.
    pub(super) fn staged(&mut self, generation: u64) {
        self.dry.remove(&generation);
        self.forget(generation);
    }

    /// Gives the frames to a generation, as soon as it is started, or to none.
    pub(super) fn route(&mut self, generation: Option<u64>) {
        self.routed = generation;
        if generation.is_none() {
            self.router.switch(Vec::new());
        }
        self.route_now();
    }

    fn route_now(&self) {
        if let Some(generation) = self.routed.filter(|generation| self.started.contains_key(generation)) {
            self.router.switch(self.workloads.inlets(generation));
        }
    }

    /// Stops a generation or a dry start.
    pub(super) fn stop(&mut self, generation: u64) {
        self.opening.remove(&generation);
        if let Some(task) = self.dry.remove(&generation) {
            task.abort();
        }
        if self.started.get(&generation) == Some(&Purpose::Start) {
            let workloads = self.workloads.clone();
            tokio::task::spawn_local(async move { workloads.stop(generation).await });
        }
        self.forget(generation);
    }

    fn forget(&mut self, generation: u64) {
        self.started.remove(&generation);
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

    /// Stops everything, at the end of the agent.
    pub(super) async fn stop_all(&mut self) {
        self.router.switch(Vec::new());
        for task in std::mem::take(&mut self.dry).into_values() {
            task.abort();
        }
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
            let largest = |sensor: &str| self.largest.get(sensor).copied().unwrap_or(0);
            let ring_bytes = ring_bytes(module, largest);
            Some(ModuleSpec { wasm: blob(&module.module)?, module: module.clone(), models, ring_bytes })
        };
        plan.deployment.modules.iter().filter_map(spec).collect()
    }
}

fn channels(plan: &Plan) -> Vec<(String, Channel)> {
    let of = |module: &sanderling_protocol::deployment::Module| {
        let name = module.name.clone();
        let named = move |(channel, policy): (&String, &Channel)| (data_channel(&name, channel), *policy);
        module.channels.iter().map(named).collect::<Vec<_>>()
    };
    plan.deployment.modules.iter().flat_map(of).collect()
}

/// The outbox's name of a module's channel.
pub(super) fn data_channel(module: &str, channel: &str) -> String {
    format!("data/{module}/{channel}")
}
