//! A repository, a broker, a disk and workers in memory, around one device.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use sanderling_protocol::{
    blob::BlobIndex,
    digest::Digest,
    reported::{EventKind, Handover},
    topics::Published,
    tuf::Trusted,
    worker::{Fault, FaultCode},
};

use super::repository::Repository;
use crate::sync::{
    Backoff, BlobFault, Capacity, Config, Effect, Event, Limits, Message, Now, Plan, Report, Slots, Sync, SyncError,
};

/// The time at which all tests begin, Unix seconds.
pub(super) const START: i64 = 1_800_000_000;
pub(super) const EXPIRES: i64 = START + 1_000_000;

/// How modules behave, by the digest of the wasm file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    FailsDryStart,
    FailsStart,
    /// Runs, and faults when its first frame comes.
    FaultsOnFrames,
}

/// A blob that is being put together: its index, and the chunks that are there.
type Part = (Arc<BlobIndex>, BTreeMap<usize, Arc<[u8]>>);

#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    parts: BTreeMap<Digest, Part>,
    trust: BTreeMap<String, Vec<u8>>,
    pub(super) slots: Slots,
}

/// A device, with all that is around it.
pub(super) struct Device {
    pub(super) sync: Sync,
    pub(super) now: Now,
    pub(super) broker: BTreeMap<Published, Vec<u8>>,
    pub(super) link: bool,
    subscribed: BTreeSet<Published>,
    queue: VecDeque<Effect>,
    events: VecDeque<Event>,
    pub(super) disk: Disk,
    pub(super) free: u64,
    pub(super) generations: BTreeMap<u64, (Arc<Plan>, u64)>,
    pub(super) routed: Option<u64>,
    pub(super) told: Vec<EventKind>,
    pub(super) behaviours: BTreeMap<Digest, Behaviour>,
    pub(super) frames_come: bool,
    /// In which order a deployment can take the place of another here.
    pub(super) handover: Handover,
    /// Every chunk that was delivered.
    pub(super) pulled: Vec<Digest>,
    pub(super) errors: Vec<SyncError>,
    floors: [u64; 3],
}

fn config() -> Config {
    let backoff = Backoff { first_ms: 1000, longest_ms: 300_000 };
    Config {
        device: "gw-1".into(),
        labels: BTreeMap::new(),
        sensors: BTreeSet::from(["cam0".to_owned()]),
        reserve_bytes: 1000,
        limits: Limits { backoff, ..Limits::default() },
        seed: 7,
    }
}

impl Device {
    /// A device that was just flashed: the link is down.
    pub(super) fn new(repository: &Repository) -> Self {
        Self::boot(repository, Disk::default(), BTreeMap::new())
    }

    fn boot(repository: &Repository, disk: Disk, behaviours: BTreeMap<Digest, Behaviour>) -> Self {
        let restored = Trusted::restore(&repository.shipped_root(), &disk.trust).unwrap();
        let now = Now { ms: 5000, unix: START };
        let (sync, effects) = Sync::start(config(), restored.trusted, disk.slots.clone(), restored.refused, now);
        let mut device = Self {
            sync,
            now,
            broker: repository.retained.clone(),
            link: false,
            subscribed: BTreeSet::new(),
            queue: effects.into(),
            events: VecDeque::new(),
            disk,
            free: 1 << 30,
            generations: BTreeMap::new(),
            routed: None,
            told: Vec::new(),
            behaviours,
            frames_come: true,
            handover: Handover::MakeBeforeBreak,
            pulled: Vec::new(),
            errors: Vec::new(),
            floors: [0; 3],
        };
        device.run();
        device
    }

    /// Cuts the power and starts again; what is not on disk is gone.
    pub(super) fn reboot(self, repository: &Repository) -> Self {
        Self::boot(repository, self.disk, self.behaviours)
    }

    pub(super) fn up(&mut self) {
        self.link = true;
        self.handle(Event::LinkUp(Capacity::default()));
    }

    pub(super) fn down(&mut self) {
        self.link = false;
        self.subscribed.clear();
        self.events.retain(|event| !matches!(event, Event::Message(_)));
        self.handle(Event::LinkDown);
        self.subscribed.clear();
    }

    /// The broker takes what is published; subscribers get what is new.
    pub(super) fn publish(&mut self, repository: &Repository) {
        for (what, payload) in &repository.retained {
            self.retain(what.clone(), payload.clone());
        }
        self.run();
    }

    pub(super) fn retain(&mut self, what: Published, payload: Vec<u8>) {
        if self.broker.get(&what) != Some(&payload) {
            self.broker.insert(what.clone(), payload);
            if self.link && self.subscribed.contains(&what) {
                self.deliver(&what);
            }
        }
    }

    fn deliver(&mut self, what: &Published) {
        let Some(payload) = self.broker.get(what) else { return };
        if let Published::Chunk(digest) = what {
            self.pulled.push(*digest);
        }
        let message = Message { what: what.clone(), payload: Bytes::from(payload.clone()) };
        self.events.push_back(Event::Message(message));
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.events.push_back(event);
        self.run();
    }

    /// Lets everything happen that is to happen now.
    pub(super) fn run(&mut self) {
        while self.step() {}
    }

    /// Carries out one effect, or takes one event in.
    pub(super) fn step(&mut self) -> bool {
        if let Some(effect) = self.queue.pop_front() {
            self.carry_out(effect);
        } else if let Some(event) = self.events.pop_front() {
            match self.sync.handle(event, self.now) {
                Ok(effects) => self.queue.extend(effects),
                Err(error) => self.errors.push(error),
            }
        } else {
            return false;
        }
        self.check();
        true
    }

    /// Lets time pass, with every tick that is due.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.ms + ms;
        for _ in 0..100_000 {
            self.run();
            match self.sync.wake_at() {
                Some(at) if at <= end => self.set_time(at.max(self.now.ms)),
                _ => {
                    self.set_time(end);
                    return;
                }
            }
            self.handle(Event::Tick);
        }
        panic!("it never comes to rest");
    }

    fn set_time(&mut self, ms: u64) {
        self.now = Now { ms, unix: START + i64::try_from(ms / 1000).unwrap() };
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Subscribe(topics) => {
                for what in topics {
                    if self.link {
                        self.subscribed.insert(what.clone());
                        self.deliver(&what);
                    }
                }
            }
            Effect::Unsubscribe(topics) => topics.iter().for_each(|what| {
                self.subscribed.remove(what);
            }),
            Effect::PersistTrust(files) => self.disk.trust = files.into_iter().collect(),
            Effect::PersistSlots(slots) => self.disk.slots = *slots,
            Effect::Survey { number, blobs } => {
                let held = blobs.into_iter().filter(|digest| self.disk.blobs.contains_key(digest)).collect();
                self.events.push_back(Event::Surveyed { number, held, taken: 0, free: self.free });
            }
            Effect::Begin { digest, index } => self.begin(digest, index),
            Effect::Write { blob, index, chunk, content } => {
                assert_eq!(Digest::of(&content), chunk, "only what matches its digest is written");
                let part = self.disk.parts.get_mut(&blob);
                let result = part.map(|(_, chunks)| drop(chunks.insert(index, content)));
                let result = result.ok_or_else(|| BlobFault::Disk("not begun".into()));
                self.events.push_back(Event::Wrote { blob, index, chunk, result });
            }
            Effect::Finish { digest } => {
                let (_, chunks) = self.disk.parts.remove(&digest).unwrap();
                let whole: Vec<u8> = chunks.values().flat_map(|chunk| chunk.iter().copied()).collect();
                let right = Digest::of(&whole) == digest;
                let result = if right { Ok(()) } else { Err(BlobFault::Corrupt("the whole is wrong".into())) };
                if right {
                    self.disk.blobs.insert(digest, whole);
                }
                self.events.push_back(Event::Finished { digest, result });
            }
            Effect::ReadDocument { digest } => {
                let content = self.disk.blobs.get(&digest).cloned().ok_or(BlobFault::Disk("absent".into()));
                self.events.push_back(Event::Document { digest, content });
            }
            Effect::Collect { keep } => {
                self.disk.blobs.retain(|digest, _| keep.contains(digest));
                self.disk.parts.retain(|digest, _| keep.contains(digest));
            }
            Effect::Tell(what) => self.told.push(what),
            effect => self.work(effect),
        }
    }

    fn begin(&mut self, digest: Digest, index: Arc<BlobIndex>) {
        let (_, chunks) = self.disk.parts.entry(digest).or_insert_with(|| (index.clone(), BTreeMap::new()));
        let missing = (0..index.chunks().len()).filter(|at| !chunks.contains_key(at)).collect();
        self.events.push_back(Event::Begun { digest, missing: Ok(missing) });
    }

    fn work(&mut self, effect: Effect) {
        match effect {
            Effect::Stage { generation, plan } => {
                let event = if !self.whole(&plan) {
                    Event::Damaged { generation }
                } else if self.behaves(&plan, Behaviour::FailsDryStart) {
                    Event::StageFailed { generation, module: "m".into(), fault: fault() }
                } else {
                    Event::Staged { generation, handover: self.handover.clone() }
                };
                self.events.push_back(event);
            }
            Effect::Start { generation, plan } => {
                self.generations.insert(generation, (plan.clone(), self.now.ms));
                if !self.whole(&plan) {
                    self.generations.remove(&generation);
                    self.events.push_back(Event::Damaged { generation });
                    return;
                }
                let failing = self.behaves(&plan, Behaviour::FailsStart);
                for module in plan.deployment.modules.iter().map(|module| module.name.clone()) {
                    self.events.push_back(if failing {
                        Event::Faulted { generation, module, fault: fault() }
                    } else {
                        Event::Running { generation, module }
                    });
                }
            }
            Effect::Route { generation } => {
                self.routed = generation;
                let routed = generation.and_then(|generation| self.generations.get(&generation));
                let faulty = routed.is_some_and(|(plan, _)| self.behaves(plan, Behaviour::FaultsOnFrames));
                if let Some(generation) = generation.filter(|_| faulty && self.frames_come) {
                    self.events.push_back(Event::Faulted { generation, module: "m".into(), fault: fault() });
                }
            }
            Effect::Withdraw { generation, modules } => {
                if let Some((plan, _)) = self.generations.get_mut(&generation) {
                    *plan = Arc::new(plan.without(&modules));
                }
            }
            Effect::Stop { generation } => {
                self.generations.remove(&generation);
            }
            Effect::Count { generation } => {
                let Some((plan, since)) = self.generations.get(&generation) else { return };
                let frames = if self.frames_come { (self.now.ms - since) / 100 } else { 0 };
                let frames = plan.deployment.modules.iter().map(|module| (module.name.clone(), frames)).collect();
                self.events.push_back(Event::Counted { generation, frames });
            }
            other => panic!("{other:?} is not work"),
        }
    }

    fn whole(&self, plan: &Plan) -> bool {
        plan.slot.artifacts.iter().all(|artifact| {
            self.disk.blobs.get(&artifact.sha256).is_some_and(|content| Digest::of(content) == artifact.sha256)
        })
    }

    fn behaves(&self, plan: &Plan, behaviour: Behaviour) -> bool {
        plan.slot.artifacts.iter().any(|artifact| self.behaviours.get(&artifact.sha256) == Some(&behaviour))
    }

    /// What must hold after every single step.
    fn check(&mut self) {
        let metadata = self.report().metadata;
        let versions = [metadata.root, metadata.timestamp, metadata.snapshot];
        for (version, floor) in versions.iter().zip(&self.floors) {
            assert!(version >= floor, "a version fell: {versions:?} below {:?}", self.floors);
        }
        self.floors = versions;
        if self.queue.is_empty() && self.disk.slots.committed.is_some() {
            assert!(self.sync.generation().is_some(), "something is committed, and nothing is active");
        }
        for (plan, _) in self.generations.values() {
            assert!(plan.blobs().len() <= self.disk.blobs.len(), "a generation runs without its blobs");
        }
    }

    pub(super) fn report(&self) -> Report {
        self.sync.report(self.now.unix)
    }

    /// The name of the deployment that gets frames.
    pub(super) fn runs(&self) -> Option<&str> {
        let (plan, _) = self.generations.get(&self.routed?)?;
        Some(&plan.slot.name)
    }

    pub(super) fn committed(&self) -> Option<&str> {
        self.disk.slots.committed.as_ref().map(|slot| slot.name.as_str())
    }

    pub(super) fn refusals(&self) -> Vec<(String, String)> {
        self.report().refused.into_iter().map(|refused| (refused.what, refused.why)).collect()
    }
}

fn fault() -> Fault {
    Fault::new(FaultCode::Trap, "unreachable")
}
