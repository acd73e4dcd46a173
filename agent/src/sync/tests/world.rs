//! A repository, a broker, a disk and workers in memory, around one device.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::{NonZeroU32, NonZeroU64},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use ring::rand::SystemRandom;
use sanderling_protocol::{
    blob::{self, BlobIndex, encode_chunk},
    digest::Digest,
    reported::EventKind,
    topics::Published,
    tuf::{
        MetaFile, TargetFile, Trusted,
        author::{
            Delegate, KeyKind, KeyPair, RoleKeys, RootKeys, Sealed, Signer as _, delegations, root, sign, snapshot,
            target, targets, timestamp,
        },
    },
    worker::{Fault, FaultCode},
};
use serde_json::{Value, json};

use crate::sync::{
    Backoff, BlobFault, Config, Effect, Event, Limits, Message, Now, Plan, Report, Slots, Sync, SyncError,
};

/// The time at which all tests begin, Unix seconds.
pub(super) const START: i64 = 1_800_000_000;
pub(super) const EXPIRES: i64 = START + 1_000_000;

static KEYS: LazyLock<[KeyPair; 3]> = LazyLock::new(|| {
    let random = SystemRandom::new();
    std::array::from_fn(|_| KeyPair::generate(KeyKind::Ed25519, &random).unwrap())
});
const ROOT: usize = 0;
const RELEASES: usize = 1;
const DEPLOYMENTS: usize = 2;

fn keys(of: usize) -> RoleKeys {
    RoleKeys { keys: vec![KEYS[of].key()], threshold: NonZeroU32::MIN }
}

/// What an operator publishes.
#[derive(Clone, Default)]
pub(super) struct Repository {
    pub(super) root: u64,
    version: u64,
    releases: BTreeMap<String, TargetFile>,
    deployments: BTreeMap<String, TargetFile>,
    pub(super) retained: BTreeMap<Published, Vec<u8>>,
}

impl Repository {
    pub(super) fn new() -> Self {
        let mut repository = Self::default();
        repository.rotate_root();
        repository
    }

    /// Publishes a root of the next version. Its keys stay.
    pub(super) fn rotate_root(&mut self) -> Vec<u8> {
        self.root += 1;
        let all = RootKeys { root: keys(ROOT), timestamp: keys(ROOT), snapshot: keys(ROOT), targets: keys(ROOT) };
        let bytes = sign(&root(sealed(self.root), all).unwrap(), &[&KEYS[ROOT]]).unwrap();
        self.retained.insert(meta(self.root, "root"), bytes.clone());
        bytes
    }

    pub(super) fn shipped_root(&self) -> Vec<u8> {
        self.retained[&meta(1, "root")].clone()
    }

    fn blob(&mut self, content: &[u8]) {
        let (index, chunks) = blob::cut(content).unwrap();
        self.retained.insert(Published::Index(Digest::of(content)), index.encode());
        for chunk in chunks {
            self.retained.insert(Published::Chunk(Digest::of(chunk)), encode_chunk(chunk));
        }
    }

    pub(super) fn module(&mut self, path: &str, content: &[u8]) {
        let custom = json!({ "sanderling": { "kind": "module", "abi": 1,
            "ceiling": { "grants": ["emit:*"], "memory_mib": 32, "deadline_ms": 1000 } } });
        self.releases.insert(path.into(), target(content, Some(custom)));
        self.blob(content);
    }

    pub(super) fn withdraw_module(&mut self, path: &str) {
        self.releases.remove(path);
    }

    /// Adds a deployment of one module for all devices.
    pub(super) fn deploy(&mut self, name: &str, module: &str) {
        self.deploy_document(name, &document(name, module, json!({})));
    }

    pub(super) fn deploy_document(&mut self, name: &str, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let custom = json!({ "sanderling": { "kind": "deployment", "percent": 100, "salt": "s" } });
        self.deployments.clear();
        self.deployments.insert(format!("deployments/{name}.json"), target(&bytes, Some(custom)));
        self.blob(&bytes);
        Digest::of(&bytes)
    }

    pub(super) fn withdraw_deployments(&mut self) {
        self.deployments.clear();
    }

    /// Signs all and publishes it under the next version.
    pub(super) fn publish(&mut self) {
        self.version += 1;
        let version = self.version;
        let role = |name: &str, of, pattern: &[&str]| Delegate {
            name: name.into(),
            keys: keys(of),
            paths: pattern.iter().map(|pattern| (*pattern).to_owned()).collect(),
            terminating: true,
        };
        let delegated = delegations(vec![
            role("releases", RELEASES, &["modules/*", "modules/*/*", "models/*"]),
            role("deployments", DEPLOYMENTS, &["deployments/*"]),
        ]);
        let top = targets(sealed(version), BTreeMap::new(), Some(delegated.unwrap()));
        let releases = targets(sealed(version), self.releases.clone(), None);
        let deployments = targets(sealed(version), self.deployments.clone(), None);
        let files =
            [("targets", ROOT, top), ("releases", RELEASES, releases), ("deployments", DEPLOYMENTS, deployments)];
        let mut listed = BTreeMap::new();
        for (name, of, metadata) in files {
            let bytes = sign(&metadata, &[&KEYS[of]]).unwrap();
            listed.insert(name.to_owned(), MetaFile::of(NonZeroU64::new(version).unwrap(), &bytes));
            self.retained.insert(meta(version, name), bytes);
        }
        let snapshot = sign(&snapshot(sealed(version), listed), &[&KEYS[ROOT]]).unwrap();
        let listed = MetaFile::of(NonZeroU64::new(version).unwrap(), &snapshot);
        self.retained.insert(meta(version, "snapshot"), snapshot);
        let timestamp = sign(&timestamp(sealed(version), listed), &[&KEYS[ROOT]]).unwrap();
        self.retained.insert(Published::Timestamp, timestamp);
    }
}

fn sealed(version: u64) -> Sealed {
    Sealed { version: NonZeroU64::new(version).unwrap(), expires: EXPIRES }
}

pub(super) fn meta(version: u64, role: &str) -> Published {
    Published::Metadata { version, role: role.into() }
}

pub(super) fn document(name: &str, module: &str, config: Value) -> Value {
    json!({ "schema": "sanderling.deployment/1", "name": name, "modules": [ {
        "name": "m", "module": module, "input": [ { "sensor": "cam0" } ], "config": config,
        "probation": { "frames": 20, "seconds": 10 } } ] })
}

/// Content that is not compressed away.
pub(super) fn content(seed: u8, length: usize) -> Vec<u8> {
    let blocks = (0_u32..).flat_map(|at| *Digest::of(&[&[seed][..], &at.to_be_bytes()].concat()).as_bytes());
    blocks.take(length).collect()
}

/// How modules behave, by the digest of the wasm file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    FailsDryStart,
    FailsStart,
    /// Runs, and faults when its first frame comes.
    FaultsOnFrames,
}

#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    parts: BTreeMap<Digest, (Arc<BlobIndex>, BTreeMap<usize, Arc<[u8]>>)>,
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
        self.handle(Event::LinkUp);
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
            Effect::Survey { blobs } => {
                let held = blobs.into_iter().filter(|digest| self.disk.blobs.contains_key(digest)).collect();
                self.events.push_back(Event::Surveyed { held, free: self.free });
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
                    Event::Staged { generation }
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
